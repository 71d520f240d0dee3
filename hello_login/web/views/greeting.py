"""The view of the home page, which greets people and programs."""

from typing import Any

from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from . import HTML, JSON, negotiate_media_type

GREETING = "Hello World, Little Dude, How Are You?"


@view_config(route_name="greeting", renderer="json", permission=NO_PERMISSION_REQUIRED)
def greet(request: Any) -> Any:
    """Return the greeting as a page to browsers, and as JSON to other clients."""
    request.response.vary = ["Accept"]
    if negotiate_media_type(request, JSON, HTML) == HTML:
        request.override_renderer = "hello_login.web:templates/home.jinja2"
        return {"greeting": GREETING}
    return {"answer": GREETING}
