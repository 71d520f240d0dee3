"""A client of the auth layer, for tests that need no HTTP."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection

from hello_login.auth import accounts, login, sessions
from hello_login.auth.audit import Actor
from hello_login.auth.login import AuthenticationFailed
from hello_login.auth.passwords import Passwords
from hello_login.auth.rate_limits import RateLimited, RateLimiter
from hello_login.auth.sessions import IssuedSession
from hello_login.auth.totp import SecretBox
from hello_login.repositories import users
from hello_login.repositories.sessions import Session
from hello_login.repositories.users import User
from tests.people import EMAIL, PASSWORD


@dataclass
class Visitor:
    """Calls the auth layer as the views do, on one connection."""

    actor: Actor
    passwords: Passwords
    secret_key: str

    @property
    def db(self) -> Connection:
        return self.actor.db

    @property
    def rate_limiter(self) -> RateLimiter:
        """Return the rate limits of a new request."""
        return RateLimiter(
            self.secret_key.encode(),
            self.actor.client,
            self.actor.log_after_commit,
            lambda: nullcontext(self.db),
            counted=set(),
        )

    def register(self, *, name: str, email: str, password: str) -> int:
        return accounts.register(
            self.actor, self.passwords, name=name, email=email, password=password
        )

    def register_ada(self, password: str = PASSWORD) -> int:
        return self.register(name="Ada", email=EMAIL, password=password)

    def user(self) -> User:
        """Return Ada's account."""
        found = users.get_by_email(self.db, EMAIL)
        assert found is not None
        return found

    def authenticate(self, *, email: str, password: str) -> int:
        attempt = self.rate_limiter.admit_login(email)
        account = login.authenticate(self.actor, self.passwords, attempt, password)
        return account.credentials.user_id

    def can_log_in(self, password: str) -> bool:
        """Return whether the password is Ada's; a rate limit does not count as a wrong one."""
        try:
            return self.authenticate(email=EMAIL, password=password) > 0
        except RateLimited:
            return True
        except AuthenticationFailed:
            return False

    def reauthenticate(self, session: Session, password: str) -> None:
        attempt = self.rate_limiter.admit_reauthentication(session)
        box = SecretBox([self.secret_key], "totp")
        login.reauthenticate(self.actor, self.passwords, attempt, password, box=box)

    def complete_login(self, user_id: int, *, remembered: bool = False) -> IssuedSession:
        account = users.lock_account(self.actor.db, user_id)
        assert account is not None
        return login.complete_login(self.actor, account, remembered=remembered)

    def find_session(self, token: str) -> Session | None:
        return sessions.find(self.db, token)

    def begin_session(self, user_id: int) -> Session:
        session = self.find_session(self.complete_login(user_id).token)
        assert session is not None
        return session

    def change_password(self, user: User, password: str, **kept: Any) -> None:
        accounts.change_password(self.actor, self.passwords, user, password, **kept)
