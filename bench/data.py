"""The initial data of the databases."""

import hashlib
from pathlib import Path

import psycopg2
from argon2 import PasswordHasher

from hello_login.db import migrations
from hello_login.settings import Settings

PASSWORD = "correct horse battery staple"  # noqa: S105
"""The password of every account."""

HASHER = PasswordHasher(
    memory_cost=Settings.argon2_memory_kib,
    time_cost=Settings.argon2_passes,
    parallelism=Settings.argon2_lanes,
)
"""argon2id with the costs of hello_login's settings."""

SESSIONS = 3
"""The number of sessions of each account."""

STATEMENTS = [
    """
    INSERT INTO users (email, name, password_hash, created_at, last_login_at)
    SELECT 'user' || n || '@example.com', 'User ' || n, %(hash)s,
           now() - interval '100 days', now() - interval '1 day'
      FROM generate_series(1, %(users)s) AS n
    """,
    """
    INSERT INTO sessions (id, user_id, idle_limit, expires_at, address, device)
    SELECT sha256(('session-' || id || '-' || k)::bytea), id, interval '14 days',
           now() + interval '30 days', '192.0.2.1', 'Firefox on Linux'
      FROM users, generate_series(1, %(sessions)s) AS k
    """,
    """
    INSERT INTO account_events (event, user_id, happened_at, address)
    SELECT CASE k WHEN 0 THEN 'registered' ELSE 'logged_in' END, id,
           now() - interval '4 hours' + k * interval '1 hour', '192.0.2.1'
      FROM users, generate_series(0, %(sessions)s) AS k
    """,
]


def session_id(user: int, number: int) -> bytes:
    """Return the id of one of the user's sessions; number: from 1 to SESSIONS."""
    return hashlib.sha256(f"session-{user}-{number}".encode()).digest()


def fill(url: str, migration_files: Path, users: int) -> None:
    """Migrate an empty database, and add this number of accounts with sessions and events."""
    list(migrations.migrate(url, migration_files))
    values = {"users": users, "sessions": SESSIONS, "hash": HASHER.hash(PASSWORD)}
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in STATEMENTS:
            cursor.execute(statement, values)
        cursor.execute("VACUUM ANALYZE")
        # Otherwise the checkpoint would disturb a measurement.
        cursor.execute("CHECKPOINT")
    connection.close()
