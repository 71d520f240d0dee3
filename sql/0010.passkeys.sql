-- depends: 0009.second_factor

CREATE TABLE passkeys (
    id           bytea       PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 1023), -- the credential id
    user_id      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    public_key   bytea       NOT NULL,                   -- in COSE, as the authenticator gave it
    sign_count   bigint      NOT NULL,                   -- 0 if the authenticator does not count
    name         text        NOT NULL,
    may_sync     boolean     NOT NULL,                   -- never changes (backup eligibility)
    synced       boolean     NOT NULL,                   -- to other devices (backup state)
    transports   text[]      NOT NULL,                   -- how browsers reach the authenticator
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz
);

CREATE INDEX passkeys_user_id_idx ON passkeys (user_id);

CREATE TABLE used_challenges (
    id         bytea       PRIMARY KEY CHECK (length(id) = 32), -- SHA-256 of the challenge
    expires_at timestamptz NOT NULL
);

CREATE INDEX used_challenges_expires_at_idx ON used_challenges (expires_at);

ALTER TABLE users
    ADD COLUMN handle              uuid,        -- the account's name in authenticators, from the page that adds one
    ADD COLUMN factors_changed_at  timestamptz, -- null: with the app in totp, if there is one
    ADD COLUMN told_of_failure_at  timestamptz, -- of the second step; totp.told_at is for the version before
    ADD COLUMN passkey_declined_at timestamptz; -- when the owner wanted no more offers of a passkey
