"""Fixtures: Ada's session, and a clock that stands still."""

import pytest

from hello_login.repositories.sessions import Session
from tests.functional.authenticator import Clock
from tests.visitor import Visitor


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock."""
    return Clock(monkeypatch)


@pytest.fixture
def session(visitor: Visitor) -> Session:
    """Return a session of Ada's account."""
    return visitor.begin_session(visitor.register_ada())
