-- depends: 0010.passkeys

ALTER TABLE account_events
    ADD COLUMN device text; -- null: an operator's event, or recorded by the version before
