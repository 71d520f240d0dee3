"""The console scripts, which the operator runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import plaster
import psycopg2
from psycopg2.extensions import connection as Connection

from .. import ini_files, logs, settings
from ..auth.audit import Actor
from ..auth.clients import Client
from ..repositories.events import Event


def open_config(config_uri: str) -> tuple[settings.Settings, str]:
    """Set up logging, and return the settings and the URL of the database.

    Raises SystemExit with a sentence for each mistake in the .ini file and the environment.
    """
    config_uri = ini_files.find(config_uri)
    checked = settings.read(config_uri)
    plaster.setup_logging(config_uri)
    if checked.database_url is not None:
        return checked, checked.database_url
    from ..dev.database import ensure_database  # production never imports it

    return checked, ensure_database(checked)


@contextmanager
def as_operator(db: Connection, checked: settings.Settings) -> Iterator[Actor]:
    """Yield an actor for an operator's program; then commit, and log its events.

    Raises SystemExit with a sentence when the outcome of the commit is unknown.
    """
    happened: list[Event] = []
    yield Actor(db, Client(), happened.append, checked.sends_mail)
    try:
        db.commit()
    except psycopg2.OperationalError:
        raise SystemExit(
            "The connection was lost during the commit: check whether it was done before you try "
            "again."
        ) from None
    for event in happened:
        logs.log_security_event(event)
