"""For whoever runs the service: does it live, can it work."""

from typing import Any

import psycopg2
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from .. import migrations


@view_config(route_name="healthz", renderer="json", permission=NO_PERMISSION_REQUIRED)
def is_alive(_request: Any) -> Any:
    """The process answers; it asks nobody else."""
    return {"status": "ok"}


@view_config(route_name="readyz", renderer="json", permission=NO_PERMISSION_REQUIRED)
def is_ready(request: Any) -> Any:
    """The database answers and has every migration; otherwise 503, naming which does not hold."""
    wanted = migrations.names(request.registry.hello_login.migrations)
    try:
        missing = migrations.missing(request.db, wanted)
    except psycopg2.OperationalError:
        request.tm.doom()  # or pyramid_tm would commit on a connection that is broken
        request.response.status_int = 503
        return {"status": "unavailable", "database": "unreachable"}
    if missing:
        request.response.status_int = 503
        return {"status": "unavailable", "database": "ok", "schema": "out of date"}
    return {"status": "ok", "database": "ok", "schema": "up to date"}
