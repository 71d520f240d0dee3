"""The routes: every URL of the site."""

import hashlib
import re
from pathlib import Path
from typing import Any

from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.static import static_view


def _hash_files(folder: Path) -> str:
    content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    return hashlib.sha256(content).hexdigest()[:12]


FILES = Path(__file__).parent / "static"
STATIC = f"static/{_hash_files(FILES)}"
"""The path of the static files.  It changes with them, so browsers may cache them for a year."""

YEAR = 365 * 24 * 60 * 60  # seconds


def includeme(config: Any) -> None:
    """Add the routes and the static files."""
    config.add_route("greeting", "/")
    config.add_route("register", "/register")
    config.add_route("login", "/login")
    config.add_route("second_step", "/login/second")
    config.add_route("logout", "/logout")
    config.add_route("account", "/account")
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
    config.add_route("change_password_hint", "/.well-known/change-password")
    config.add_route("healthz", "/healthz")
    config.add_route("readyz", "/readyz")
    # Only these names match: Pyramid would keep every other requested path in memory.
    names = "|".join(re.escape(path.name) for path in sorted(FILES.iterdir()))
    config.add_route("static", f"/{STATIC}/{{subpath:{names}}}")
    files = static_view("hello_login.web:static", cache_max_age=YEAR, use_subpath=True)
    config.add_view(files, route_name="static", permission=NO_PERMISSION_REQUIRED)
