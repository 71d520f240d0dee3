"""A site with second_factor_required = true."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from tests.conftest import MakeIni, OpenBrowser
from tests.functional.authenticator import recovery_codes_on, set_up, type_code
from tests.functional.mail_site import MailSite, ask_to_confirm
from tests.functional.software_key import (
    SoftwareKey,
    add_passkey,
    options_on,
    send_credential,
    use_passkey,
)
from tests.people import (
    NEW_PASSWORD,
    PASSWORD,
    csrf_token,
    error_of,
    log_in,
    log_out,
    register,
    send,
)

pytestmark = pytest.mark.usefixtures("clock")

HOME = "http://localhost"
OPEN = {
    "/account/totp",
    "/account/passkeys/add",
    "/account/confirm",
    "/account/confirm-address",
}
"""The pages of an account that are open before a second factor is set up."""

CLOSED = {
    "/account",
    "/account/activity",
    "/account/profile",
    "/account/password",
    "/account/sessions/end",
    "/account/delete",
    "/account/totp/remove",
    "/account/recovery-codes",
    "/account/passkeys",
    "/account/passkeys/decline",
    "/account/passkeys/x/name",
    "/account/passkeys/x/remove",
}
"""All other pages of an account.  x: the fingerprint of a passkey."""

BUTTONS = {"/account/confirm-address", "/account/passkeys/decline"}
"""The URLs of an account that only take POST."""


@pytest.fixture(scope="module")
def app(ini: MakeIni) -> Any:
    """Return the application that requires a second factor."""
    return hello_login.main({}, **ini(second_factor_required="true"))


@pytest.fixture
def browser(app: Any, open_browser: OpenBrowser) -> webtest.TestApp:
    """Return a browser in which Ada has just registered, without a second factor."""
    browser = open_browser(app)
    register(browser)
    return browser


def read_rows(db: Connection) -> str:
    """Return every row of an account as text."""
    rows = []
    with db.cursor() as cursor:
        for table in ("users", "sessions", "totp", "passkeys", "recovery_codes", "account_events"):
            cursor.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608
            rows += cursor.fetchall()
    return str(rows)


def fingerprint_of_passkey(browser: webtest.TestApp) -> str:
    """Return the fingerprint of the account's first passkey."""
    link = browser.get("/account/passkeys").html.find("a", string="Rename")
    return str(link["href"].split("/")[-2])


def test_a_new_account_is_led_to_set_up_a_second_step(app: Any, open_browser: OpenBrowser) -> None:
    browser = open_browser(app)
    page = register(browser).follow()
    assert page.location == f"{HOME}/account/totp"
    page = page.follow()
    assert "This site requires a second step at each login. Set it up to go on." in page.text
    assert page.html.find(class_="secret") is not None


def test_a_login_without_a_second_factor_is_led_to_set_one_up(browser: webtest.TestApp) -> None:
    log_out(browser)
    page = log_in(browser, page="/login?next=/account/profile").follow()
    assert page.location == f"{HOME}/account/totp"


def test_every_page_that_needs_a_login_is_closed_until_a_second_factor_is_set_up(
    app: Any, browser: webtest.TestApp
) -> None:
    introspector = app.registry.introspector
    routes = [each["introspectable"] for each in introspector.get_category("routes")]
    paths = {each["name"]: re.sub("{.*?}", "x", each["pattern"]) for each in routes}
    led_to_set_up: set[str] = set()
    others: set[str] = set()
    for entry in introspector.get_category("views"):
        view = entry["introspectable"]
        if view["route_name"] in (None, "static", "logout"):
            continue
        path = paths[view["route_name"]]
        for method in view.get("require_methods", ("GET", "HEAD")):
            if method == "POST":
                answer = browser.post(path, {"csrf_token": csrf_token(browser)}, status="*")
            else:
                answer = browser.request(path, method=method, status="*")
            is_led = answer.location == f"{HOME}/account/totp"
            (led_to_set_up if is_led else others).add(path)
    assert led_to_set_up == CLOSED
    assert {path for path in others if path.startswith("/account")} == OPEN


def test_nothing_can_be_changed_until_a_second_factor_is_set_up(
    browser: webtest.TestApp, db: Connection
) -> None:
    token, before = csrf_token(browser), read_rows(db)
    typed = {
        "/account/profile": {"name": "Eve", "email": "eve@example.com"},
        "/account/password": {
            "current": PASSWORD,
            "password": NEW_PASSWORD,
            "confirm": NEW_PASSWORD,
        },
        "/account/sessions/end": {"session": "others"},
        "/account/delete": {"current": PASSWORD},
        "/account/totp/remove": {},
        "/account/recovery-codes": {},
        "/account/passkeys/decline": {},
        "/account/passkeys/x/name": {"name": "Eve's"},
        "/account/passkeys/x/remove": {},
    }
    for path, values in typed.items():
        answer = browser.post(path, {"csrf_token": token, **values}, status=303)
        assert answer.location == f"{HOME}/account/totp"
    assert read_rows(db) == before


