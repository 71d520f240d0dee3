"""Mail: the messages, the sender, and the ways to deliver a message."""

from typing import Any

from ..settings import Settings
from .sender import Sender


def includeme(config: Any) -> None:
    """Add registry.mail_sender, or None if MAIL_URL is unset or none."""
    settings: Settings = config.registry.hello_login
    config.registry.mail_sender = None
    if settings.sends_mail:
        config.registry.mail_sender = Sender(config.registry.pool, settings)
