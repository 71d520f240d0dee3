"""The view of the home page, which greets people and programs."""

from typing import Any

from pyramid.renderers import render_to_response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from . import HTML, JSON, negotiate_media_type

GREETING = "Hello World, Little Dude, How Are You?"


@view_config(route_name="greeting", permission=NO_PERMISSION_REQUIRED)
def greet(request: Any) -> Any:
    """Return the greeting as a page to browsers, and as JSON to other clients."""
    request.response.vary = ["Accept"]
    if negotiate_media_type(request, JSON, HTML) == HTML:
        return render_to_response(
            "hello_login.web:templates/home.jinja2",
            {"greeting": GREETING},
            request,
            response=request.response,
        )
    return render_to_response("json", {"answer": GREETING}, request, response=request.response)
