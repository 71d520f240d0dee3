-- depends: 0008.mail

CREATE TABLE totp (
    user_id     bigint      PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    secret      bytea       NOT NULL,               -- encrypted with a key derived from SECRET_KEY
    last_step   bigint      NOT NULL,               -- the step of the last code that was used
    hinted_step bigint      NOT NULL DEFAULT 0,     -- the step of a code that was right for another time
    told_at     timestamptz NOT NULL DEFAULT '-infinity', -- when the owner was last told of a wrong code
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE recovery_codes (
    id      bytea  PRIMARY KEY CHECK (length(id) = 32), -- SHA-256 of the user's id and the code
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE
);

CREATE INDEX recovery_codes_user_id_idx ON recovery_codes (user_id);

CREATE TABLE half_logins (
    id         bytea       PRIMARY KEY CHECK (length(id) = 32), -- SHA-256 of the token in the cookie
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    remembered boolean     NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX half_logins_user_id_idx ON half_logins (user_id);
CREATE INDEX half_logins_expires_at_idx ON half_logins (expires_at);

-- A wrong code is a failed attempt, too.  Only the version before needs account_events_failures_idx.
CREATE INDEX account_events_failed_idx ON account_events (user_id, happened_at, id)
    WHERE event IN ('login_failed', 'check_failed', 'second_failed',
                    'login_throttled', 'check_throttled');
