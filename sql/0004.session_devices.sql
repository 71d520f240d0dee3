-- depends: 0003.throttles

ALTER TABLE sessions
    ADD COLUMN authenticated_at timestamptz NOT NULL DEFAULT now(), -- when the password was last asked for
    ADD COLUMN remembered       boolean     NOT NULL DEFAULT false, -- the browser keeps it when it is closed
    ADD COLUMN address          inet,
    ADD COLUMN device           text        NOT NULL DEFAULT 'Unknown device';

UPDATE sessions
   SET authenticated_at = created_at,
       remembered = idle_limit > interval '1 day';

CREATE INDEX sessions_expires_at_idx ON sessions (expires_at);
