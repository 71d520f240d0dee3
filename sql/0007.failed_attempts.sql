-- depends: 0006.deactivated_users

-- The account page lists failed attempts apart from all other events, however many there are.
CREATE INDEX account_events_failures_idx ON account_events (user_id, happened_at, id)
    WHERE event IN ('login_failed', 'check_failed', 'login_throttled', 'check_throttled');
