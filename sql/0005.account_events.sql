-- depends: 0004.session_devices

CREATE TABLE account_events (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    happened_at timestamptz NOT NULL DEFAULT now(),
    event       text        NOT NULL,
    user_id     bigint      REFERENCES users ON DELETE CASCADE, -- none once the account is deleted
    fingerprint text,                                           -- of the session
    address     inet,
    request_id  text
);

CREATE INDEX account_events_user_id_idx ON account_events (user_id, happened_at, id);
CREATE INDEX account_events_happened_at_idx ON account_events (happened_at);
