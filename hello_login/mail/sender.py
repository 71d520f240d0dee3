"""Sends the mails that wait in the table mails, in a thread of each serving process.

A mail is claimed and its next try is put off in one statement.  Then its link's token is issued,
the message is delivered, and the row is deleted.  A process that is killed in between leaves the
row, so the mail is sent at the next try.  So a mail is sent at least once, and rarely twice.
"""

import logging
import threading
from datetime import timedelta
from email.message import EmailMessage
from smtplib import SMTPException, SMTPNotSupportedError, SMTPRecipientsRefused
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from ..auth import links, rate_limits
from ..db.connections import ConnectionPool
from ..repositories import mails, users
from ..repositories.mails import Mail
from ..settings import Settings
from .messages import compose
from .transports import make_transport

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""The time between two looks at the table, unless a commit of this process wakes the sender."""

WAITS = [
    *(timedelta(minutes=minutes) for minutes in (1, 3, 6, 15, 30)),
    *(timedelta(hours=hours) for hours in (1, 2, 4, 8, 8)),
]
"""The time after each try until the next one: about a day in all."""

TRIES = len(WAITS) + 1

REQUESTED_TRIES = 6
"""The tries of a mail that the recipient asked for and waits for: within an hour."""

REQUESTED = {"register", "forgot", "change", "confirm"}
"""The kinds of mails that the recipient, or somebody else, asked for on a page."""

PURPOSES = {
    "register": "register",
    "forgot": "reset",
    "change": "change",
    "confirm": "change",
    "address_changed": "undo",
}
"""The purposes of the links in mails of these kinds."""

TAKEN = {"register": "registered_already", "change": "address_wanted", "confirm": "address_wanted"}
"""The templates of mails to an address that has an account already."""

GIVEN_UP_KEPT = timedelta(days=30)
"""Mails that were given up are deleted after this time."""


class Sender:
    """Sends mails.  start(), stop() and join() are for its thread; send_due() is one round."""

    def __init__(self, pool: ConnectionPool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._deliver = make_transport(str(settings.mail_url))
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mail", daemon=True)

    def start(self) -> None:
        """Start the thread: in the process that serves, since a fork has no threads."""
        self._thread.start()

    def wake(self) -> None:
        """Let the thread look at the table now."""
        self._wake.set()

    def stop(self) -> None:
        """Let the thread end after the mail that it is sending; return at once."""
        self._stopping = True
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, at most this long."""
        self._thread.join(seconds)

    def _run(self) -> None:
        failing = False
        while not self._stopping:
            try:
                self.send_due()
                failing = False
            except Exception as error:  # The next round may succeed.
                if not failing:  # One line for an outage is enough.
                    log.warning("Can't read the mails that wait: %s", _describe_outage(error))
                failing = True
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def send_due(self) -> int:
        """Send every mail whose time has come, and return the number of tries.

        Also delete a few of the mails that were given up long ago.
        """
        with self._pool.autocommit() as db:
            mails.delete_given_up(db, GIVEN_UP_KEPT)
        tries = 0
        while not self._stopping and self._send_one():
            tries += 1
        return tries

    def _send_one(self) -> bool:
        """Claim a mail and send it; return False if none is due.

        No connection is held while the message is delivered, which may take long.
        """
        with self._pool.autocommit() as db:
            mail = mails.claim(db, WAITS)
        if mail is None:
            return False
        try:
            with self._pool.autocommit() as db:
                message = self._compose(db, mail)
            if message is not None:
                self._deliver(message)
        except Exception as error:  # One bad mail must not stop the others.
            self._put_off_or_give_up(mail, error)
            return True
        with self._pool.autocommit() as db:
            mails.delete(db, mail.id)
        if message is not None:
            log.info("mail_sent", extra=_fields(mail))
        return True

    def _put_off_or_give_up(self, mail: Mail, error: Exception) -> None:
        reason = _describe(error)
        if mail.tries < (REQUESTED_TRIES if mail.kind in REQUESTED else TRIES):
            log.warning("mail_delayed", extra=_fields(mail, reason=reason))
            return
        with self._pool.autocommit() as db:
            mails.give_up(db, mail.id)
        log.error("mail_failed", extra=_fields(mail, reason=reason))

    def _compose(self, db: Connection, mail: Mail) -> EmailMessage | None:
        """Return the message of a mail, or None if there is nothing to send.

        The link's token is issued here, so that the database never has it.
        """
        # It may have waited since registration was open.
        if mail.kind == "register" and self._settings.registration == "closed":
            return None
        if mail.kind in REQUESTED and not self._admit(db, mail):
            log.info("mail_rate_limited", extra=_fields(mail))
            return None
        template, recipient, user_id = mail.kind, mail.recipient, mail.user_id
        purpose, facts = PURPOSES.get(mail.kind), dict(mail.facts)
        if mail.kind in REQUESTED:
            owner = users.get_by_email(db, mail.recipient)
            # The owner's mailbox may differ from the address that was typed: lower() in PostgreSQL
            # takes some letters for the same.
            if mail.kind == "forgot":
                if owner is None or owner.deactivated_at is not None:
                    return None
                template, recipient, user_id = "reset", owner.email, owner.id
            elif owner is not None and owner.id != mail.user_id:
                template, recipient, purpose = TAKEN[mail.kind], owner.email, None
                facts["deactivated"] = owner.deactivated_at is not None
        if purpose not in (None, "register") and user_id is None:
            return None
        link = None
        if purpose is not None:
            token = links.issue_for_mail(db, mail.id, purpose, recipient, user_id)
            if token is None:
                return None
            link = f"{self._settings.site_url}/link/{token}"
        return compose(
            template,
            sender=str(self._settings.mail_from),
            recipient=recipient,
            site=self._settings.site_url,
            site_name=self._settings.site_name,
            link=link,
            created_at=mail.created_at,
            **facts,
        )

    def _admit(self, db: Connection, mail: Mail) -> bool:
        """Count a mail to the address; return False if there were too many.

        The sender counts it: the work of a request must not tell whether an address is known.
        """
        if mail.tries > 1:
            return True
        key = self._settings.secret_keys[0].encode()
        limit = rate_limits.mail_limit(key, mail.kind, mail.recipient)
        return not rate_limits.count_failure(db, [limit])


def _describe(error: Exception) -> str:
    """Return the kind of an error, for the log.

    It has none of the server's words, which may repeat the message, its link and the recipient.
    """
    if type(error) in (SMTPException, SMTPNotSupportedError):
        return str(error)  # smtplib's own words
    code = getattr(error, "smtp_code", "")
    if isinstance(error, SMTPRecipientsRefused):
        ((code, _),) = error.recipients.values()
    return f"{type(error).__name__} {code}".strip()


def _describe_outage(error: Exception) -> str:
    return str(error).partition("\n")[0] if isinstance(error, psycopg2.Error) else _describe(error)


def _fields(mail: Mail, **more: str) -> dict[str, Any]:
    """Return the fields of a log line.  The address is not among them: the log has none."""
    return {"fields": {"mail": mail.id, "kind": mail.kind, "tries": mail.tries, **more}}
