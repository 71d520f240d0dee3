"""A connection that sends several statements in one round trip.

A round trip takes as long as the network does.  Most statements that write return no rows, so they
can wait for the next statement that returns some.
"""

from typing import Any

from psycopg2.errors import FeatureNotSupported, ReadOnlySqlTransaction
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .standbys import watch

BEGIN = b"BEGIN"


class BatchingConnection(Connection):
    """A connection in autocommit mode, with statements that wait to be sent with the next one.

    The statement that they are sent with raises their errors.
    begin(), commit() and rollback() are for transactions of several round trips.
    prepared: the EXECUTE of each prepared statement, or None if the session prepares none.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waiting: list[bytes] = []
        self._dsn = arguments[0]  # self.dsn lacks the password
        self.prepared: dict[str, str] | None = {}
        watch.start()

    def open_cursor(self, **options: Any) -> Any:
        """Return a cursor for send()."""
        return super().cursor(**options)

    def send(self, cursor: Cursor, statement: bytes) -> None:
        """Execute the waiting statements and this one.  The cursor then has the rows of this one.

        Without begin(), they are one transaction.
        """
        statements, self.waiting = [*self.waiting, statement], []
        try:
            with watch.limited(self, self._dsn):
                cursor.execute(b"; ".join(statements))
        except (FeatureNotSupported, ReadOnlySqlTransaction):
            # A migration has changed the type of a column that a statement returns, or the server
            # is no longer the primary.  A new connection helps in both cases.
            self.close()
            raise

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """Execute the waiting statements, and return a cursor that sees their effects.

        It does not wait for statements that come later.
        """
        self._send_waiting()
        return super().cursor(*arguments, **options)

    def flush(self) -> None:
        """Execute the waiting statements, unless they would only begin a transaction."""
        if self.waiting != [BEGIN]:
            self._send_waiting()

    def begin(self) -> None:
        """Begin a transaction with the next statement."""
        self.waiting.append(BEGIN)

    def commit(self) -> None:
        """Execute the waiting statements, and commit the transaction, if it has begun."""
        self.flush()
        self._end(b"COMMIT")

    def rollback(self) -> None:
        """Drop the waiting statements, and roll the transaction back, if it has begun."""
        self._end(b"ROLLBACK")

    def _send_waiting(self) -> None:
        if self.waiting:
            with self.open_cursor() as cursor:
                self.send(cursor, self.waiting.pop())

    def _end(self, command: bytes) -> None:
        self.waiting = []
        if self.info.transaction_status != TRANSACTION_STATUS_IDLE:
            with self.open_cursor() as cursor, watch.limited(self, self._dsn):
                cursor.execute(command)
