DROP INDEX account_events_failed_idx;
DROP TABLE half_logins;
DROP TABLE recovery_codes;
DROP TABLE totp;
