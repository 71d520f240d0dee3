ALTER TABLE users
    DROP COLUMN passkey_declined_at,
    DROP COLUMN told_of_failure_at,
    DROP COLUMN factors_changed_at,
    DROP COLUMN handle;

DROP TABLE used_challenges;
DROP TABLE passkeys;
