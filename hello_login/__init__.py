"""A login application, alone or as a part of another one."""

import logging
import os
from typing import Any

from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError

from . import settings
from .auth.ceremonies import make_relying_party
from .auth.passwords import Passwords
from .auth.totp import SecretBox
from .db import migrations
from .server.reloading import stop_reloader_on_exit

log = logging.getLogger(__name__)


def main(global_config: dict[str, str], **ini: str) -> Any:
    """Make the WSGI application (the entry point `paste.app_factory`).

    global_config: the section [DEFAULT], and http_port=N from the command line.
    ini: the section [app:main].
    Raises SystemExit with a sentence for each wrong setting.
    """
    with Configurator(settings={**global_config, **ini}) as config:
        config.include("hello_login")
        return config.make_wsgi_app()


@stop_reloader_on_exit
def includeme(config: Any) -> None:
    """Add all of the application to a Configurator, for config.include("hello_login").

    The Configurator's settings must have those of [app:main] and [DEFAULT].
    Raises SystemExit with a sentence for each wrong setting, or ConfigurationError.
    """
    if config.route_prefix:
        raise ConfigurationError("hello_login takes no route_prefix: include it without one.")
    ini = config.registry.settings
    checked = settings.load(ini, ini, os.environ)
    log.setLevel(checked.log_level)
    if checked.secure_cookies and checked.mail_url is None:
        log.warning("No mail is sent: set MAIL_URL, MAIL_FROM and SITE_URL, or else MAIL_URL=none")
    if not checked.offers_passkeys:
        log.warning("No passkeys can be used: set SITE_URL to https://HOST, where HOST is a name")
    config.registry.hello_login = checked
    config.registry.passwords = Passwords(checked)
    config.registry.totp_secrets = SecretBox(checked.secret_keys, "totp")
    config.registry.totp_setup = SecretBox(checked.secret_keys, "totp set-up")
    config.registry.relying_party = make_relying_party(checked)
    config.registry.database_url = checked.database_url or prepare_development(checked)
    config.registry.metrics = None
    if checked.metrics_token:
        config.include(".web.metrics")  # prometheus_client is imported only then
    config.include("pyramid_jinja2")
    config.include(".db.transactions")
    config.include(".mail")
    config.include(".web.tweens")
    config.include(".web.hosts")
    config.include(".web.security")
    config.include(".web.routes")
    config.include(".web.views")
    if checked.embedded_postgres and (checked.mail_url or "").startswith("file:"):
        config.include(".dev.mailbox")


def prepare_development(checked: settings.Settings) -> str:
    """Start the development database, migrate it, and return its URL."""
    from .dev.database import ensure_database  # production never imports it

    url = ensure_database(checked)
    applied = migrations.migrate(url, *checked.migrations)
    log.info("Migrated the development database: %s migrations applied", len(list(applied)))
    return url
