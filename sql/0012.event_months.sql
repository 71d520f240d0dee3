-- depends: 0011.event_devices

-- While it waits for a lock, logins wait behind it.  So it fails after a second; it can run again.
SET LOCAL lock_timeout = '1s';

-- In the order in which a login locks them.  ATTACH PARTITION needs this lock of users in the end:
-- after a weaker one, this would wait for a login that has read a row and waits for this.
LOCK TABLE users;
LOCK TABLE account_events;

ALTER TABLE account_events
    ALTER COLUMN id DROP IDENTITY; -- a partition has none of its own

ALTER TABLE account_events RENAME TO account_events_before;
ALTER INDEX account_events_pkey RENAME TO account_events_before_pkey;
ALTER INDEX account_events_user_id_idx RENAME TO account_events_before_user_id_idx;
ALTER INDEX account_events_failed_idx RENAME TO account_events_before_failed_idx;

-- The months to come have neither of these: only versions before need them, for old events.
ALTER INDEX account_events_happened_at_idx RENAME TO account_events_before_happened_at_idx;
ALTER INDEX account_events_failures_idx RENAME TO account_events_before_failures_idx;

CREATE TABLE account_events (
    id          bigint      GENERATED ALWAYS AS IDENTITY, -- each partition has PRIMARY KEY (id)
    happened_at timestamptz NOT NULL DEFAULT now(),
    event       text        NOT NULL,
    user_id     bigint      REFERENCES users ON DELETE CASCADE,
    fingerprint text,
    address     inet,
    request_id  text,
    device      text
) PARTITION BY RANGE (happened_at);

CREATE INDEX account_events_user_id_idx ON account_events (user_id, happened_at, id);
CREATE INDEX account_events_failed_idx ON account_events (user_id, happened_at, id)
    WHERE event IN ('login_failed', 'check_failed', 'second_failed',
                    'login_throttled', 'check_throttled');

CREATE TABLE account_events_default PARTITION OF account_events (PRIMARY KEY (id)) DEFAULT;

-- The partition of this month has everything before, too.
DO $$
DECLARE
    this_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    name       text      := to_char(this_month, '"account_events_"YYYY_MM');
BEGIN
    PERFORM setval('account_events_id_seq', coalesce(max(id), 0) + 1, false)
       FROM account_events_before;
    EXECUTE format('ALTER TABLE account_events_before RENAME TO %I', name);
    EXECUTE format('ALTER TABLE account_events ATTACH PARTITION %I'
                   ' FOR VALUES FROM (MINVALUE) TO (%L)',
                   name, (this_month + interval '1 month') AT TIME ZONE 'UTC');
END
$$;

CREATE FUNCTION prepare_event_months(retention interval) RETURNS void
    LANGUAGE plpgsql
    SET lock_timeout = '100ms' -- logins wait behind it
AS $$
DECLARE
    this_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    month      timestamp;
    starts_at  timestamptz;
    ends_at    timestamptz;
    name       text;
    created    boolean := false;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('prepare_event_months')) THEN
        RETURN; -- another connection does the same
    END IF;
    FOR month IN
        SELECT generate_series(this_month, this_month + interval '2 months', '1 month')
    LOOP
        name := to_char(month, '"account_events_"YYYY_MM');
        starts_at := month AT TIME ZONE 'UTC';
        ends_at := (month + interval '1 month') AT TIME ZONE 'UTC';
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        -- In the order in which a login locks them.  With a weaker lock of users, a login that has
        -- added an event to the default partition could wait for this one.
        LOCK TABLE users;
        LOCK TABLE ONLY account_events IN SHARE UPDATE EXCLUSIVE MODE;
        LOCK TABLE account_events_default;
        EXECUTE format('CREATE TABLE %I (LIKE account_events, PRIMARY KEY (id))', name);
        EXECUTE format('WITH late AS (DELETE FROM account_events_default'
                       ' WHERE happened_at >= %L AND happened_at < %L RETURNING *)'
                       ' INSERT INTO %I SELECT * FROM late',
                       starts_at, ends_at, name);
        EXECUTE format('ALTER TABLE account_events ATTACH PARTITION %I'
                       ' FOR VALUES FROM (%L) TO (%L)', name, starts_at, ends_at);
        created := true;
    END LOOP;
    IF created THEN
        RETURN; -- DROP TABLE locks in another order: the next call, on another day, does it
    END IF;
    FOR name IN
        SELECT relname
          FROM pg_inherits
          JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent = 'account_events'::regclass
           AND relname ~ '\d$'
           AND relname < to_char((now() - retention) AT TIME ZONE 'UTC', '"account_events_"YYYY_MM')
    LOOP
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
END
$$;

DO $$
BEGIN
    PERFORM prepare_event_months(interval '90 days'); -- a SELECT would print its row
END
$$;
