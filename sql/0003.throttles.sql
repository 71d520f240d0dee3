-- depends: 0002.sessions

CREATE TABLE throttles (
    key           bytea       PRIMARY KEY CHECK (length(key) = 32), -- HMAC-SHA-256 of what is limited
    failures      integer     NOT NULL DEFAULT 0,
    blocked_until timestamptz NOT NULL DEFAULT 'epoch',
    forget_at     timestamptz NOT NULL DEFAULT now() + interval '1 hour'
);

CREATE INDEX throttles_forget_at_idx ON throttles (forget_at);
