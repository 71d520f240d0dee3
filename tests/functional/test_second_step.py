"""Logins in two steps, as people use them."""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
import webtest
from psycopg2.extensions import connection as Connection
from pyramid.request import apply_request_extensions

from hello_login.auth import accounts, links, rate_limits, second_factor
from tests.conftest import OpenBrowser
from tests.functional.authenticator import (
    CLOCK,
    USED,
    WRONG,
    Clock,
    Person,
    begin,
    half_login_token,
    is_logged_in,
    set_up,
    type_code,
)
from tests.functional.mail_site import WAITING_FOR_LOCKS, MailSite, use
from tests.functional.software_key import without_challenge
from tests.people import (
    NEW_PASSWORD,
    STYLESHEET,
    change_password,
    csrf_token,
    error_of,
    form_error_of,
    log_in,
    log_out,
    register,
    send,
)
from tests.visitor import Visitor

LOGIN_EXPIRED = "That login took too long, or was ended. Log in again."

pytestmark = pytest.mark.usefixtures("clock")


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
    assert "<dd>10 left</dd>" in browser.get("/account").text
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


def test_the_code_that_added_the_app_is_used_up(ada: Person, open_browser: OpenBrowser) -> None:
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


# The pages that a half login opens


def paths_of(app: Any, token: str) -> list[str]:
    """Return a path of each route."""
    routes = app.registry.introspector.get_category("routes")
    patterns = [route["introspectable"]["pattern"] for route in routes]
    return [
        STYLESHEET
        if "static" in pattern or "*" in pattern
        else pattern.format(token=token, passkey="0" * 12)
        for pattern in patterns
    ]


def without_random_values(browser: webtest.TestApp, answer: Any) -> tuple[Any, ...]:
    """Return what an answer says, without the CSRF token, the challenge and the request's id."""
    text = without_challenge(answer.text)
    text = text.replace(browser.cookies.get("csrf_token", "no token"), "")
    text = re.sub('(?<=name="csrf_token" value=")[^"]*', "", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "", text)
    cookies = sorted(each.partition("=")[0] for each in answer.headers.getall("Set-Cookie"))
    return answer.status_int, answer.location, text, cookies


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_half_login_opens_no_page_that_an_anonymous_browser_cannot_see(
    ada: Person, app: Any, open_browser: OpenBrowser, accept: str
) -> None:
    half = begin(open_browser(HTTP_ACCEPT="text/html"))
    anonymous = open_browser()
    anonymous.get("/login")
    paths = paths_of(app, half_login_token(half))
    assert len(paths) > 23
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


@pytest.mark.parametrize("name", ["session", "device", "csrf_token", "flash"])
def test_the_half_login_cookie_is_not_accepted_as_another_cookie(
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


def test_no_other_cookie_is_accepted_as_a_half_login(
    ada: Person, open_browser: OpenBrowser
) -> None:
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


def test_the_token_of_a_half_login_is_not_accepted_as_a_link(
    ada: Person, open_browser: OpenBrowser
) -> None:
    half = begin(open_browser())
    assert ada.recovery_codes
    for token in (half_login_token(half), half.cookies["half_login"]):
        open_browser().get(f"/link/{token}", status=404)


def test_in_production_a_half_login_is_bound_to_its_cookie_and_is_not_a_session(
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


# The end of a half login


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
def test_a_half_login_ends_with(
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
def test_of_two_hundred_wrong_codes_in_fifty_half_logins_five_per_network_are_checked(
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
    assert form_error_of(page).startswith("Too many wrong codes. For ")
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
    assert "no code of the app is accepted here any more. Use a passkey or a recovery code" in page
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
