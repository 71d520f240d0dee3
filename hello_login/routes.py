"""Every URL there is."""

from typing import Any


def includeme(config: Any) -> None:
    """Add the routes, and the static files."""
    config.add_route("greeting", "/")
    config.add_route("register", "/register")
    config.add_route("login", "/login")
    config.add_route("logout", "/logout")
    config.add_route("account", "/account")
    config.add_route("change_profile", "/account/profile")
    config.add_route("change_password", "/account/password")
    config.add_route("end_sessions", "/account/sessions/end")
    config.add_route("delete_account", "/account/delete")
    config.add_route("healthz", "/healthz")
    config.add_route("readyz", "/readyz")
    config.add_static_view("static", "hello_login:static", cache_max_age=3600)
