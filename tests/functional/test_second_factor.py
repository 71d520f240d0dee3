"""Logins in two steps, as people use them."""

import base64
import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import webtest
from psycopg2.extensions import connection as Connection
from pyramid.request import apply_request_extensions

import hello_login
from hello_login.auth import accounts, links, rate_limits, second_factor
from hello_login.db import transactions
from tests.conftest import SECRET_KEY, MakeIni, OpenBrowser
from tests.functional.authenticator import (
    Clock,
    Phone,
    recovery_codes_on,
    set_up,
    type_code,
    type_first_code,
)
from tests.functional.mail_site import (
    WAITING_FOR_LOCKS,
    MailSite,
    fill_in,
    text_of,
    use,
)
from tests.people import (
    EMAIL,
    NEW_PASSWORD,
    PASSWORD,
    STYLESHEET,
    change_password,
    csrf_token,
    error_of,
    log_in,
    log_out,
    register,
    send,
)
from tests.visitor import Visitor

LOGIN_EXPIRED = "That login took too long, or was ended. Log in again."
USED = "This code does not work any more"
WRONG = "code is wrong"
CLOCK = "Check the clock of your phone"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock."""
    return Clock(monkeypatch)


class Person:
    """Ada, whose account has a second factor; her browser is logged in."""

    def __init__(self, browser: webtest.TestApp) -> None:
        self.browser = browser
        register(browser)
        self.phone, self.recovery_codes = set_up(browser)


@pytest.fixture
def ada(browser: webtest.TestApp) -> Person:
    return Person(browser)


@pytest.fixture
def site(url: str, ini: MakeIni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MailSite:
    """Return a site with mail; on a loaded machine, a race may wait for long."""
    monkeypatch.setattr(transactions, "LOCK_TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(transactions, "STATEMENT_TIMEOUT_SECONDS", 60)
    return MailSite(ini, url, tmp_path / "mail")


@pytest.fixture
def owner(site: MailSite) -> webtest.TestApp:
    """Return a browser in which Ada has registered by a link and is logged in."""
    browser = site.open_browser()
    site.register(browser)
    return browser


def begin(browser: webtest.TestApp) -> webtest.TestApp:
    """Log in with the password only."""
    assert log_in(browser).location == "http://localhost/login/second"
    return browser


def is_logged_in(browser: webtest.TestApp) -> bool:
    return bool(browser.get("/account", status="*").status_int == 200)


# The journey


def test_a_login_takes_two_steps_once_an_app_is_set_up(browser: webtest.TestApp) -> None:
    register(browser)
    phone, codes = set_up(browser)
    assert len(codes) == 10
    assert all(re.fullmatch("([A-Z2-7]{4}-){5}[A-Z2-7]{4}", code) for code in codes)
    log_out(browser)
    answer = log_in(browser, remember=True, page="/login?next=/account/profile")
    assert answer.location == "http://localhost/login/second?next=%2Faccount%2Fprofile"
    answer = type_code(browser, phone.code(), page=answer.location)
    assert answer.location == "http://localhost/account/profile"
    assert "Max-Age" in "".join(x for x in answer.headers.getall("Set-Cookie") if "session=" in x)
    assert "10 recovery codes" in browser.get("/account").text
    log_out(browser)
    log_in(browser)
    page = type_code(
        browser, codes[3].lower().replace("-", " "), page="/login/second?with=recovery"
    )
    assert "9 recovery codes left" in page.follow().text
    page = browser.get("/account/recovery-codes")
    page = page.forms[1].submit(status=200)
    browser.get("/account/totp")
    send(browser, "/account/totp/remove")
    log_out(browser)
    assert log_in(browser).location == "http://localhost/account"


def test_without_stay_logged_in_the_browser_forgets_the_session_when_it_is_closed(
    ada: Person, open_browser: OpenBrowser
) -> None:
    answer = type_code(begin(open_browser()), ada.phone.code())
    (cookie,) = [each for each in answer.headers.getall("Set-Cookie") if "session=" in each]
    assert "Max-Age" not in cookie
    assert answer.location == "http://localhost/account"


def test_next_survives_a_wrong_code_and_the_way_to_the_recovery_code(
    ada: Person, open_browser: OpenBrowser
) -> None:
    browser = open_browser()
    log_in(browser, page="/login?next=/account/password%3Fx=1")
    page = type_code(
        browser, ada.phone.code(500), status=422, page="/login/second?next=/account/password%3Fx=1"
    )
    page = page.click("Use a recovery code").click("Use the app").click("Use a recovery code")
    form = page.forms[0]
    form["code"] = ada.recovery_codes[0]
    assert form.submit(status=303).location == "http://localhost/account/password?x=1"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example/", "/\\evil.example"])
def test_no_login_in_two_steps_redirects_to_another_site(
    ada: Person, open_browser: OpenBrowser, target: str
) -> None:
    browser = open_browser()
    answer = log_in(browser, page=f"/login?next={target}")
    assert answer.location == "http://localhost/login/second"
    form = browser.get(f"/login/second?next={target}").forms[0]
    assert form["next"].value == ""
    form["next"].force_value(target)
    form["code"] = ada.phone.code()
    assert form.submit(status=303).location == "http://localhost/account"


@pytest.mark.parametrize("write", [" {} ", "{}\t", "-{}-"])
def test_a_pasted_code_may_have_blanks_and_hyphens(
    ada: Person, open_browser: OpenBrowser, write: str
) -> None:
    code = ada.phone.code()
    type_code(begin(open_browser()), write.format(f"{code[:3]} {code[3:]}"))


def test_the_second_step_asks_for_a_code_as_phones_and_password_managers_expect(
    ada: Person, open_browser: OpenBrowser
) -> None:
    browser = begin(open_browser())
    field = browser.get("/login/second").html.find(id="code")
    assert (field["autocomplete"], field["inputmode"]) == ("one-time-code", "numeric")
    field = browser.get("/login/second?with=recovery").html.find(id="code")
    assert "inputmode" not in field.attrs  # It has letters.
    assert ada.phone.secret not in browser.get("/login/second")


@pytest.mark.parametrize("query", ["", "?next=%2Faccount"])
def test_the_second_step_without_the_first_leads_to_the_login(
    browser: webtest.TestApp, query: str
) -> None:
    answer = browser.get(f"/login/second{query}", status=303)
    assert answer.location == f"http://localhost/login{query}"
    assert LOGIN_EXPIRED in answer.follow()


def test_a_browser_that_is_logged_in_is_not_asked_for_a_code(ada: Person) -> None:
    answer = ada.browser.get("/login/second?next=/account/profile", status=303)
    assert answer.location == "http://localhost/account/profile"


# Codes that work once


def test_a_code_works_for_one_login(ada: Person, open_browser: OpenBrowser) -> None:
    type_code(begin(open_browser()), ada.phone.code())
    other = begin(open_browser())
    for code in (ada.phone.code(), ada.phone.code(-1)):
        assert USED in error_of(type_code(other, code, status=422), "code")
    assert not is_logged_in(other)
    type_code(other, ada.phone.code(1))
    assert is_logged_in(other)


def test_the_code_that_turned_the_second_factor_on_is_used_up(
    ada: Person, open_browser: OpenBrowser
) -> None:
    page = type_code(begin(open_browser()), ada.phone.code(-1), status=422)
    assert USED in error_of(page, "code")


def test_a_code_for_another_time_gets_a_hint_and_does_not_work_at_that_time(
    ada: Person, open_browser: OpenBrowser, clock: Clock
) -> None:
    browser, code = begin(open_browser()), ada.phone.code(5)
    assert CLOCK in error_of(type_code(browser, code, status=422), "code")
    assert WRONG in error_of(type_code(browser, ada.phone.code(11), status=422), "code")
    clock.tick(5)
    assert USED in error_of(type_code(browser, code, status=422), "code")
    clock.tick()
    type_code(browser, ada.phone.code())


def prepare_code(browser: webtest.TestApp, code: str) -> Callable[[str], Any]:
    """Type a code; return a function that sends the form from an address and returns the answer.

    Several threads may call it: each call sends the form in a browser with the same cookies.
    """
    form = browser.get("/login/second").forms[0]
    form["code"] = code
    fields = form.submit_fields()
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())

    def submit(address: str) -> Any:
        environ = {**browser.extra_environ, "REMOTE_ADDR": address}
        sender = webtest.TestApp(browser.app, extra_environ=environ)
        return sender.post("/login/second", fields, headers={"Cookie": cookies}, status="*")

    return submit


def send_at_once(site: MailSite, submits: list[Callable[[str], Any]]) -> list[Any]:
    """Let all requests wait for the account's row, each from a network of its own."""
    with (
        contextlib.closing(psycopg2.connect(site.url)) as holder,
        ThreadPoolExecutor(len(submits)) as threads,
    ):
        with holder.cursor() as cursor:
            cursor.execute("SELECT FROM users FOR UPDATE")
        addresses = [f"192.0.2.{number}" for number in range(len(submits))]
        running = [
            threads.submit(submit, address)
            for submit, address in zip(submits, addresses, strict=True)
        ]
        while site.execute(WAITING_FOR_LOCKS) != [(len(submits),)]:
            assert not any(each.done() for each in running)
            time.sleep(0.01)
        holder.commit()
        return [each.result(60) for each in running]


