"""Mail: the messages, the sender, and the transports."""

from typing import Any

from ..settings import Settings
from .sender import Sender


def includeme(config: Any) -> None:
    """Add registry.mail_sender, or None if MAIL_URL is unset or none."""
    settings: Settings = config.registry.hello_login
    pool = config.registry.pool
    config.registry.mail_sender = Sender(pool, settings) if settings.sends_mail else None
