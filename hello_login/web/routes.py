"""The routes: every URL of the site."""

import hashlib
import re
from pathlib import Path
from typing import Any

from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.static import static_view


def _list_files(folder: Path) -> dict[str, Path]:
    """Return the files of the folder by name, without hidden ones."""
    return {path.name: path for path in sorted(folder.glob("[!.]*")) if path.is_file()}


def _name_folder(files: dict[str, Path]) -> str:
    """Return the path that the static files have in URLs.

    It changes with their content, so browsers may cache them for a year.
    """
    content = b"".join(path.read_bytes() for path in files.values())
    return f"static/{hashlib.sha256(content).hexdigest()[:12]}"


FILES = _list_files(Path(__file__).parent / "static")
STATIC = _name_folder(FILES)
"""The path of the package's static files in URLs, if none is overridden."""

YEAR = 365 * 24 * 60 * 60  # seconds

COMPRESSED_TYPES = ("text/", "application/javascript", "image/svg+xml")
"""Beginnings of content types.  A photo gets no smaller, and 2 MB take 40 ms of a processor."""


def includeme(config: Any) -> None:
    """Add the routes, the static files and request.path_to()."""
    config.add_route("greeting", "/")
    config.add_route("register", "/register")
    config.add_route("login", "/login")
    config.add_route("second_step", "/login/second")
    config.add_route("logout", "/logout")
    config.add_route("account", "/account")
    config.add_route("activity", "/account/activity")
    config.add_route("change_profile", "/account/profile")
    config.add_route("change_password", "/account/password")
    config.add_route("end_sessions", "/account/sessions/end")
    config.add_route("delete_account", "/account/delete")
    config.add_route("confirm", "/account/confirm")
    config.add_route("totp", "/account/totp")
    config.add_route("remove_totp", "/account/totp/remove")
    config.add_route("passkeys", "/account/passkeys")
    config.add_route("add_passkey", "/account/passkeys/add")
    config.add_route("decline_passkey", "/account/passkeys/decline")
    config.add_route("rename_passkey", "/account/passkeys/{passkey}/name")
    config.add_route("remove_passkey", "/account/passkeys/{passkey}/remove")
    config.add_route("recovery_codes", "/account/recovery-codes")
    config.add_route("confirm_address", "/account/confirm-address")
    config.add_route("forgot", "/forgot")
    config.add_route("link", "/link/{token}")
    config.add_route("check_password", "/password-check")
    config.add_route("change_password_hint", "/.well-known/change-password")
    config.add_route("favicon", "/favicon.ico")
    config.add_route("robots", "/robots.txt")
    config.add_route("healthz", "/healthz")
    config.add_route("readyz", "/readyz")
    if config.registry.hello_login.metrics_token:
        config.add_route("metrics", "/metrics")
    files = {**FILES, **_override(config)}
    # Only these names match: Pyramid would keep every other requested path in memory.
    names = "|".join(map(re.escape, files))
    config.add_route("static", f"/{_name_folder(files)}/{{subpath:{names}}}")
    view = _compress(static_view("hello_login.web:static", cache_max_age=YEAR, use_subpath=True))
    config.add_view(view, route_name="static", permission=NO_PERMISSION_REQUIRED)
    paths: dict[str, str] = {}

    def path_to(request: Any, name: str) -> str:
        """Return the path of a static file, or of a route without placeholders.

        Each is computed once.
        """
        if name not in paths:
            subpath = {"subpath": name} if name in files else {}
            route = "static" if subpath else name
            paths[name] = request.route_url(route, **subpath, _app_url="")
        return f"{request.script_name}{paths[name]}"

    config.add_request_method(path_to)


def _override(config: Any) -> dict[str, Path]:
    """Let the folders of the setting `overrides` replace templates and static files of the package.

    Returns the overriding static files by name.
    """
    overrides = config.registry.hello_login.overrides
    if overrides is None:
        return {}
    templates, static = overrides / "templates", overrides / "static"
    if templates.is_dir():
        config.override_asset("hello_login.web:templates/", f"{templates}/")
    if not static.is_dir():
        return {}
    config.override_asset("hello_login.web:static/", f"{static}/")
    return _list_files(static)


def _compress(view: Any) -> Any:
    """Return a view that compresses the view's texts for clients that accept gzip.

    Pages are not compressed: their length would tell an attacker parts of the secrets on a page
    that also shows a text of the attacker (BREACH).  Static files hold neither.
    """

    def compressing(context: Any, request: Any) -> Any:
        response = view(context, request)
        if not response.content_type.startswith(COMPRESSED_TYPES):
            return response
        response.vary = ["Accept-Encoding"]
        # Without the header, WebOb takes every encoding for accepted.
        accepted = request.accept_encoding.acceptable_offers(["gzip"])
        if accepted and "Accept-Encoding" in request.headers and response.status_int == 200:
            _ = response.body  # reads the file, and closes it
            response.encode_content()
        return response

    return compressing
