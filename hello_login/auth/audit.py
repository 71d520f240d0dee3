"""The audit trail: events in the table account_events, and lines in the security log.

In names of stored events, "check" means re-authentication, and "throttled" means rate limited.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import psycopg2
from psycopg2.extensions import connection as Connection

from ..repositories import events, mails
from .clients import Client

RETENTION = timedelta(days=90)
"""Events are shown for this time.  They are deleted with their month, when all of it is older."""

NO_USER = 0
"""An id that no account has, so events.insert() adds no row."""


@dataclass(frozen=True)
class Actor:
    """A client and its transaction, with the audit trail of both."""

    db: Connection
    client: Client
    log_after_commit: Callable[[events.Event], None]
    """Writes an event to the security log if the transaction is committed."""

    sends_mail: bool = False
    """MAIL_URL is set, so accounts are notified by mail."""

    def record(self, name: str, user_id: int | None, fingerprint: str | None = None) -> None:
        """Add an event of the account to account_events, and log it after the commit.

        user_id: None for an unknown address.  No row is added then, but the same statements run:
        their number must not tell whether the address has an account (ASVS 5.0, 6.3.8).
        fingerprint: the session's.
        """
        event = make_event(self.client, name, user_id, fingerprint)
        events.insert(self.db, event if user_id is not None else event._replace(user_id=NO_USER))
        self.log_after_commit(event)

    def notify(self, kind: str, user_id: int, recipient: str | None = None) -> None:
        """Queue a mail to the account's address, to be sent after the commit.

        recipient: another address.
        """
        if self.sends_mail:
            address = self.client.address or (self.client.request_id and "unknown")
            facts = {"from_address": address, "device": self.client.device}
            mails.insert_notice(self.db, kind, user_id, recipient, **facts)


def make_event(
    client: Client, name: str, user_id: int | None = None, fingerprint: str | None = None
) -> events.Event:
    """Return an event that the client causes; write nothing."""
    # An operator's program sends no request, so its client has none of these.
    device = client.device if client.address or client.request_id else None
    return events.Event(name, user_id, fingerprint, client.address, client.request_id, device)


def prepare_months(db: Connection) -> str | None:
    """Add the partitions of the coming months to account_events, and drop those that are too old.

    db: a connection in autocommit mode.
    Returns a sentence if that failed and next month has no partition.  While it has one, a failure
    is not reported: there will be other tries.
    """
    try:
        events.prepare_months(db, RETENTION)
    except psycopg2.Error as error:
        if not events.has_next_month(db):
            reason = str(error).partition("\n")[0]
            return (
                f"The events of next month have no partition: {reason}: run initialize_db as the "
                "owner of the tables, while no other program locks them."
            )
    return None
