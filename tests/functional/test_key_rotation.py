"""A new SECRET_KEY: authenticator apps and passkeys work during the change and after it."""

import logging
from contextlib import closing
from functools import partial
from typing import Any

import psycopg2
import pytest
import webtest

import hello_login
from hello_login.scripts.manage_accounts import main
from tests.conftest import ROOT, MakeIni
from tests.functional.authenticator import Phone, set_up, type_code
from tests.functional.software_key import (
    SoftwareKey,
    options_on,
    send_credential,
    use_passkey,
)
from tests.people import error_of, log_in, log_out, register

pytestmark = pytest.mark.usefixtures("clock")

OLD, NEW, OTHER = "o" * 32, "n" * 32, "x" * 32


class Site:
    """A site on one database, which can be restarted with other keys."""

    def __init__(self, ini: MakeIni, url: str) -> None:
        self._ini = partial(ini, database_url=url)
        self._url = url

    def open_browser(self, *keys: str) -> webtest.TestApp:
        """Start the site with these keys, newest first, and return a browser without cookies."""
        app: Any = hello_login.main({}, **self._ini(secret_key=" ".join(keys)))
        environ = {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html"}
        return webtest.TestApp(app, extra_environ={**environ, "REMOTE_ADDR": "192.0.2.1"})

    def read_secret(self) -> bytes:
        """Return the encrypted secret of the only app."""
        with closing(psycopg2.connect(self._url)) as db, db.cursor() as cursor:
            cursor.execute("SELECT secret FROM totp")
            ((secret,),) = cursor.fetchall()
        return bytes(secret)

    def forget_used_code(self) -> None:
        """Let the app's current code work again, as if the app showed the next one."""
        with closing(psycopg2.connect(self._url)) as db, db.cursor() as cursor:
            cursor.execute("UPDATE totp SET last_step = 0")
            db.commit()


@pytest.fixture
def site(ini: MakeIni, url: str) -> Site:
    """Return a site on a database of its own."""
    return Site(ini, url)


@pytest.fixture
def phone(site: Site) -> Phone:
    """Return the app that Ada has set up while the site had the old key."""
    browser = site.open_browser(OLD)
    register(browser)
    phone, _ = set_up(browser)
    log_out(browser)
    return phone


def log_in_with_app(site: Site, phone: Phone, *keys: str) -> None:
    """Log in in two steps at the site with these keys."""
    site.forget_used_code()
    browser = site.open_browser(*keys)
    log_in(browser)
    assert type_code(browser, phone.code()).location == "http://localhost/account"
    assert "Your password alone is not enough" in browser.get("/account").text


def renew_secrets(monkeypatch: pytest.MonkeyPatch, url: str, *keys: str) -> None:
    """Run manage_accounts with these keys."""
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SECRET_KEY", " ".join(keys))
    main([str(ROOT / "production.ini"), "renew-secrets"])


def test_an_app_works_before_during_and_after_a_change_of_the_key(
    site: Site, phone: Phone, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in_with_app(site, phone, NEW, OLD)
    before = site.read_secret()
    renew_secrets(monkeypatch, url, NEW, OLD)
    assert site.read_secret() != before
    log_in_with_app(site, phone, NEW, OLD)
    log_in_with_app(site, phone, NEW)


def test_without_its_key_an_app_lets_nobody_in_and_the_log_says_why(
    site: Site, phone: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    before = site.read_secret()
    browser = site.open_browser(OTHER)
    log_in(browser)
    for _ in range(12):  # A code that can't be checked is not counted as a wrong one.
        page = type_code(browser, phone.code(), status=503)
    assert error_of(page, "code").startswith("We can't check codes of the app at the moment")
    assert browser.get("/account").location.startswith("http://localhost/login")
    (line,) = {each.message for each in caplog.records if each.levelno == logging.ERROR}
    assert line == (
        "The secret of the authenticator app of account 1 can't be decrypted: add the key to "
        "SECRET_KEY that was its first one before"
    )
    assert phone.code() not in caplog.text
    assert site.read_secret() == before
    log_in_with_app(site, phone, OTHER, OLD)


def test_without_its_key_an_account_is_still_open_to_a_recovery_code(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    browser = site.open_browser(OLD)
    register(browser)
    _, codes = set_up(browser)
    browser = site.open_browser(OTHER)
    log_in(browser)
    type_code(browser, codes[0])
    assert "9 recovery codes" in browser.get("/account").text
    assert "can't be decrypted" not in caplog.text


def test_a_set_up_that_began_before_a_change_of_the_key_can_be_finished_after_it(
    site: Site,
) -> None:
    browser = site.open_browser(OLD)
    register(browser)
    page = browser.get("/account/totp")
    phone = Phone(page.html.find(class_="secret").get_text())
    restarted = site.open_browser(NEW, OLD)
    restarted.cookiejar = browser.cookiejar
    form = restarted.get("/account/totp").forms[1]
    form["setup"] = page.forms[1]["setup"].value
    form["code"] = phone.code()
    assert "Keep your recovery codes" in form.submit(status=200).text
    log_out(restarted)
    log_in_with_app(site, phone, NEW, OLD)


def test_a_passkey_works_after_a_change_of_the_key_and_so_does_a_page_from_before_it(
    site: Site,
) -> None:
    browser, key = site.open_browser(OLD), SoftwareKey()
    register(browser)
    credential = key.create(options_on(browser.get("/account/passkeys/add")))
    restarted = site.open_browser(NEW, OLD)
    restarted.cookiejar = browser.cookiejar
    send_credential(restarted.get("/account/passkeys/add"), credential, status=200)
    answer = use_passkey(site.open_browser(NEW), key)
    assert answer.location == "http://localhost/account"
