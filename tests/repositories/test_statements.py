"""Prepared statements, where a pooler lets connections share sessions."""

from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2.errors import InvalidSqlStatementName
from psycopg2.extensions import connection as Connection

from hello_login import repositories
from hello_login.repositories import users
from tests.pooler import swap_sessions


@pytest.fixture
def pair(url: str) -> Iterator[tuple[Connection, Connection]]:
    """Return two connections that commit each statement."""
    connections = psycopg2.connect(url), psycopg2.connect(url)
    for each in connections:
        each.autocommit = True
    yield connections
    for each in connections:
        each.close()


def test_a_statement_prepared_by_another_connection_is_never_executed(
    pair: tuple[Connection, Connection],
) -> None:
    one, other = pair
    users.lock(one, 0)
    users.delete(other, 0)
    user_id = users.insert(other, email="ada@example.com", name="Ada", password_hash="a hash")
    assert user_id is not None
    swap_sessions(one, other)
    with pytest.raises(InvalidSqlStatementName):
        users.lock(one, user_id)
    assert users.get_by_id(one, user_id) is not None


def test_a_statement_has_its_parameters_in_one_order_on_every_connection(
    pair: tuple[Connection, Connection],
) -> None:
    one, other = pair
    statement = "SELECT %(first)s::text AS first, %(second)s::text AS second"
    repositories.fetch(one, statement, {"first": "a", "second": "b"})
    repositories.fetch(other, statement, {"second": "b", "first": "a"})
    swap_sessions(one, other)
    assert repositories.fetch(one, statement, {"first": "a", "second": "b"}) == [("a", "b")]
