"""/dev/mailbox: the mails that were written to the folder of MAIL_URL, for development only."""

import email
import re
from email.policy import default
from pathlib import Path
from typing import Any

from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

NEWEST = 50
"""Mails on the page."""


def includeme(config: Any) -> None:
    """Add the route and the view."""
    config.add_route("mailbox", "/dev/mailbox")
    config.scan(__name__)


@view_config(
    route_name="mailbox",
    renderer="hello_login.dev:mailbox.jinja2",
    permission=NO_PERMISSION_REQUIRED,
)
def show_mailbox(request: Any) -> Any:
    """Show the newest mails, with links."""
    folder = Path(request.registry.hello_login.mail_url.removeprefix("file:"))
    files = sorted(folder.glob("*.eml"), reverse=True)[:NEWEST]
    return {"mails": [_read(file) for file in files]}


def _read(file: Path) -> dict[str, Any]:
    """Return the headers of a mail, and its text as pairs of text and link."""
    message = email.message_from_bytes(file.read_bytes(), policy=default)
    text = message.get_content()
    parts = re.split(r"(https?://\S+)", text)
    return {"to": message["To"], "subject": message["Subject"], "parts": parts}
