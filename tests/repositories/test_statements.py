"""Statements of repositories, prepared or not."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from psycopg2.extensions import connection as Connection

from hello_login import repositories
from hello_login.db.batching import BatchingConnection
from hello_login.db.connections import ConnectionPool
from hello_login.repositories import users
from tests.rows import execute

PREPARED = "SELECT name, statement FROM pg_prepared_statements WHERE from_sql"


@pytest.fixture
def pair(url: str) -> Iterator[tuple[BatchingConnection, BatchingConnection]]:
    """Yield two connections of a pool."""
    pool = ConnectionPool(url)
    with closing(pool.acquire()) as one, closing(pool.acquire()) as other:
        yield one, other


def test_a_name_stands_for_the_same_statement_on_every_connection(
    pair: tuple[BatchingConnection, BatchingConnection],
) -> None:
    one, other = pair
    users.lock(one, 0)
    users.delete(other, 0)
    users.lock(other, 0)
    ((name, text),) = execute(one, PREPARED)
    prepared = dict(execute(other, PREPARED))
    assert len(prepared) == 2
    assert prepared[name] == text


def test_a_statement_has_its_parameters_in_one_order_on_every_connection(
    pair: tuple[BatchingConnection, BatchingConnection],
) -> None:
    one, other = pair
    statement = "SELECT %(first)s::text AS first, %(second)s::text AS second"
    values = {"first": "a", "second": "b"}
    assert repositories.fetch(one, statement, values) == [("a", "b")]
    assert repositories.fetch(other, statement, dict(reversed(values.items()))) == [("a", "b")]
    assert execute(one, PREPARED) == execute(other, PREPARED)


@pytest.mark.parametrize("pooled", [True, False])
def test_no_statement_is_prepared_where_sessions_are_shared_or_outside_the_pool(
    url: str, database: Connection, *, pooled: bool
) -> None:
    db = ConnectionPool(url, prepares=False).acquire() if pooled else database
    users.lock(db, 0)
    assert repositories.fetch(db, "SELECT %(one)s || '%%' AS one", {"one": "a"}) == [("a%",)]
    assert execute(db, PREPARED) == []
    db.close()
