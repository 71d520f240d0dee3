"""The authenticator app and the recovery codes of an account, as people use them."""

import base64
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.web.forms import ConfirmForm
from tests.conftest import SECRET_KEY, MakeIni, OpenBrowser
from tests.functional.authenticator import (
    CLOCK,
    USED,
    WRONG,
    Clock,
    Person,
    Phone,
    begin,
    half_login_token,
    is_logged_in,
    recovery_codes_on,
    set_up,
    type_code,
    type_first_code,
)
from tests.functional.mail_site import (
    MailSite,
    fill_in,
    text_of,
    use,
)
from tests.people import (
    EMAIL,
    NEW_PASSWORD,
    PASSWORD,
    csrf_token,
    error_of,
    log_in,
    log_out,
    register,
    send,
)

SECOND_FAILED = "Somebody typed the right password, and then used a wrong code or passkey"
HAS_APP = "You have an authenticator app here"

pytestmark = pytest.mark.usefixtures("clock")


# Notices to the owner


def told(site: MailSite) -> list[str]:
    """Send the mails that are due to Ada, and return their subjects."""
    messages = site.deliver()
    assert {message["To"] for message in messages} <= {EMAIL}
    return [str(message["Subject"]) for message in messages]


SUBJECTS = {
    "factor_added": "An authenticator app was added to your account",
    "factor_removed": "The authenticator app was removed from your account",
    "codes_made": "New recovery codes were made",
    "code_used": "A recovery code was used",
    "second_failed": "A login without the second step",
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
        "An authenticator app was added",
        "You used a recovery code",
        "New recovery codes were made",
        "The authenticator app was removed",
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
    assert SECOND_FAILED in page
    assert "Unknown device, 203.0.113.4" in page
    for minutes, subjects in ((59, []), (1, [SUBJECTS["second_failed"]])):
        site.execute(
            "UPDATE users SET told_of_failure_at = told_of_failure_at - %s * interval '1 minute'",
            minutes,
        )
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
    assert SECOND_FAILED in owner.get("/account")


def test_the_owner_is_told_of_a_wrong_code_after_a_slip_on_a_known_device(
    site: MailSite, owner: webtest.TestApp
) -> None:
    phone, _ = set_up(owner)
    site.deliver()
    log_out(owner)
    type_code(begin(owner), phone.code(500), status=422)
    type_code(begin(site.open_browser(REMOTE_ADDR="203.0.113.9")), phone.code(500), status=422)
    assert told(site) == [SUBJECTS["second_failed"]]


def test_the_owner_is_told_of_a_login_on_a_new_device_after_its_second_step(
    site: MailSite, owner: webtest.TestApp
) -> None:
    phone, _ = set_up(owner)
    site.deliver()
    other = begin(site.open_browser())
    assert told(site) == []
    type_code(other, phone.code())
    assert told(site) == [SUBJECTS["new_device"]]


def test_adding_or_removing_an_app_ends_other_sessions_and_links(
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
    assert "The app is removed" in answer.follow()
    assert (is_logged_in(owner), is_logged_in(other)) == (True, False)
    site.open_browser().get(link, status=404)
    assert log_in(other).location == "http://localhost/account"


def change_address(site: MailSite, browser: webtest.TestApp, address: str) -> str:
    """Change the account's address by a link, and return the link that undoes it."""
    use(browser, "/account/profile", email=address)
    use(browser, site.deliver_link(address))
    return site.deliver_link(EMAIL)


@pytest.mark.parametrize("added_first", [True, False])
def test_an_undone_change_of_the_address_removes_an_app_that_was_added_after_it_or_just_before(
    site: MailSite, owner: webtest.TestApp, added_first: bool
) -> None:
    if added_first:
        set_up(owner)
        site.execute("UPDATE totp SET created_at = created_at - interval '167 hours'")
        site.deliver()
    undo = change_address(site, owner, "thief@example.org")
    if not added_first:
        set_up(owner)
    use(site.open_browser(), undo, password=NEW_PASSWORD)
    assert log_in(site.open_browser(), password=NEW_PASSWORD).location.endswith("/account")
    assert not is_logged_in(owner)


def test_an_undone_change_of_the_address_keeps_an_app_that_was_added_a_week_before_it(
    site: MailSite, owner: webtest.TestApp
) -> None:
    phone, _ = set_up(owner)
    site.execute("UPDATE totp SET created_at = created_at - interval '7 days'")
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
    return "Your password alone is not enough to log in" in browser.get("/account")


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


def test_text_that_is_not_a_code_is_refused_with_an_error_and_not_counted(
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


def test_a_recovery_code_does_not_set_up_an_app(browser: webtest.TestApp) -> None:
    register(browser)
    page = type_first_code(browser.get("/account/totp"), "A" * 24)
    assert "A code of the app has 6 digits" in error_of(page, "code")


def test_the_page_with_the_recovery_codes_of_a_new_app_says_that_it_was_added(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    page = browser.get("/account/totp")
    added = type_first_code(page, Phone(secret_on(page)).code(), status=200)
    expected = "The app is added, and all your other sessions have ended."
    assert added.html.find(role="status").get_text() == expected
    form = browser.get("/account/recovery-codes").forms[1]
    assert form.submit(status=200).html.find(role="status") is None


def test_a_form_that_is_sent_twice_sets_one_app_up(browser: webtest.TestApp) -> None:
    register(browser)
    page = browser.get("/account/totp")
    phone = Phone(secret_on(page))
    codes = recovery_codes_on(type_first_code(page, phone.code(), status=200))
    page.forms[1]["csrf_token"] = csrf_token(browser)
    again = type_first_code(page, phone.code())
    assert HAS_APP in again
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
    assert HAS_APP in page
    assert page.html.find(class_="secret") is None
    assert list(page.html.find_all("input", id="code")) == []


def test_removing_the_app_twice_changes_nothing_more(ada: Person) -> None:
    for message in ("The app is removed", "Nothing was changed: you have no authenticator app"):
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


def confirm_without_code(ada: Person) -> Any:
    """Send the form that asks for the password and a code, without the field of the code."""
    form = ada.browser.get("/account/confirm").forms[1]
    values = {"csrf_token": form["csrf_token"].value, "current": PASSWORD}
    return ada.browser.post("/account/confirm", values, status=422)


def test_reauthentication_without_a_code_is_refused(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Type the code." in error_of(confirm_without_code(ada), "code")
    # The form is not the only one to refuse it.
    monkeypatch.setattr(ConfirmForm, "validate", lambda _: True)
    assert WRONG in error_of(confirm_without_code(ada), "code")


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
