"""A stand-in for a pooler, which lets connections share sessions."""

import os

from psycopg2.extensions import connection as Connection


def swap_sessions(one: Connection, other: Connection) -> None:
    """Give each connection the other's session, as a pooler does between transactions."""
    kept = os.dup(one.fileno())
    os.dup2(other.fileno(), one.fileno())
    os.dup2(kept, other.fileno())
    os.close(kept)
