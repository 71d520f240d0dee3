ALTER TABLE users
    DROP COLUMN confirmed_at;

DROP TABLE mails;
DROP TABLE tokens;
