"""What the operator runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import connection as Connection

from .. import logs
from ..accounts import Accounts
from ..clients import Client
from ..passwords import Passwords
from ..repositories.events import Event
from ..settings import Settings
from ..throttling import Throttle


@contextmanager
def as_operator(db: Connection, settings: Settings) -> Iterator[Accounts]:
    """The accounts, for a program that the operator runs; commits at the end."""
    happened: list[Event] = []
    yield Accounts(db, settings, Passwords(settings), Throttle(settings), Client(), happened.append)
    db.commit()
    for event in happened:
        logs.write(event)
