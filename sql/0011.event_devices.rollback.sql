ALTER TABLE account_events
    DROP COLUMN device;
