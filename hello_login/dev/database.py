"""The development database, used when DATABASE_URL is unset."""

import logging
from pathlib import Path
from typing import cast

from ..settings import Settings
from .embedded import EmbeddedPostgres

log = logging.getLogger(__name__)


def ensure_database(settings: Settings) -> str:
    """Start the embedded PostgreSQL unless it is running, and return its database's URL.

    Raises SystemExit with a sentence when it can't be started.
    """
    # settings.load() requires embedded_postgres if there is no database_url.
    server = EmbeddedPostgres(cast(Path, settings.embedded_postgres))
    url = server.start()
    log.info("DATABASE_URL is unset: using embedded PostgreSQL with its data in %s", server.data)
    return url