@pytest.mark.parametrize("half_logins", [1, 20])
@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_the_same_code_in_twenty_requests_at_once_logs_in_once(
    site: MailSite, owner: webtest.TestApp, half_logins: int, kind: str
) -> None:
    phone, codes = set_up(owner)
    code = phone.code() if kind == "app" else codes[0]
    submits = [prepare_code(begin(site.open_browser()), code) for _ in range(half_logins)]
    answers = send_at_once(site, submits * (20 // half_logins))
    counted = Counter((answer.status_int, answer.location) for answer in answers)
    assert counted == {(303, "http://localhost/account"): 1, (303, "http://localhost/login"): 19}
    with_session = [
        each for each in answers if "session=" in str(each.headers.getall("Set-Cookie"))
    ]
    assert len(with_session) == 1
    assert site.execute("SELECT count(*) FROM sessions") == [(2,)]
    assert site.execute("SELECT count(*) FROM half_logins") == [(0,)]
    assert site.execute("SELECT count(*) FROM recovery_codes") == [(10 if kind == "app" else 9,)]


# What a half login opens


def paths_of(app: Any, token: str) -> list[str]:
    """Return a path of each route."""
    routes = app.registry.introspector.get_category("routes")
    patterns = [route["introspectable"]["pattern"] for route in routes]
    return [
        STYLESHEET if "static" in pattern or "*" in pattern else pattern.format(token=token)
        for pattern in patterns
    ]


def without_random_values(browser: webtest.TestApp, answer: Any) -> tuple[Any, ...]:
    """Return what an answer says, without the browser's CSRF token and the request's id."""
    text = answer.text.replace(browser.cookies.get("csrf_token", "no token"), "")
    text = re.sub('(?<=name="csrf_token" value=")[^"]*', "", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "", text)
    cookies = sorted(each.partition("=")[0] for each in answer.headers.getall("Set-Cookie"))
    return answer.status_int, answer.location, text, cookies


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_half_login_opens_no_page_that_an_anonymous_browser_can_not_see(
    ada: Person, app: Any, open_browser: OpenBrowser, accept: str
) -> None:
    half = begin(open_browser(HTTP_ACCEPT="text/html"))
    anonymous = open_browser()
    anonymous.get("/login")
    paths = paths_of(app, half_login_token(half))
    assert len(paths) > 18
    paths.remove("/login/second")
    for path in paths:
        for method in ("GET", "POST"):
            if (method, path) == ("POST", "/logout"):
                continue
            answers = []
            for browser in (half, anonymous):
                fresh = open_browser(HTTP_ACCEPT=accept)
                for name in {"half_login", "csrf_token"} & set(browser.cookies):
                    fresh.set_cookie(name, browser.cookies[name])
                fields = {"csrf_token": browser.cookies["csrf_token"]} if method == "POST" else {}
                answer = fresh.request(path, method=method, POST=fields or None, status="*")
                assert "session" not in fresh.cookies
                answers.append(without_random_values(browser, answer))
            assert answers[0] == answers[1], (method, path)
            assert "Ada" not in answers[0][2]
            if path.startswith("/account"):
                assert answers[0][0] in (303, 403, 405)
    type_code(half, ada.phone.code())


def half_login_token(browser: webtest.TestApp) -> str:
    """Return the token in the browser's half-login cookie."""
    cookie = browser.cookies["half_login"]
    encoded = cookie[128 + 8 :].partition("!")[0]
    token = base64.b64decode(encoded.replace("%3D", "=")).decode()
    assert re.fullmatch(r"[\w-]{43}", token)
    return token


@pytest.mark.parametrize("name", ["session", "device", "csrf_token", "flash"])
def test_the_half_login_cookie_is_no_other_cookie(
    ada: Person, open_browser: OpenBrowser, name: str
) -> None:
    half = begin(open_browser())
    for number, value in enumerate((half.cookies["half_login"], half_login_token(half))):
        other = open_browser(REMOTE_ADDR=f"198.51.100.{number}")
        other.set_cookie(name, value)
        assert not is_logged_in(other)
        other.get("/login/second", status=303)
        for _ in range(5):  # On a known device, these would count apart from those without it.
            log_in(other, password="a wrong one", status=422)
        log_in(open_browser(REMOTE_ADDR=f"198.51.100.{number}"), status=429)
    type_code(half, ada.phone.code())


def test_each_cookie_is_signed_for_its_own_name_only(
    ada: Person, app: Any, open_browser: OpenBrowser
) -> None:
    half = begin(open_browser())
    values = {**ada.browser.cookies, "half_login": half.cookies["half_login"]}
    signed = ("session", "half_login", "device")

    def accepted(name: str, value: str) -> list[str]:
        """Return the names of the signed cookies that a request with this cookie has."""
        request = app.request_factory.blank("/", half.extra_environ, cookies={name: value})
        request.registry = app.registry
        apply_request_extensions(request)
        found = (request.session_token, request.half_login_token, request.client.known)
        return [each for each, content in zip(signed, found, strict=True) if content]

    for name in signed:
        for other in signed:
            assert accepted(name, values[other]) == ([name] if name == other else [])


def test_no_other_cookie_is_a_half_login(ada: Person, open_browser: OpenBrowser) -> None:
    half, other = begin(open_browser()), open_browser()
    values = {
        *ada.browser.cookies.values(),
        half.cookies["csrf_token"],
        half_login_token(half),
        half.cookies["half_login"][:-30],
        "0" * 128 + half.cookies["half_login"][128:],
    }
    for value in values:
        other.set_cookie("half_login", value)
        other.get("/login/second", status=303)


def test_a_half_login_token_is_no_link(ada: Person, open_browser: OpenBrowser) -> None:
    half = begin(open_browser())
    assert ada.recovery_codes
    for token in (half_login_token(half), half.cookies["half_login"]):
        open_browser().get(f"/link/{token}", status=404)


def test_a_half_login_is_bound_to_its_cookie_and_is_no_session_in_production(
    open_browser: OpenBrowser, production_app: Any
) -> None:
    environ = {"wsgi.url_scheme": "https", "HTTP_ORIGIN": "https://localhost"}
    person = Person(open_browser(production_app, **environ))
    browser = open_browser(production_app, **environ)
    answer = log_in(browser)
    cookies = answer.headers.getall("Set-Cookie")
    assert sorted(each.partition("=")[0] for each in cookies) == [
        "__Host-csrf_token",
        "__Host-half_login",
        "__Host-session",
    ]
    (cookie,) = [each for each in cookies if "half_login" in each]
    assert set(cookie.split("; ")[1:]) == {"Path=/", "secure", "HttpOnly", "SameSite=Lax"}
    answer = type_code(browser, person.phone.code())
    (deleted,) = [each for each in answer.headers.getall("Set-Cookie") if "half_login" in each]
    assert deleted.startswith("__Host-half_login=; Max-Age=0")


def test_the_right_password_replaces_the_csrf_token_and_so_does_the_right_code(
    ada: Person, open_browser: OpenBrowser
) -> None:
    browser = open_browser()
    before = browser.get("/login").forms[0]["csrf_token"].value
    log_in(browser)
    form = browser.get("/login/second").forms[0]
    between = form["csrf_token"].value
    assert between != before
    form["csrf_token"] = before
    form["code"] = ada.phone.code()
    form.submit(status=400)
    type_code(browser, ada.phone.code())
    assert csrf_token(browser) not in (before, between)
    log_out(browser)
    assert browser.get("/login").forms[0]["csrf_token"].value not in (before, between)


def test_a_form_of_the_second_step_that_is_sent_after_the_login_leads_on(
    ada: Person, open_browser: OpenBrowser
) -> None:
    browser = begin(open_browser())
    form = browser.get("/login/second?next=/account/profile").forms[0]
    form["code"] = ada.phone.code()
    form.submit(status=303)
    assert form.submit(status=303).location == "http://localhost/account/profile"


# How a half login ends


def by_link(browser: webtest.TestApp, visitor: Visitor) -> None:
    """Set a new password by a link."""
    user = visitor.user()
    token = links.issue(visitor.db, "recover", user.email, user.id)
    use(browser, f"/link/{token}", password=NEW_PASSWORD)


def expire(_browser: webtest.TestApp, visitor: Visitor) -> None:
    """Let ten minutes pass for the half login."""
    with visitor.db.cursor() as cursor:
        cursor.execute("UPDATE half_logins SET expires_at = expires_at - interval '10 minutes'")


ENDINGS: dict[str, Callable[[webtest.TestApp, Visitor], object]] = {
    "a password change in another session": lambda browser, _: change_password(browser),
    "a reset by a link": by_link,
    "a deactivation": lambda _, visitor: accounts.deactivate(visitor.actor, visitor.user()),
    "the removal of the factor": lambda browser, _: send(browser, "/account/totp/remove"),
    "its removal by the operator": lambda _, visitor: second_factor.remove_all(
        visitor.actor, visitor.user()
    ),
    "the end of other sessions": lambda browser, _: send(
        browser, "/account/sessions/end?session=others"
    ),
    "ten minutes": expire,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_half_login_is_ended_by(
    ada: Person, open_browser: OpenBrowser, visitor: Visitor, ending: str
) -> None:
    half = begin(open_browser())
    form = half.get("/login/second").forms[0]
    ENDINGS[ending](ada.browser, visitor)
    form["code"] = ada.phone.code()
    answer = form.submit(status=303)
    assert answer.location == "http://localhost/login"
    assert LOGIN_EXPIRED in answer.follow()
    half.get("/login/second", status=303)
    assert not is_logged_in(half)


def test_the_right_code_ends_the_half_login(
    ada: Person, open_browser: OpenBrowser, clock: Clock
) -> None:
    browser = begin(open_browser())
    cookie = browser.cookies["half_login"]
    type_code(browser, ada.phone.code())
    assert "half_login" not in browser.cookies
    thief = open_browser()
    thief.set_cookie("half_login", cookie)
    clock.tick()
    thief.get("/login/second", status=303)


def test_cancelling_the_login_deletes_the_half_login_and_its_cookie(
    ada: Person, open_browser: OpenBrowser, db: Connection
) -> None:
    browser = begin(open_browser())
    cookie = browser.cookies["half_login"]
    page = browser.get("/login/second")
    button = page.html.find("button", string="Cancel")
    fields = page.forms[0].submit_fields()
    answer = browser.post(button["formaction"], fields, status=303)
    assert "You are logged out" in answer.follow()
    assert "half_login" not in browser.cookies
    with db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM half_logins")
        assert cursor.fetchone() == (0,)
    browser.set_cookie("half_login", cookie)
    browser.get("/login/second", status=303)
    assert is_logged_in(ada.browser)


def test_a_half_login_goes_on_in_its_own_browser_only(
    ada: Person, open_browser: OpenBrowser
) -> None:
    begin(open_browser())
    open_browser().get("/login/second", status=303)
    assert is_logged_in(ada.browser)


# Guesses


@pytest.mark.slow
def test_two_hundred_wrong_codes_over_fifty_half_logins_are_five_guesses_a_network(
    ada: Person, open_browser: OpenBrowser, visitor: Visitor
) -> None:
    log_out(ada.browser)
    answers: Counter[tuple[int, int]] = Counter()
    for number in range(50):
        network = number % 10
        guesser = begin(open_browser(REMOTE_ADDR=f"203.0.113.{network}"))
        form = guesser.get("/login/second").forms[0]
        form["code"] = ada.phone.code(500)
        for _ in range(4):
            answer = form.submit(status="*")
            assert ("Retry-After" in answer.headers) == (answer.status_int == 429)
            answers[network, answer.status_int] += 1
    for network in range(10):
        assert (answers[network, 422], answers[network, 429]) == (5, 15)
    with visitor.db.cursor() as cursor:
        cursor.execute(
            """
            SELECT host(address), count(*)
              FROM account_events
             WHERE event = 'second_failed'
             GROUP BY 1
            """
        )
        assert dict(cursor) == {f"203.0.113.{network}": 5 for network in range(10)}
    stranger = begin(open_browser(REMOTE_ADDR="203.0.113.1"))
    page = type_code(stranger, ada.phone.code(), status=429)
    assert 1 <= int(page.headers["Retry-After"]) <= 60
    assert "Too many attempts. Wait" in page
    for _ in range(4):  # The owner's device has a count of its own.
        type_code(begin(ada.browser), ada.phone.code(500), status=422)
    type_code(begin(ada.browser), ada.phone.code())
    assert is_logged_in(ada.browser)


def test_the_hundredth_wrong_code_locks_the_app_until_a_recovery_code_is_used(
    ada: Person, open_browser: OpenBrowser
) -> None:
    for number in range(20):
        guesser = begin(open_browser(REMOTE_ADDR=f"203.0.113.{number}"))
        form = guesser.get("/login/second").forms[0]
        form["code"] = ada.phone.code(500)
        for _ in range(5):
            form.submit(status=422)
    stranger = begin(open_browser(REMOTE_ADDR="198.51.100.1"))
    page = type_code(stranger, ada.phone.code(), status=429)
    assert "Retry-After" not in page.headers
    assert "no code of the app is accepted here any more. Use a recovery code" in page
    change_password(ada.browser)
    log_in(stranger, password=NEW_PASSWORD)
    type_code(stranger, ada.phone.code(), status=429)
    type_code(stranger, ada.recovery_codes[0])
    other = open_browser(REMOTE_ADDR="198.51.100.2")
    log_in(other, password=NEW_PASSWORD)
    type_code(other, ada.phone.code())


def test_a_new_app_ends_the_lock_of_the_earlier_one(
    ada: Person, open_browser: OpenBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "LOCK_AFTER", 5)
    stranger = begin(open_browser(REMOTE_ADDR="203.0.113.1"))
    for _ in range(5):
        type_code(stranger, ada.phone.code(500), status=422)
    assert "Retry-After" not in type_code(stranger, ada.phone.code(), status=429).headers
    send(ada.browser, "/account/totp/remove")
    phone, _ = set_up(ada.browser)
    type_code(begin(open_browser(REMOTE_ADDR="198.51.100.1")), phone.code())


# What the owner is told


def told(site: MailSite) -> list[str]:
    """Send the mails that are due to Ada, and return their subjects."""
    messages = site.deliver()
    assert {message["To"] for message in messages} <= {EMAIL}
    return [str(message["Subject"]) for message in messages]


SUBJECTS = {
    "factor_added": "The second step of your logins was turned on",
    "factor_removed": "The second step of your logins was turned off",
    "codes_made": "New recovery codes were made",
    "code_used": "A recovery code was used",
    "second_failed": "A login with a wrong code",
    "new_device": "A login from a new device",
}


def test_the_owner_is_told_of_changes_of_the_second_factor_and_of_used_recovery_codes(
    site: MailSite, owner: webtest.TestApp
) -> None:
    _, codes = set_up(owner)
    assert told(site) == [SUBJECTS["factor_added"]]
    log_out(owner)
    type_code(begin(owner), codes[0])
    assert told(site) == [SUBJECTS["code_used"]]
    send(owner, "/account/recovery-codes", status=200)
    assert told(site) == [SUBJECTS["codes_made"]]
    send(owner, "/account/totp/remove")
    (message,) = site.deliver()
    assert message["Subject"] == SUBJECTS["factor_removed"]
    assert "192.0.2.1" in text_of(message)
    page = owner.get("/account")
    for words in (
        "The second step of logins was turned on",
        "You used a recovery code",
        "New recovery codes were made",
        "The second step of logins was turned off",
    ):
        assert words in page


def test_the_owner_is_told_of_a_right_password_with_a_wrong_code_once_an_hour(
    site: MailSite, owner: webtest.TestApp
) -> None:
    phone, _ = set_up(owner)
    site.deliver()
    for number in range(5):
        guesser = begin(site.open_browser(REMOTE_ADDR=f"203.0.113.{number}"))
        type_code(guesser, phone.code(500), status=422)
    (message,) = site.deliver()
    assert (message["To"], message["Subject"]) == (EMAIL, SUBJECTS["second_failed"])
    assert "203.0.113.0" in text_of(message)
    assert "http://localhost/forgot" in text_of(message)
    page = owner.get("/account")
    assert "Somebody typed the right password, and then a wrong code" in page
    assert "from 203.0.113.4" in page
    for minutes, subjects in ((59, []), (1, [SUBJECTS["second_failed"]])):
        site.execute("UPDATE totp SET told_at = told_at - %s * interval '1 minute'", minutes)
        type_code(begin(site.open_browser(REMOTE_ADDR="203.0.113.9")), phone.code(500), status=422)
        assert told(site) == subjects


def test_a_wrong_code_on_a_known_device_is_an_event_and_no_mail(
    site: MailSite, owner: webtest.TestApp
) -> None:
    phone, _ = set_up(owner)
    site.deliver()
    log_out(owner)
    begin(owner)
    type_code(owner, phone.code(500), status=422)
    type_code(owner, phone.code())
    assert told(site) == []
    assert "Somebody typed the right password, and then a wrong code" in owner.get("/account")


def test_the_owner_is_told_of_a_wrong_code_after_a_slip_on_a_known_device(
    site: MailSite, owner: webtest.TestApp
) -> None:
    phone, _ = set_up(owner)
    site.deliver()
    log_out(owner)
    type_code(begin(owner), phone.code(500), status=422)
    type_code(begin(site.open_browser(REMOTE_ADDR="203.0.113.9")), phone.code(500), status=422)
    assert told(site) == [SUBJECTS["second_failed"]]


def test_a_login_in_two_steps_on_a_new_device_is_told_when_it_is_complete(
    site: MailSite, owner: webtest.TestApp
) -> None:
    phone, _ = set_up(owner)
    site.deliver()
    other = begin(site.open_browser())
    assert told(site) == []
    type_code(other, phone.code())
    assert told(site) == [SUBJECTS["new_device"]]


def test_turning_the_second_factor_on_or_off_ends_other_sessions_and_links(
    site: MailSite, owner: webtest.TestApp
) -> None:
    other = site.open_browser()
    log_in(other)
    site.ask("/forgot")
    link = site.deliver_link()
    phone, _ = set_up(owner)
    assert (is_logged_in(owner), is_logged_in(other)) == (True, False)
    site.open_browser().get(link, status=404)
    type_code(begin(other), phone.code())
    site.deliver()
    site.ask("/forgot")
    link = site.deliver_link()
    answer = send(owner, "/account/totp/remove")
    assert "Logins take one step again" in answer.follow()
    assert (is_logged_in(owner), is_logged_in(other)) == (True, False)
    site.open_browser().get(link, status=404)
    assert log_in(other).location == "http://localhost/account"


def change_address(site: MailSite, browser: webtest.TestApp, address: str) -> str:
    """Change the account's address by a link, and return the link that undoes it."""
    use(browser, "/account/profile", email=address)
    use(browser, site.deliver_link(address))
    return site.deliver_link(EMAIL)


def test_an_undone_change_of_the_address_removes_an_app_that_was_added_after_it(
    site: MailSite, owner: webtest.TestApp
) -> None:
    undo = change_address(site, owner, "thief@example.org")
    set_up(owner)
    use(site.open_browser(), undo, password=NEW_PASSWORD)
    assert log_in(site.open_browser(), password=NEW_PASSWORD).location.endswith("/account")
    assert not is_logged_in(owner)


def test_an_undone_change_of_the_address_keeps_an_app_that_was_added_before_it(
    site: MailSite, owner: webtest.TestApp
) -> None:
    phone, _ = set_up(owner)
    site.deliver()
    undo = change_address(site, owner, "ada@example.org")
    use(site.open_browser(), undo, password=NEW_PASSWORD)
    browser = site.open_browser()
    assert log_in(browser, password=NEW_PASSWORD).location.endswith("/login/second")
    type_code(browser, phone.code())


def test_a_password_reset_keeps_the_second_factor(site: MailSite, owner: webtest.TestApp) -> None:
    phone, _ = set_up(owner)
    site.ask("/forgot")
    (link,) = re.findall(r"/link/\S+", "".join(text_of(each) for each in site.deliver()))
    use(site.open_browser(), link, password=NEW_PASSWORD)
    browser = site.open_browser()
    assert log_in(browser, password=NEW_PASSWORD).location.endswith("/login/second")
    type_code(browser, phone.code())


# Setting an app up


def secret_on(page: Any) -> str:
    """Return the secret that the page shows."""
    return str(page.html.find(class_="secret").get_text())


def has_factor(browser: webtest.TestApp) -> bool:
    """Return whether the account page says that a login takes two steps."""
    return "each login needs a code" in browser.get("/account")


@pytest.mark.parametrize(("steps", "message"), [(500, WRONG), (5, CLOCK)])
def test_the_page_keeps_its_secret_after_a_wrong_code(
    browser: webtest.TestApp, steps: int, message: str
) -> None:
    register(browser)
    page = browser.get("/account/totp")
    phone = Phone(secret_on(page))
    again = type_first_code(page, phone.code(steps))
    assert message in error_of(again, "code")
    assert secret_on(again) == secret_on(page)
    assert not has_factor(browser)
    type_first_code(again, phone.code(), status=200)
    assert has_factor(browser)


def test_each_opened_page_has_a_secret_of_its_own_and_any_of_them_can_be_used(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(browser)
    pages = [browser.get("/account/totp") for _ in range(2)]
    phones = [Phone(secret_on(page)) for page in pages]
    assert phones[0].secret != phones[1].secret
    type_first_code(pages[0], phones[1].code())
    type_first_code(pages[0], phones[0].code(), status=200)
    other = begin(open_browser())
    type_code(other, phones[1].code(1), status=422)
    type_code(other, phones[0].code(1))


def test_a_page_that_is_older_than_an_hour_gets_a_new_secret_and_says_so(
    browser: webtest.TestApp, clock: Clock
) -> None:
    register(browser)
    page = browser.get("/account/totp")
    clock.tick(120)
    page = type_first_code(page, Phone(secret_on(page)).code(500))
    assert WRONG in error_of(page, "code")  # at an hour, the secret is still the same
    clock.tick()
    again = type_first_code(page, Phone(secret_on(page)).code())
    assert "open for too long, so it shows another QR code" in error_of(again, "code")
    assert secret_on(again) != secret_on(page)
    assert not has_factor(browser)
    type_first_code(again, Phone(secret_on(again)).code(), status=200)


def test_the_secret_of_somebody_elses_page_is_refused(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(browser)
    grace = open_browser()
    register(grace, email="grace@example.com")
    graces_page = grace.get("/account/totp")
    page = browser.get("/account/totp")
    page.forms[1]["setup"] = graces_page.forms[1]["setup"].value
    answer = type_first_code(page, Phone(secret_on(graces_page)).code())
    assert secret_on(answer) not in (secret_on(page), secret_on(graces_page))
    assert not has_factor(browser)


@pytest.mark.parametrize(
    "setup", ["", "x", "\u00e9\u65e5", "gAAAAA==", "A" * 500, "A" * 501, "A" * 9_000, "%00 \t"]
)
def test_a_changed_secret_of_the_page_is_replaced(browser: webtest.TestApp, setup: str) -> None:
    register(browser)
    page = browser.get("/account/totp")
    sealed = page.forms[1]["setup"].value
    for value in (setup, sealed[:-8], sealed[:50] + setup[:1] + sealed[51:]):
        if value == sealed:
            continue
        page.forms[1]["setup"] = value
        answer = type_first_code(page, Phone(secret_on(page)).code())
        assert "shows another QR code" in error_of(answer, "code")
        assert secret_on(answer) != secret_on(page)
    assert not has_factor(browser)


def test_a_form_without_a_secret_gets_a_new_one(browser: webtest.TestApp) -> None:
    register(browser)
    page = browser.get("/account/totp")
    fields = {"csrf_token": csrf_token(browser), "code": Phone(secret_on(page)).code()}
    answer = browser.post("/account/totp", fields, status=422)
    assert "shows another QR code" in error_of(answer, "code")
    set_up(browser)


NO_CODES = [
    "",
    " - ",
    "12345",
    "1234567",
    "\u0661\u0662\u0663\u0664\u0665\u0666",
    "\u00df" * 60,
    "A" * 25,
    "1" * 101,
    "1 " * 4_000,
    "'; --",
]


def test_text_that_is_no_code_is_refused_with_an_error_and_not_counted(
    ada: Person, open_browser: OpenBrowser
) -> None:
    new = open_browser()
    register(new, email="grace@example.com")
    page = new.get("/account/totp")
    half = begin(open_browser())
    for code in NO_CODES:
        assert error_of(type_first_code(page, code), "code")
        assert error_of(type_code(half, code, status=422), "code")
    assert "Failed attempts" not in ada.browser.get("/account")
    type_code(half, ada.phone.code())


def test_a_recovery_code_sets_no_app_up(browser: webtest.TestApp) -> None:
    register(browser)
    page = type_first_code(browser.get("/account/totp"), "A" * 24)
    assert "A code of the app has 6 digits" in error_of(page, "code")


def test_a_form_that_is_sent_twice_sets_one_app_up(browser: webtest.TestApp) -> None:
    register(browser)
    page = browser.get("/account/totp")
    phone = Phone(secret_on(page))
    codes = recovery_codes_on(type_first_code(page, phone.code(), status=200))
    page.forms[1]["csrf_token"] = csrf_token(browser)
    again = type_first_code(page, phone.code())
    assert "The second step is on" in again
    assert recovery_codes_on(again) == []
    log_out(browser)
    type_code(begin(browser), codes[0])


def test_a_form_that_is_sent_twice_at_once_sets_one_app_up(
    site: MailSite, owner: webtest.TestApp
) -> None:
    page = owner.get("/account/totp")
    form = page.forms[1]
    form["code"] = Phone(secret_on(page)).code()
    answers = site.run_at_once(*[lambda: form.submit(status="*")] * 2)
    assert sorted(answer.status_int for answer in answers) == [200, 303]
    (codes,) = [recovery_codes_on(each) for each in answers if each.status_int == 200]
    assert site.execute("SELECT count(*) FROM recovery_codes") == [(10,)]
    assert told(site) == [SUBJECTS["factor_added"]]
    log_out(owner)
    type_code(begin(owner), codes[0])


def test_with_mail_the_address_must_be_confirmed_before_an_app_is_set_up(
    site: MailSite, owner: webtest.TestApp
) -> None:
    earlier = owner.get("/account/totp")
    site.execute("UPDATE users SET confirmed_at = NULL")
    page = owner.get("/account/totp")
    assert "first, by the link in a mail" in page
    assert page.html.find(class_="secret") is None
    refused = type_first_code(earlier, Phone(secret_on(earlier)).code())
    assert "first, by the link in a mail" in refused
    assert not has_factor(owner)
    page.forms[1].submit(status=303)
    use(owner, site.deliver_link())
    set_up(owner)
    assert has_factor(owner)


def test_an_account_with_an_app_shows_neither_its_secret_nor_a_form(ada: Person) -> None:
    page = ada.browser.get("/account/totp")
    assert "The second step is on" in page
    assert page.html.find(class_="secret") is None
    assert list(page.html.find_all("input", id="code")) == []


def test_turning_the_second_factor_off_twice_changes_nothing_more(ada: Person) -> None:
    for message in ("Logins take one step again", "Nothing was changed: your logins take one step"):
        assert message in send(ada.browser, "/account/totp/remove").follow()


def test_no_page_with_a_secret_or_a_code_is_kept_in_a_cache(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(browser)
    page = browser.get("/account/totp")
    codes = type_first_code(page, Phone(secret_on(page)).code(), status=200)
    step = begin(open_browser()).get("/login/second")
    for each in (page, codes, step):
        assert each.headers["Cache-Control"] == "no-store"


def test_changes_of_the_second_factor_are_rate_limited(ada: Person) -> None:
    for _ in range(19):  # The set-up was the first.
        send(ada.browser, "/account/recovery-codes", status=200)
    page = send(ada.browser, "/account/recovery-codes", status=429)
    assert 1 <= int(page.headers["Retry-After"]) <= 60
    send(ada.browser, "/account/totp/remove", status=429)
    assert has_factor(ada.browser)


def test_set_ups_are_rate_limited(browser: webtest.TestApp) -> None:
    register(browser)
    page = browser.get("/account/totp")
    for _ in range(20):
        type_first_code(page, "000000")
    page = type_first_code(page, Phone(secret_on(page)).code(), status=429)
    assert "Retry-After" in page.headers
    assert not has_factor(browser)


# Re-authentication


def confirm_with(ada: Person, code: str, *, status: int, query: str = "") -> Any:
    """Type the password and a code on the page that asks for both."""
    form = ada.browser.get(f"/account/confirm{query}").forms[1]
    form["current"] = PASSWORD
    form["code"] = code
    return form.submit(status=status)


def test_reauthentication_asks_for_a_code_too(ada: Person) -> None:
    page = confirm_with(ada, ada.phone.code(500), status=422)
    assert WRONG in error_of(page, "code")
    confirm_with(ada, ada.phone.code(), status=303)
    assert USED in error_of(confirm_with(ada, ada.phone.code(), status=422), "code")


def test_reauthentication_takes_a_recovery_code(ada: Person) -> None:
    page = ada.browser.get("/account/confirm?with=recovery")
    assert "inputmode" not in page.html.find(id="code").attrs
    query = "?with=recovery"
    confirm_with(ada, ada.recovery_codes[0], status=303, query=query)
    page = confirm_with(ada, ada.recovery_codes[0], status=422, query=query)
    assert "This recovery code is wrong, or was used before" in error_of(page, "code")


# Races


def prepare(browser: webtest.TestApp, path: str, **typed: str) -> Callable[[], Any]:
    """Fill in the last form of the page; return a function that sends it."""
    return partial(fill_in(browser, path, **typed).submit, status="*")


@pytest.mark.parametrize(
    "path", ["/account/totp", "/account/totp/remove", "/account/recovery-codes"]
)
def test_nothing_is_changed_in_a_session_that_is_ended_meanwhile(
    site: MailSite, owner: webtest.TestApp, path: str
) -> None:
    other = site.open_browser()
    if path == "/account/totp":
        log_in(other)
        change = owner.get(path).forms[1]
        change["code"] = Phone(secret_on(change.response)).code()
    else:
        phone, _ = set_up(owner)
        type_code(begin(other), phone.code())
        change = owner.get(path).forms[1]
    before = site.execute("SELECT id FROM recovery_codes ORDER BY id")
    ended, changed = site.run_at_once(
        prepare(other, "/account/sessions/end?session=others"),
        partial(change.submit, status="*"),
    )
    assert (ended.status_int, changed.status_int) == (303, 303)
    assert site.execute("SELECT id FROM recovery_codes ORDER BY id") == before
    assert not is_logged_in(owner)
    assert has_factor(other) == bool(before)


@pytest.mark.parametrize("code_is_first", [True, False])
def test_a_code_and_a_new_password_at_once_leave_no_session_with_the_old_password(
    site: MailSite, owner: webtest.TestApp, code_is_first: bool
) -> None:
    phone, _ = set_up(owner)
    stranger = begin(site.open_browser())
    form = stranger.get("/login/second").forms[0]
    form["code"] = phone.code()
    code = partial(form.submit, status="*")
    typed = {"current": PASSWORD, "password": NEW_PASSWORD}
    change = prepare(owner, "/account/password", **typed)
    answers = site.run_at_once(*((code, change) if code_is_first else (change, code)))
    assert [each.status_int for each in answers] == [303, 303]
    assert (is_logged_in(owner), is_logged_in(stranger)) == (True, False)
    log_in(stranger, password=PASSWORD, status=422)


@pytest.mark.parametrize("login_is_first", [True, False])
def test_a_login_and_the_setup_of_an_app_at_once_leave_no_session_without_a_code(
    site: MailSite, owner: webtest.TestApp, login_is_first: bool
) -> None:
    page = owner.get("/account/totp")
    page.forms[1]["code"] = Phone(secret_on(page)).code()
    turn_on = partial(page.forms[1].submit, status="*")
    stranger = site.open_browser()
    login = partial(log_in, stranger)
    answers = site.run_at_once(*((login, turn_on) if login_is_first else (turn_on, login)))
    assert sorted(each.status_int for each in answers) == [200, 303]
    assert (is_logged_in(owner), is_logged_in(stranger)) == (True, False)
    assert site.execute("SELECT count(*) FROM sessions") == [(1,)]


# Recovery codes


@pytest.mark.parametrize(
    "write",
    [
        str,
        str.lower,
        lambda code: code.replace("-", ""),
        lambda code: f" {code.replace('-', ' - ')}\t",
        lambda code: " ".join(code.replace("-", "").lower()),
    ],
)
def test_blanks_hyphens_and_case_of_a_recovery_code_do_not_matter(
    ada: Person, open_browser: OpenBrowser, write: Callable[[str], str]
) -> None:
    for page in ("/login/second", "/login/second?with=recovery"):
        code = write(ada.recovery_codes.pop())
        type_code(begin(open_browser()), code, page=page)
        other = begin(open_browser())
        assert WRONG in error_of(type_code(other, code, page=page, status=422), "code")


def test_recovery_codes_are_shown_once(ada: Person) -> None:
    for path in ("/account/recovery-codes", "/account", "/account/totp"):
        page = ada.browser.get(path)
        for code in ada.recovery_codes:
            assert code not in page
            assert code.replace("-", "") not in page
    assert "You have 10 recovery codes left" in ada.browser.get("/account/recovery-codes")


def test_new_recovery_codes_end_the_earlier_ones(ada: Person, open_browser: OpenBrowser) -> None:
    new = recovery_codes_on(send(ada.browser, "/account/recovery-codes", status=200))
    assert len(new) == 10
    assert not set(new) & set(ada.recovery_codes)
    browser = begin(open_browser())
    assert WRONG in error_of(type_code(browser, ada.recovery_codes[0], status=422), "code")
    type_code(browser, new[0])


def test_a_recovery_code_of_another_account_is_refused(
    ada: Person, open_browser: OpenBrowser
) -> None:
    grace = open_browser()
    register(grace, email="grace@example.com")
    _, graces_codes = set_up(grace)
    page = type_code(begin(open_browser()), graces_codes[0], status=422)
    assert WRONG in error_of(page, "code")
    log_out(grace)
    log_in(grace, email="grace@example.com")
    type_code(grace, graces_codes[0])
    assert "You have 10 recovery codes left" in ada.browser.get("/account/recovery-codes")


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (4, None),
        (3, "You have 3 recovery codes left."),
        (1, "You have 1 recovery code left. Make new ones"),
        (0, "You have no recovery codes left. Make new ones"),
    ],
)
def test_a_login_tells_when_few_recovery_codes_are_left(
    ada: Person, open_browser: OpenBrowser, db: Connection, left: int, words: str | None
) -> None:
    with db.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM recovery_codes
             WHERE id NOT IN (SELECT id
                                FROM recovery_codes
                               LIMIT %s)
            """,
            [left],
        )
    page = type_code(begin(open_browser()), ada.phone.code()).follow()
    shown = page.html.find(class_="flash")
    assert (shown and words and words in shown.get_text()) or shown is words


def test_a_login_with_a_recovery_code_tells_how_many_are_left(
    ada: Person, open_browser: OpenBrowser
) -> None:
    page = type_code(begin(open_browser()), ada.recovery_codes[0]).follow()
    assert "You have 9 recovery codes left." in page


def test_an_account_without_a_factor_makes_no_recovery_codes(browser: webtest.TestApp) -> None:
    register(browser)
    answer = browser.get("/account/recovery-codes", status=303)
    assert "Nothing was changed: your logins take one step" in answer.follow()
    token = csrf_token(browser)
    browser.post("/account/recovery-codes", {"csrf_token": token}, status=303)
    assert "codes were made" not in browser.get("/account")


# Secrets


OTHER_KEY = "another-secret-key-of-the-tests-quite-long-enough"


def test_a_login_is_refused_if_the_secret_cannot_be_decrypted_and_nothing_is_lost(
    ada: Person, open_browser: OpenBrowser, ini: MakeIni, caplog: pytest.LogCaptureFixture
) -> None:
    other_site = hello_login.main({}, **ini(secret_key=OTHER_KEY))
    browser = begin(open_browser(other_site))
    for _ in range(6):  # more often than wrong codes are allowed
        page = type_code(browser, ada.phone.code(), status=503)
        assert "We can't check codes of the app at the moment" in error_of(page, "code")
    assert not is_logged_in(browser)
    errors = [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(errors) == 6
    assert "can't be decrypted: add the key to SECRET_KEY" in errors[0].getMessage()
    type_code(browser, ada.recovery_codes[0])
    assert is_logged_in(browser)
    assert "Failed attempts" not in browser.get("/account")
    type_code(begin(open_browser()), ada.phone.code())


def test_a_login_works_while_the_earlier_key_is_listed(
    ada: Person, open_browser: OpenBrowser, ini: MakeIni
) -> None:
    both = hello_login.main({}, **ini(secret_key=f"{OTHER_KEY},{SECRET_KEY}"))
    type_code(begin(open_browser(both)), ada.phone.code())


def as_stored(text: str) -> set[str]:
    """Return the text, and what a dump shows if it is stored as bytes."""
    return {text, text.encode().hex(), base64.b64encode(text.encode()).decode().rstrip("=")}


def test_no_secret_and_no_code_is_in_a_dump_or_in_the_log(
    site: MailSite, owner: webtest.TestApp, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    page = owner.get("/account/totp")
    sealed = page.forms[1]["setup"].value
    phone = Phone(secret_on(page))
    typed = [phone.code(), phone.code(500), phone.code(5), phone.code(1)]
    codes = recovery_codes_on(type_first_code(page, typed[0], status=200))
    browser = begin(site.open_browser())
    tokens = [half_login_token(browser)]
    for code in (*typed[:3], "ABCD" * 6):
        type_code(browser, code, status=422)
    type_code(browser, typed[3])
    log_out(browser)
    tokens.append(half_login_token(begin(browser)))
    type_code(browser, codes[0])
    codes += recovery_codes_on(send(owner, "/account/recovery-codes", status=200))
    tokens.append(half_login_token(begin(site.open_browser())))
    clock.tick()
    dump = site.dump()
    logged = "\n".join(f"{vars(each)} {each.getMessage()}" for each in caplog.records)
    assert "second_failed" in dump
    assert "second_failed" in logged
    raw = base64.b32decode(phone.secret)
    secrets = {
        *as_stored(phone.secret),
        *as_stored(secret_on(page)),
        *as_stored(sealed),
        raw.hex(),
        base64.b64encode(raw).decode().rstrip("="),
        repr(raw)[2:-1],
        *(each for token in tokens for each in as_stored(token)),
        *(each for code in codes for each in as_stored(code)),
        *(each for code in codes for each in as_stored(code.replace("-", ""))),
        "ABCD" * 6,
    }
    for text in (dump, logged):
        assert not {secret for secret in secrets if secret in text}
        for code in typed:  # other numbers may contain these digits
            assert not re.search(rf"(?<![\w.:-]){code}(?![\w.:-])", text)
