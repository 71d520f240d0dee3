"""Mail: the messages, the sender, and the ways to deliver a message."""

from typing import Any

from ..settings import Settings
from .sender import Sender
from .transports import make_transport


def includeme(config: Any) -> None:
    """Add registry.mail_sender, or None if MAIL_URL is unset or none."""
    settings: Settings = config.registry.hello_login
    config.registry.mail_sender = None
    if settings.sends_mail:
        config.registry.mail_sender = Sender(
            config.registry.pool,
            make_transport(str(settings.mail_url)),
            site_url=str(settings.site_url),
            site_name=settings.site_name,
            takes_registrations=settings.registration == "open",
            mail_from=str(settings.mail_from),
            key=settings.secret_keys[0].encode(),
        )
