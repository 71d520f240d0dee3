"""An authenticator app with the library pyotp, and the steps that people take with it."""

import base64
import re
import time
from inspect import isbuiltin
from typing import Any

import pyotp
import pytest
import webtest

from hello_login.auth import login, second_factor, totp
from hello_login.auth.sessions import IssuedSession
from hello_login.auth.totp import SecretBox
from hello_login.repositories.half_logins import HalfLogin
from hello_login.repositories.sessions import Session
from tests.conftest import SECRET_KEY
from tests.people import log_in, register
from tests.visitor import Visitor

BOX = SecretBox([SECRET_KEY], "totp")
"""Encrypts the secrets of the visitors' apps."""

STEP = 30  # seconds

USED = "This code does not work any more"
WRONG = "code is wrong"
CLOCK = "Check the clock of your phone"
"""The messages of the site about a code."""


class Clock:
    """The clock of the site and of the app.  It stands still in the middle of a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time() // STEP * STEP + STEP / 2
        monkeypatch.setattr(time, "time", lambda: self.now)

    def tick(self, steps: int = 1) -> None:
        """Let this number of steps pass."""
        self.now += steps * STEP


class Phone:
    """An authenticator app."""

    def __init__(self, secret: str) -> None:
        self.secret = secret.replace(" ", "")
        self._totp = pyotp.TOTP(self.secret)

    def code(self, steps_from_now: int = 0) -> str:
        """Return the code of the current step, or of one before or after it."""
        assert not isbuiltin(time.time), "use the fixture clock: a step may end before the test"
        return self._totp.at(time.time() + steps_from_now * STEP)


def set_up(browser: webtest.TestApp) -> tuple[Phone, list[str]]:
    """Turn the second factor on; return the app and the recovery codes.

    The code of the previous step is used up: the app has two more that work at once.
    """
    page = browser.get("/account/totp")
    phone = Phone(page.html.find(class_="secret").get_text())
    return phone, recovery_codes_on(type_first_code(page, phone.code(-1), status=200))


def type_first_code(page: Any, code: str, *, status: int = 422) -> Any:
    """Type a code into the page that sets an app up, and return the answer."""
    form = page.forms[1]
    form["code"] = code
    return form.submit(status=status)


def recovery_codes_on(page: Any) -> list[str]:
    """Return the recovery codes that the page shows."""
    return [each.get_text() for each in page.html.select(".codes code")]


def type_code(
    browser: webtest.TestApp,
    code: str,
    *,
    status: int | None = 303,
    page: str = "/login/second",
) -> Any:
    """Type a code into the second step of a login, and return the answer; None is any status."""
    form = browser.get(page).forms[0]
    form["code"] = code
    return form.submit(status=status or "*")


def add_app(visitor: Visitor, session: Session) -> tuple[Phone, list[str]]:
    """Turn the second factor on in the auth layer; return the app and the recovery codes."""
    secret = totp.make_secret()
    phone = Phone(totp.as_text(secret))
    return phone, second_factor.add_app(visitor.actor, BOX, session, secret, phone.code(-1))


def begin_half_login(visitor: Visitor, user_id: int, *, remembered: bool = False) -> HalfLogin:
    """Begin a login that waits for its second step, as the right password does."""
    token = login.begin_half_login(visitor.actor, user_id, remembered=remembered)
    half = login.find_half_login(visitor.db, token)
    assert half is not None
    return half


def complete(
    visitor: Visitor, half: HalfLogin, code: str, *, box: SecretBox = BOX
) -> IssuedSession:
    """Complete a half login, as the view of the second step does."""
    is_app_code = second_factor.is_app_code(code)
    attempt = visitor.rate_limiter.admit_code(half.user_id, is_app_code=is_app_code)
    return login.complete_half_login(visitor.actor, box, half, attempt, code)


class Person:
    """Ada, whose account has a second factor; her browser is logged in."""

    def __init__(self, browser: webtest.TestApp) -> None:
        self.browser = browser
        register(browser)
        self.phone, self.recovery_codes = set_up(browser)


def begin(browser: webtest.TestApp) -> webtest.TestApp:
    """Log in with the password only."""
    assert log_in(browser).location == "http://localhost/login/second"
    return browser


def is_logged_in(browser: webtest.TestApp) -> bool:
    return bool(browser.get("/account", status="*").status_int == 200)


def half_login_token(browser: webtest.TestApp) -> str:
    """Return the token in the browser's half-login cookie."""
    cookie = browser.cookies["half_login"]
    encoded = cookie[128 + 8 :].partition("!")[0]
    token = base64.b64decode(encoded.replace("%3D", "=")).decode()
    assert re.fullmatch(r"[\w-]{43}", token)
    return token
