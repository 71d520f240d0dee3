-- depends: 0012.event_months

-- PostgreSQL's own thresholds are a fifth (vacuum) and a tenth (analyze) of a table, so they grow with it.
-- docs/scaling.md has the figures.  No request waits for these locks (SHARE UPDATE EXCLUSIVE).
ALTER TABLE users SET (
    fillfactor = 95, -- leaves room in each page for updates of last_login_at
    autovacuum_vacuum_scale_factor = 0.005,
    autovacuum_vacuum_threshold = 1000
);

ALTER TABLE sessions SET (
    fillfactor = 95, -- leaves room for updates of last_seen_at
    autovacuum_vacuum_scale_factor = 0.005,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.005,
    autovacuum_analyze_threshold = 1000
);

ALTER TABLE throttles SET (
    fillfactor = 95, -- leaves room for updates of failures
    autovacuum_vacuum_scale_factor = 0.005,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.005,
    autovacuum_analyze_threshold = 1000
);
