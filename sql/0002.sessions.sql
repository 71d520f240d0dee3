-- depends: 0001.users

CREATE TABLE sessions (
    id           bytea       PRIMARY KEY CHECK (length(id) = 32), -- SHA-256 of the token in the cookie
    user_id      bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    idle_limit   interval    NOT NULL,
    expires_at   timestamptz NOT NULL
);

CREATE INDEX sessions_user_id_idx ON sessions (user_id);
