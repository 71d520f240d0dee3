-- depends: 0007.failed_attempts

CREATE TABLE tokens (
    id         bytea       PRIMARY KEY CHECK (length(id) = 32), -- SHA-256 of the token in the link
    purpose    text        NOT NULL,
    user_id    bigint      REFERENCES users ON DELETE CASCADE,  -- none for a registration
    address    text        NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX tokens_user_id_idx ON tokens (user_id);
CREATE INDEX tokens_expires_at_idx ON tokens (expires_at);

CREATE TABLE mails (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text        NOT NULL,
    recipient  text        NOT NULL,
    user_id    bigint      REFERENCES users ON DELETE CASCADE,
    facts      jsonb       NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    try_at     timestamptz NOT NULL DEFAULT now(),              -- infinity once it was given up
    tries      integer     NOT NULL DEFAULT 0
);

CREATE INDEX mails_try_at_idx ON mails (try_at, id);
CREATE INDEX mails_user_id_idx ON mails (user_id);

ALTER TABLE users
    ADD COLUMN confirmed_at timestamptz; -- when a link in a mail to the address was used
