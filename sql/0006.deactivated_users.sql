-- depends: 0005.account_events

ALTER TABLE users
    ADD COLUMN deactivated_at timestamptz;