@pytest.mark.parametrize("path", sorted(CLOSED))
def test_a_program_is_refused_until_a_second_factor_is_set_up(
    browser: webtest.TestApp, path: str
) -> None:
    method = "POST" if path in BUTTONS else "GET"
    typed = {"csrf_token": csrf_token(browser)} if path in BUTTONS else None
    accept = {"Accept": "application/json"}
    answer = browser.request(path, method=method, POST=typed, headers=accept, status=403)
    assert answer.content_type == "application/json"


def test_public_pages_and_the_logout_are_open_without_a_second_factor(
    browser: webtest.TestApp,
) -> None:
    assert "Ada Lovelace" in browser.get("/").text
    log_out(browser)
    assert "Log in" in browser.get("/").text


def test_everything_opens_once_an_app_is_set_up(browser: webtest.TestApp) -> None:
    _, codes = set_up(browser)
    for path in sorted((CLOSED | OPEN) - BUTTONS):
        if "/x/" not in path:
            browser.get(path, {"session": "others"}, status=200)
    log_out(browser)
    log_in(browser)
    assert type_code(browser, codes[0]).location == f"{HOME}/account"
    browser.get("/account", status=200)


def test_everything_opens_once_a_passkey_is_added(browser: webtest.TestApp) -> None:
    key = SoftwareKey()
    codes = recovery_codes_on(add_passkey(browser, key, status=200))
    fingerprint = fingerprint_of_passkey(browser)
    for path in sorted((CLOSED | OPEN) - BUTTONS):
        path = path.replace("/x/", f"/{fingerprint}/")
        browser.get(path, {"session": "others"}, status=200)
    log_out(browser)
    assert use_passkey(browser, key).location == f"{HOME}/account"
    browser.get("/account", status=200)
    log_out(browser)
    log_in(browser)
    assert type_code(browser, codes[0]).location == f"{HOME}/account"
    browser.get("/account", status=200)


def test_the_page_that_sets_an_app_up_leads_to_a_passkey_and_not_back_to_the_account(
    browser: webtest.TestApp,
) -> None:
    page = browser.get("/account/totp")
    assert "Cancel" not in page
    page = page.click("add a passkey")
    assert page.request.path == "/account/passkeys/add"
    assert "Cancel" not in page
    send_credential(page, SoftwareKey().create(options_on(page)), status=200)
    assert "Cancel" in browser.get("/account/passkeys/add")
    page = browser.get("/account/totp")
    assert "Cancel" in page
    assert "add a passkey" not in page


def test_removing_the_app_leads_to_set_up_again(browser: webtest.TestApp) -> None:
    set_up(browser)
    page = send(browser, "/account/totp/remove").follow()
    assert page.location == f"{HOME}/account/totp"
    browser.get("/account", status=303)
    set_up(browser)
    browser.get("/account", status=200)


def test_removing_the_last_passkey_leads_to_set_up_again(browser: webtest.TestApp) -> None:
    add_passkey(browser, SoftwareKey(), status=200)
    add_passkey(browser, SoftwareKey())
    for led_to_set_up in (False, True):
        page = send(browser, f"/account/passkeys/{fingerprint_of_passkey(browser)}/remove").follow()
        assert (page.location == f"{HOME}/account/totp") == led_to_set_up
    add_passkey(browser, SoftwareKey(), status=200)
    browser.get("/account", status=200)


def test_a_login_that_is_not_fresh_is_confirmed_before_the_set_up(
    browser: webtest.TestApp, db: Connection
) -> None:
    with db.cursor() as cursor:
        cursor.execute("UPDATE sessions SET authenticated_at = now() - interval '16 minutes'")
    page = browser.get("/account").follow()
    assert page.location == f"{HOME}/account/confirm?next=%2Faccount%2Ftotp"
    form = page.follow().forms[1]
    form["current"] = "a wrong one"
    assert "not your password" in error_of(form.submit(status=422), "current")
    form["current"] = PASSWORD
    assert form.submit(status=303).location == f"{HOME}/account/totp"
    set_up(browser)
    browser.get("/account", status=200)


def test_the_address_is_confirmed_before_the_set_up_if_mail_is_sent(
    ini: MakeIni, url: str, tmp_path: Path
) -> None:
    site = MailSite(partial(ini, second_factor_required="true"), url, tmp_path / "mail")
    browser = site.open_browser()
    site.register(browser)
    site.execute(
        "UPDATE users SET confirmed_at = NULL"
    )  # as if the account was registered while no mail was sent
    page = browser.get("/account").follow()
    assert "first, by the link in a mail" in page.text
    assert page.html.find(class_="secret") is None
    page = ask_to_confirm(browser).maybe_follow()
    assert "We have sent you a mail. Open the link in it to confirm the address." in page.text
    link = site.deliver_link()
    browser.get(link).forms[1].submit(status=303)
    set_up(browser)
    browser.get("/account", status=200)
