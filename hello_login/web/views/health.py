"""Health endpoints for operators: /healthz (liveness) and /readyz (readiness)."""

from typing import Any

import psycopg2
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from ...db import connections, migrations, standbys


@view_config(route_name="healthz", renderer="json", permission=NO_PERMISSION_REQUIRED)
def is_alive(_request: Any) -> Any:
    """Return 200 without asking the database."""
    return {"status": "ok"}


@view_config(route_name="readyz", renderer="json", permission=NO_PERMISSION_REQUIRED)
def is_ready(request: Any) -> Any:
    """Return 200 if the database commits and has all migrations, else 503 with the failure."""
    wanted = migrations.names(*request.registry.hello_login.migrations)
    try:
        connections.check_writable(request.db)
        commits_wait = standbys.commits_wait(request.db)
        missing = migrations.missing(request.db, wanted)
    except psycopg2.OperationalError as error:
        request.tm.doom()  # Otherwise pyramid_tm would commit on the broken connection.
        request.response.status_int = 503
        read_only = isinstance(error, connections.ReadOnly)
        return {"status": "unavailable", "database": "read-only" if read_only else "unreachable"}
    if commits_wait:
        request.response.status_int = 503
        return {"status": "unavailable", "database": "commits wait for a standby"}
    if missing:
        request.response.status_int = 503
        return {"status": "unavailable", "database": "ok", "schema": "out of date"}
    return {"status": "ok", "database": "ok", "schema": "up to date"}
