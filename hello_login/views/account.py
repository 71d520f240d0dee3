"""The person's own account."""

from datetime import timezone
from typing import Any

from pyramid.view import view_config


@view_config(route_name="account", renderer="account.jinja2")
def show(request: Any) -> Any:
    """Who you are."""
    return {"user": request.identity, "utc": timezone.utc}
