-- In the order in which a login locks them.  Nothing may be added or deleted during the copy.
LOCK TABLE users;
LOCK TABLE account_events;

DROP FUNCTION prepare_event_months;

CREATE TABLE account_events_of_all_months (LIKE account_events INCLUDING DEFAULTS);
INSERT INTO account_events_of_all_months
SELECT *
  FROM account_events;
DROP TABLE account_events;

ALTER TABLE account_events_of_all_months RENAME TO account_events;
ALTER TABLE account_events
    ADD PRIMARY KEY (id),
    ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE,
    ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;

CREATE INDEX account_events_user_id_idx ON account_events (user_id, happened_at, id);
CREATE INDEX account_events_happened_at_idx ON account_events (happened_at);
CREATE INDEX account_events_failures_idx ON account_events (user_id, happened_at, id)
    WHERE event IN ('login_failed', 'check_failed', 'login_throttled', 'check_throttled');
CREATE INDEX account_events_failed_idx ON account_events (user_id, happened_at, id)
    WHERE event IN ('login_failed', 'check_failed', 'second_failed',
                    'login_throttled', 'check_throttled');

DO $$
BEGIN
    PERFORM setval('account_events_id_seq', coalesce(max(id), 0) + 1, false)
       FROM account_events;
END
$$;
