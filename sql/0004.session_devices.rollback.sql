DROP INDEX sessions_expires_at_idx;

ALTER TABLE sessions
    DROP COLUMN authenticated_at,
    DROP COLUMN remembered,
    DROP COLUMN address,
    DROP COLUMN device;
