"""The views of files that browsers and search engines look for at fixed URLs."""

from typing import Any

from pyramid.asset import abspath_from_asset_spec
from pyramid.response import FileResponse
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

DAY = 24 * 60 * 60  # seconds


@view_config(route_name="favicon", permission=NO_PERMISSION_REQUIRED)
def show_icon(request: Any) -> Any:
    """Return the icon, for browsers that do not read its URL in the page."""
    return _respond_with(request, "icon.svg", "image/svg+xml")


@view_config(route_name="robots", permission=NO_PERMISSION_REQUIRED)
def show_robots(request: Any) -> Any:
    """Return the paths that search engines should not request (RFC 9309)."""
    return _respond_with(request, "robots.txt", "text/plain")


def _respond_with(request: Any, name: str, content_type: str) -> Any:
    path = abspath_from_asset_spec(f"hello_login.web:static/{name}")
    return FileResponse(path, request, cache_max_age=DAY, content_type=content_type)
