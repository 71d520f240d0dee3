"""Mail: registration by a link, forgotten passwords, changes of an address, and notices."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import webtest

import hello_login
from hello_login.auth import sessions
from hello_login.auth.rate_limits import RateLimiter
from hello_login.db import transactions
from hello_login.repositories import mails
from tests.conftest import MakeIni, OpenBrowser
from tests.functional.mail_site import (
    MailSite,
    ask_in,
    ask_to_confirm,
    change_address,
    fill_in,
    last_form,
    link_of,
    text_of,
    use,
)
from tests.functional.round_trips import RoundTrips
from tests.functional.software_key import SoftwareKey, add_passkey, use_passkey
from tests.people import (
    EMAIL,
    NEW_PASSWORD,
    PASSWORD,
    change_password,
    error_of,
    log_in,
    log_out,
    register,
)

NEW_ADDRESS = "countess@example.com"
EXPIRED = "This link no longer works"


@pytest.fixture(scope="module")
def shared_site(
    shared_url: str, ini: MakeIni, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MailSite]:
    """Yield a site with mail; on a loaded machine, a race may wait for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactions, "LOCK_TIMEOUT_SECONDS", 30)
        patch.setattr(transactions, "STATEMENT_TIMEOUT_SECONDS", 60)
        yield MailSite(ini, shared_url, tmp_path_factory.mktemp("mail"))


@pytest.fixture
def site(shared_site: MailSite) -> MailSite:
    """Return the site without accounts and mails."""
    shared_site.empty()
    return shared_site


@pytest.fixture
def browser(site: MailSite) -> webtest.TestApp:
    """Return a browser in which Ada has registered and is logged in."""
    browser = site.open_browser()
    site.register(browser)
    return browser


def subjects(site: MailSite) -> list[tuple[str, str]]:
    """Send the mails that are due, and return their recipients and subjects."""
    return [(str(each["To"]), str(each["Subject"])) for each in site.deliver()]


def expire_links(site: MailSite) -> None:
    site.execute("UPDATE tokens SET expires_at = now() - interval '1 second'")


# Registration


def test_a_link_in_a_mail_registers_a_confirmed_address_and_logs_in(site: MailSite) -> None:
    page = site.ask("/register", "Ada@EXAMPLE.com")
    assert "Ada@example.com" in page.html.find("strong")
    link = site.deliver_link("Ada@example.com")
    browser = site.open_browser()  # not the one that has asked
    shown = browser.get(link)
    assert "Ada@example.com" in shown
    answer = use(browser, link, name="Ada", password=PASSWORD)
    assert answer.location == "http://localhost/account"
    account = answer.follow()
    assert "Welcome!" in account
    assert "not confirmed" not in account
    assert site.execute("SELECT email FROM users WHERE confirmed_at IS NOT NULL") == [
        ("Ada@example.com",)
    ]
    assert site.deliver() == []  # no notice of a new device either


def test_registration_by_a_link_has_the_rules_of_the_full_form(site: MailSite) -> None:
    site.ask("/register")
    link = site.deliver_link()
    browser = site.open_browser()
    assert "too short" in error_of(use(browser, link, status=422, password="short"), "password")
    answer = use(browser, link, status=422, name="", password=f"{EMAIL}1")
    assert "address" in error_of(answer, "password")
    assert "Type your name" in error_of(answer, "name")
    use(browser, link, name="Ada", password=PASSWORD)


def test_a_link_of_an_address_that_was_registered_meanwhile_has_expired(site: MailSite) -> None:
    site.ask("/register")
    first = site.deliver_link()
    site.ask("/register")
    second = site.deliver_link()
    use(site.open_browser(), first, name="Ada", password=PASSWORD)
    assert EXPIRED in use(site.open_browser(), second, status=404, name="A", password=NEW_PASSWORD)
    log_in(site.open_browser())


def test_a_registration_by_a_link_ends_the_session_of_another_account(
    site: MailSite, browser: webtest.TestApp
) -> None:
    ask = site.ask("/register", "grace@example.com")
    assert "Check your mail" in ask
    use(browser, site.deliver_link("grace@example.com"), name="Grace", password=PASSWORD)
    assert "Grace" in browser.get("/account")
    assert site.execute(
        "SELECT users.name FROM sessions JOIN users ON users.id = sessions.user_id"
    ) == [("Grace",)]


def test_a_browser_that_is_logged_in_is_not_asked_to_register(browser: webtest.TestApp) -> None:
    assert browser.get("/register", status=303).location == "http://localhost/account"


@pytest.mark.usefixtures("browser")
def test_the_owner_of_a_registered_address_is_told_who_wants_to_register_it(site: MailSite) -> None:
    site.ask("/register")
    (message,) = site.deliver()
    assert message["Subject"] == "You have an account already"
    assert "http://localhost/forgot" in text_of(message)
    assert "/link/" not in text_of(message)


@pytest.mark.usefixtures("browser")
def test_the_owner_of_a_deactivated_account_is_told_whom_to_ask(site: MailSite) -> None:
    site.execute("UPDATE users SET deactivated_at = now()")
    site.ask("/register")
    (message,) = site.deliver()
    assert "Ask the operator" in text_of(message)
    assert "http://localhost/forgot" not in text_of(message)


# A forgotten password


def test_a_request_for_a_mail_deletes_expired_rate_limits(
    site: MailSite,
) -> None:
    site.execute(
        "INSERT INTO throttles (key, forget_at) VALUES (sha256(''), now() - interval '1 day')"
    )
    site.ask("/forgot")
    assert site.execute("SELECT FROM throttles WHERE forget_at < now()") == []


def test_a_reset_sets_the_password_and_ends_all_sessions_and_does_not_log_in(
    site: MailSite, browser: webtest.TestApp
) -> None:
    site.ask("/forgot")
    reset = site.open_browser()
    answer = use(reset, site.deliver_link(), password=NEW_PASSWORD)
    assert answer.location == "http://localhost/login"
    assert "Your new password is set" in answer.follow()
    assert reset.get("/account", status=303).location.startswith("http://localhost/login")
    assert browser.get("/account", status=303).location.startswith("http://localhost/login")
    log_in(site.open_browser(), password=PASSWORD, status=422)
    log_in(site.open_browser(), password=NEW_PASSWORD)


def test_a_reset_refuses_a_password_against_the_rules_and_can_be_tried_again(
    site: MailSite, browser: webtest.TestApp
) -> None:
    site.ask("/forgot")
    link = site.deliver_link()
    assert "too short" in error_of(use(browser, link, status=422, password="short"), "password")
    refused = use(browser, link, status=422, password=f"{EMAIL}1")
    assert "address" in error_of(refused, "password")
    use(browser, link, password=NEW_PASSWORD)


def test_a_reset_voids_every_other_link_and_every_waiting_mail_with_one(
    site: MailSite, browser: webtest.TestApp
) -> None:
    change_address(browser, NEW_ADDRESS)
    change = site.deliver_link(NEW_ADDRESS)
    site.ask("/forgot")
    site.ask("/forgot")
    first, second = [link_of(each) for each in site.deliver()]
    change_address(browser, "thief@example.com")
    use(site.open_browser(), first, password=NEW_PASSWORD)
    assert "thief@example.com" not in [recipient for recipient, _ in subjects(site)]
    for link in (first, second, change):
        assert EXPIRED in site.open_browser().get(link, status=404)


def test_a_changed_password_voids_the_links_for_another_one(
    site: MailSite, browser: webtest.TestApp
) -> None:
    site.ask("/forgot")
    link = site.deliver_link()
    change_password(browser)
    site.open_browser().get(link, status=404)


@pytest.mark.usefixtures("browser")
def test_a_reset_ends_the_waits_of_the_account(site: MailSite) -> None:
    for _ in range(5):
        log_in(site.open_browser(), password="a wrong one", status=422)
    log_in(site.open_browser(), status=429)
    site.ask("/forgot")
    use(site.open_browser(), site.deliver_link(), password=NEW_PASSWORD)
    log_in(site.open_browser(), password=NEW_PASSWORD)


@pytest.mark.usefixtures("browser")
def test_a_reset_link_goes_to_the_address_of_the_account_and_not_to_what_was_typed(
    site: MailSite,
) -> None:
    site.ask("/forgot", EMAIL.replace("ada", "ADA"))
    site.ask("/register", EMAIL.replace("ada", "ADA"))
    assert [recipient for recipient, _ in subjects(site)] == [EMAIL, EMAIL]


@pytest.mark.usefixtures("browser")
def test_a_link_that_was_made_for_an_address_which_changed_meanwhile_is_void(
    site: MailSite,
) -> None:
    site.ask("/forgot")
    link = site.deliver_link()
    form = fill_in(site.open_browser(), link, password=NEW_PASSWORD)
    site.execute("UPDATE users SET email = %s", NEW_ADDRESS)
    assert EXPIRED in form.submit(status=404)
    log_in(site.open_browser(), email=NEW_ADDRESS)


def test_a_reset_ends_the_access_of_somebody_who_has_prepared_the_account(
    site: MailSite, ini: MakeIni
) -> None:
    without_mail: Any = hello_login.main({}, **ini(database_url=site.url))
    thief = webtest.TestApp(without_mail, site.open_browser().extra_environ)
    register(thief)  # with the address of Ada, which nobody has confirmed
    passkey = SoftwareKey()
    add_passkey(thief, passkey, status=200)
    device, session = thief.cookies["device"], thief.cookies["session"]
    with_mail = site.open_browser()
    with_mail.cookiejar = thief.cookiejar
    change_address(with_mail, "thief@example.com")
    taken = site.deliver_link("thief@example.com")
    change_address(with_mail, "other@example.com")
    site.ask("/forgot")
    reset = site.deliver()[-1]
    assert reset["To"] == EMAIL
    change_address(with_mail, "third@example.com")  # this mail waits during the reset
    use(site.open_browser(), link_of(reset), password=NEW_PASSWORD)
    assert subjects(site) == [
        (EMAIL, "A new address was asked for"),
        (EMAIL, "A passkey was removed from your account"),
        (EMAIL, "Your password was reset"),
    ]
    assert site.execute("SELECT count(*) FROM tokens") == [(0,)]
    assert site.execute("SELECT count(*) FROM sessions") == [(0,)]
    assert site.execute("SELECT count(*) FROM passkeys") == [(0,)]
    assert site.execute("SELECT confirmed_at IS NOT NULL FROM users") == [(True,)]
    site.open_browser().get(taken, status=404)
    for name, value in (("session", session), ("device", device)):
        with_mail.set_cookie(name, value.strip('"'))
    assert with_mail.get("/account", status=303).location.startswith("http://localhost/login")
    log_in(with_mail, status=422)  # with the password of the thief
    use_passkey(with_mail, passkey, origin="http://localhost", status=422)
    # The device is unknown now, so it has the limits of a stranger, and the owner gets a notice.
    log_in(with_mail, password=NEW_PASSWORD)
    assert subjects(site) == [(EMAIL, "A login from a new device")]


# Change of an address


def test_an_address_changes_when_the_link_in_a_mail_to_it_is_used(
    site: MailSite, browser: webtest.TestApp
) -> None:
    answer = change_address(browser, NEW_ADDRESS)
    assert "We have sent you a mail" in answer.follow()
    assert EMAIL in browser.get("/account")
    change, asked = site.deliver()
    assert (asked["To"], asked["Subject"]) == (EMAIL, "A new address was asked for")
    assert (change["To"], change["Subject"]) == (NEW_ADDRESS, "Confirm your address")
    elsewhere = site.open_browser()
    assert NEW_ADDRESS in elsewhere.get(link_of(change))
    assert use(elsewhere, link_of(change)).location == "http://localhost/account"
    account = browser.get("/account")
    assert NEW_ADDRESS in account
    assert "not confirmed" not in account
    (changed,) = site.deliver()
    assert (changed["To"], changed["Subject"]) == (EMAIL, "Your address was changed")
    log_in(site.open_browser(), email=NEW_ADDRESS)
    log_in(site.open_browser(), status=422)


def test_a_changed_address_can_be_undone_for_seven_days_with_a_new_password(
    site: MailSite, browser: webtest.TestApp
) -> None:
    change_address(browser, NEW_ADDRESS)
    use(browser, site.deliver_link(NEW_ADDRESS))
    undo = site.deliver_link(EMAIL)
    days = "SELECT expires_at - now() FROM tokens WHERE purpose = 'undo'"
    ((remaining,),) = site.execute(days)
    assert 6.99 < remaining.total_seconds() / 86400 < 7
    owner = site.open_browser()
    assert EMAIL in owner.get(undo).html.find("strong")
    answer = use(owner, undo, status=422, password=f"{EMAIL}1")
    assert "address" in error_of(answer, "password")
    assert use(owner, undo, password=NEW_PASSWORD).location == "http://localhost/login"
    assert browser.get("/account", status=303).location.startswith("http://localhost/login")
    assert subjects(site) == [
        (NEW_ADDRESS, "Your earlier address is back"),
        (EMAIL, "Your password was reset"),
    ]
    log_in(site.open_browser(), email=NEW_ADDRESS, status=422)
    log_in(owner, password=NEW_PASSWORD)
    assert "not confirmed" not in owner.get("/account")


def test_a_thief_who_changes_an_address_twice_cannot_void_the_undo_link_of_the_owner(
    site: MailSite, browser: webtest.TestApp
) -> None:
    change_address(browser, "thief@example.com")
    use(browser, site.deliver_link("thief@example.com"))
    owners = site.deliver_link(EMAIL)
    site.ask("/forgot", "thief@example.com")
    use(browser, site.deliver_link("thief@example.com"), password=NEW_PASSWORD)
    log_in(browser, email="thief@example.com", password=NEW_PASSWORD)
    change_address(browser, "second@example.com")
    use(browser, site.deliver_link("second@example.com"))
    thiefs = site.deliver_link("thief@example.com")
    log_in(site.open_browser(), email="second@example.com", password=NEW_PASSWORD)
    thief = site.open_browser()
    use(thief, thiefs, password="yet another passphrase")
    owner = site.open_browser()
    use(owner, owners, password=PASSWORD)
    log_in(owner)
    log_in(thief, email="thief@example.com", password="yet another passphrase", status=422)


def test_an_undone_change_leaves_no_link_to_undo_later_changes_not_even_in_waiting_mails(
    site: MailSite, browser: webtest.TestApp
) -> None:
    change_address(browser, "thief@example.com")
    use(browser, site.deliver_link("thief@example.com"))
    owners = site.deliver_link(EMAIL)
    change_address(browser, "second@example.com")
    use(browser, site.deliver_link("second@example.com"))
    # The mail with the link that undoes this waits.
    use(site.open_browser(), owners, password=NEW_PASSWORD)
    assert subjects(site) == [
        ("second@example.com", "Your earlier address is back"),
        (EMAIL, "Your password was reset"),
    ]
    assert site.execute("SELECT count(*) FROM tokens") == [(0,)]


def test_a_request_for_the_address_of_another_account_does_not_disclose_that_account(
    site: MailSite, browser: webtest.TestApp
) -> None:
    site.register(site.open_browser(), "grace@example.com")
    taken = change_address(browser, "GRACE@example.com")
    page = taken.follow()
    told = site.deliver()
    assert [(each["To"], each["Subject"]) for each in told] == [
        ("grace@example.com", "Somebody wants to use your address"),
        (EMAIL, "A new address was asked for"),
    ]
    assert "/link/" not in text_of(told[0])
    free = change_address(browser, NEW_ADDRESS)
    assert (taken.status, taken.location) == (free.status, free.location)
    assert without_token(page) == without_token(free.follow())


def without_token(page: Any) -> str:
    return re.sub(r'(name="csrf_token" value=)"[^"]*"', r"\1", page.text)


def test_a_link_to_an_address_that_another_account_has_got_changes_nothing_and_sends_no_notice(
    site: MailSite, browser: webtest.TestApp
) -> None:
    change_address(browser, NEW_ADDRESS)
    link = site.deliver_link(NEW_ADDRESS)
    site.register(site.open_browser(), NEW_ADDRESS)
    page = use(browser, link, status=404)
    assert EXPIRED in page
    # Somebody who is logged in needs no registration.
    buttons = [link.get_text() for link in page.html.select("main .button")]
    assert buttons == ["Set a new password", "Your account"]
    assert site.deliver() == []
    assert EMAIL in browser.get("/account")


def test_a_changed_name_needs_no_mail(site: MailSite, browser: webtest.TestApp) -> None:
    use(browser, "/account/profile", name="Augusta")
    assert "Augusta" in browser.get("/account")
    assert site.deliver() == []


# Confirmation of the addresses of earlier accounts


def test_the_owner_of_an_earlier_account_can_confirm_the_address(
    site: MailSite, browser: webtest.TestApp
) -> None:
    site.execute("UPDATE users SET confirmed_at = NULL")
    assert "not confirmed" in browser.get("/account")
    assert "We have sent you a mail" in ask_to_confirm(browser).follow()
    (message,) = site.deliver()
    assert (message["To"], message["Subject"]) == (EMAIL, "Confirm your address")
    use(site.open_browser(), link_of(message))
    assert "not confirmed" not in browser.get("/account")
    assert site.deliver() == []  # the address has not changed


def test_a_reset_confirms_the_address(site: MailSite, browser: webtest.TestApp) -> None:
    site.execute("UPDATE users SET confirmed_at = NULL")
    site.ask("/forgot")
    use(browser, site.deliver_link(), password=NEW_PASSWORD)
    assert site.execute("SELECT confirmed_at IS NOT NULL FROM users") == [(True,)]


def test_an_address_that_changes_while_no_mail_is_sent_is_not_confirmed(
    site: MailSite, browser: webtest.TestApp, ini: MakeIni
) -> None:
    without_mail: Any = hello_login.main({}, **ini(database_url=site.url))
    person = webtest.TestApp(without_mail, browser.extra_environ)
    log_in(person)
    site.ask("/forgot")
    link = site.deliver_link()
    change_address(person, NEW_ADDRESS)
    assert site.execute("SELECT email, confirmed_at FROM users") == [(NEW_ADDRESS, None)]
    assert "not confirmed" not in person.get("/account")  # there is no way to confirm it
    site.open_browser().get(link, status=404)


def test_requests_to_confirm_an_address_are_rate_limited(browser: webtest.TestApp) -> None:
    for _ in range(19):  # the registration was the first request
        ask_to_confirm(browser)
    assert "Too many mails" in ask_to_confirm(browser).follow()


# Links


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("purpose", ["register", "reset", "change", "undo"])
def test_opening_a_link_changes_nothing_and_using_it_works_once(
    site: MailSite, browser: webtest.TestApp, purpose: str, times: int
) -> None:
    link = get_link(site, browser, purpose)
    before = site.dump()
    other = site.open_browser()
    for _ in range(times):
        other.get(link)
        other.head(link)
    assert site.dump() == before
    typed = {} if purpose == "change" else {"password": NEW_PASSWORD}
    if purpose == "register":
        typed["name"] = "Grace"
    forms = [fill_in(site.open_browser(), link, **typed) for _ in range(2)]
    forms[0].submit(status=303)
    assert site.dump() != before
    done = site.dump()
    assert EXPIRED in forms[1].submit(status=404)
    assert site.dump() == done
    site.open_browser().get(link, status=404)


def get_link(site: MailSite, browser: webtest.TestApp, purpose: str) -> str:
    if purpose == "register":
        site.ask("/register", "grace@example.com")
        return site.deliver_link("grace@example.com")
    if purpose == "reset":
        site.ask("/forgot")
        return site.deliver_link()
    change_address(browser, NEW_ADDRESS)
    link = site.deliver_link(NEW_ADDRESS)
    if purpose == "undo":
        use(browser, link)
        link = site.deliver_link()
    return link


@pytest.mark.parametrize("purpose", ["register", "reset", "change", "undo"])
def test_expired_used_and_wrong_links_get_the_same_page(
    site: MailSite, browser: webtest.TestApp, purpose: str
) -> None:
    link = get_link(site, browser, purpose)
    other = site.open_browser()
    form = last_form(other.get(link))
    expire_links(site)
    pages = [other.get(path, status=404).text for path in (link, f"{link}x", "/link/wrong")]
    assert EXPIRED in pages[0]
    assert "/forgot" in pages[0]
    assert pages == [pages[0]] * 3
    other.head(link, status=404)
    if purpose == "change":
        assert form.submit(status=404).text == pages[0]


def test_a_link_stops_working_after_the_lifetime_of_its_purpose(
    site: MailSite, browser: webtest.TestApp
) -> None:
    lifetimes: dict[str, int] = {}
    for purpose in ("register", "reset", "undo"):
        get_link(site, browser, purpose)
        query = "SELECT purpose, round(extract(epoch FROM expires_at - now()) / 3600) FROM tokens"
        lifetimes |= dict(site.execute(query))
    site.ask("/register", "katherine@example.com")
    change_address(browser, "third@example.com")
    site.deliver()
    lifetimes |= dict(site.execute(query))
    assert lifetimes == {"register": 24, "reset": 1, "change": 24, "undo": 7 * 24}


@pytest.mark.usefixtures("browser")
def test_expired_links_are_deleted_when_others_are_made(site: MailSite) -> None:
    site.ask("/register", "grace@example.com")
    site.deliver()
    expire_links(site)
    site.ask("/forgot")
    site.deliver()
    assert site.execute("SELECT purpose FROM tokens") == [("reset",)]


def test_no_token_is_in_the_database_or_in_a_log(
    site: MailSite, browser: webtest.TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    site.ask("/forgot")
    change_address(browser, NEW_ADDRESS)
    waiting = site.dump()
    messages = site.deliver()
    links = [link_of(each) for each in messages if "/link/" in text_of(each)]
    assert len(links) == 2
    sent = site.dump()
    use(browser, links[1])
    links.append(site.deliver_link(EMAIL))
    use(site.open_browser(), links[2], password=NEW_PASSWORD)
    for link in links:
        site.open_browser().get(link, status=404)
        token = link.removeprefix("/link/")
        assert len(token) == 43  # 256 bits in base64
        assert token not in waiting + sent + site.dump() + caplog.text
    assert "mail_sent" in caplog.text
    assert "address_changed" in caplog.text


@pytest.mark.usefixtures("browser")
def test_a_failure_while_a_link_is_used_logs_no_token_and_leaves_the_link(
    site: MailSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    site.ask("/forgot")
    link = site.deliver_link()
    form = fill_in(site.open_browser(), link, password=NEW_PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(sessions, "end_all")
        form.submit(status=500)
    assert "Unexpected error" in caplog.text
    assert link.removeprefix("/link/") not in caplog.text
    assert NEW_PASSWORD not in caplog.text
    assert log_in(site.open_browser()).status_int == 303
    form.submit(status=303)


# Races


def open_reset(site: MailSite, password: str = NEW_PASSWORD) -> Callable[[], Any]:
    site.ask("/forgot")
    form = fill_in(site.open_browser(), site.deliver_link(), password=password)
    return partial(form.submit, status="*")


def works(site: MailSite, email: str, password: str) -> bool:
    return bool(
        log_in(site.open_browser(), email=email, password=password, status=None).status_int == 303
    )


@pytest.mark.usefixtures("browser")
def test_only_the_first_of_two_simultaneous_resets_succeeds(site: MailSite) -> None:
    first, second = open_reset(site), open_reset(site, "yet another passphrase")
    answers = site.run_at_once(first, second)
    assert [each.status_int for each in answers] == [303, 404]
    assert works(site, EMAIL, NEW_PASSWORD)
    assert not works(site, EMAIL, "yet another passphrase")


@pytest.mark.usefixtures("browser")
def test_only_one_of_three_simultaneous_uses_of_a_reset_link_succeeds(site: MailSite) -> None:
    site.ask("/forgot")
    link = site.deliver_link()
    passwords = [f"a passphrase for race {number}" for number in range(3)]
    forms = [fill_in(site.open_browser(), link, password=password) for password in passwords]
    answers = site.run_at_once(*(partial(each.submit, status="*") for each in forms))
    assert [each.status_int for each in answers] == [303, 404, 404]
    assert [works(site, EMAIL, password) for password in passwords] == [True, False, False]


def test_only_the_first_of_two_simultaneous_registrations_of_an_address_succeeds(
    site: MailSite,
) -> None:
    forms = []
    for name in ("Ada", "Augusta"):
        site.ask("/register")
        forms.append(
            fill_in(site.open_browser(), site.deliver_link(), name=name, password=PASSWORD)
        )
    with ThreadPoolExecutor() as threads:
        sent = [threads.submit(form.submit, status="*") for form in forms]
        answers = [each.result() for each in sent]
    assert sorted(each.status_int for each in answers) == [303, 404]
    assert site.execute("SELECT count(*) FROM users") == [(1,)]


@pytest.mark.parametrize("reset_is_first", [True, False])
def test_only_the_first_of_a_simultaneous_reset_and_password_change_succeeds(
    site: MailSite, browser: webtest.TestApp, reset_is_first: bool
) -> None:
    reset = open_reset(site)
    typed = {"current": PASSWORD, "password": "yet another passphrase"}
    change = partial(fill_in(browser, "/account/password", **typed).submit, status="*")
    requests: list[Callable[[], Any]] = [reset, change] if reset_is_first else [change, reset]
    answers = site.run_at_once(*requests)
    assert [each.status_int for each in answers] == ([303, 303] if reset_is_first else [303, 404])
    assert works(site, EMAIL, NEW_PASSWORD) is reset_is_first
    assert works(site, EMAIL, "yet another passphrase") is not reset_is_first
    if reset_is_first:
        assert answers[1].location == "http://localhost/account"
        assert browser.get("/account", status=303).location.startswith("http://localhost/login")


@pytest.mark.parametrize("reset_is_first", [True, False])
def test_only_the_first_of_a_simultaneous_reset_and_address_change_succeeds(
    site: MailSite, browser: webtest.TestApp, reset_is_first: bool
) -> None:
    reset = open_reset(site)
    change_address(browser, NEW_ADDRESS)
    form = last_form(browser.get(site.deliver_link(NEW_ADDRESS)))
    change = partial(form.submit, status="*")
    requests: list[Callable[[], Any]] = [reset, change] if reset_is_first else [change, reset]
    answers = site.run_at_once(*requests)
    assert [each.status_int for each in answers] == [303, 404]
    assert works(site, EMAIL, NEW_PASSWORD) is reset_is_first
    assert works(site, NEW_ADDRESS, PASSWORD) is not reset_is_first


def test_only_the_first_of_a_simultaneous_reset_and_undone_change_succeeds(
    site: MailSite, browser: webtest.TestApp
) -> None:
    undo = get_link(site, browser, "undo")
    site.ask("/forgot", NEW_ADDRESS)
    reset = fill_in(site.open_browser(), site.deliver_link(NEW_ADDRESS), password=NEW_PASSWORD)
    undoing = fill_in(site.open_browser(), undo, password="yet another passphrase")
    requests = [partial(each.submit, status="*") for each in (undoing, reset)]
    assert [each.status_int for each in site.run_at_once(*requests)] == [303, 404]
    assert works(site, EMAIL, "yet another passphrase")


def test_a_link_that_is_issued_during_a_reset_is_void(
    site: MailSite, browser: webtest.TestApp
) -> None:
    # The sender has claimed the mail of a thief's change before the reset begins.
    reset = open_reset(site)
    change_address(browser, "thief@example.com")
    sender = site.app.registry.mail_sender
    with site.app.registry.pool.autocommit() as db:
        claimed = []
        while (mail := mails.claim(db, [timedelta(minutes=1)])) is not None:
            claimed.append(mail)
        reset()
        composed = [sender._compose(db, mail) for mail in claimed]
    assert [each.kind for each in claimed] == ["change", "change_asked"]
    assert [each is None for each in composed] == [True, False]
    assert site.execute("SELECT count(*) FROM tokens") == [(0,)]


# The same answer and the same work for every address


@pytest.fixture
def relay(url: str) -> Iterator[RoundTrips]:
    """Yield a relay to the database, which counts round trips."""
    relay = RoundTrips(url)
    yield relay
    relay.close()


@pytest.mark.parametrize("page", ["/forgot", "/register"])
def test_the_response_and_the_work_are_the_same_for_every_address(
    ini: MakeIni, tmp_path: Path, relay: RoundTrips, page: str
) -> None:
    site = MailSite(ini, relay.url, tmp_path / "mail")
    for address in (EMAIL, "deactivated@example.com", "limited@example.com"):
        site.register(site.open_browser(REMOTE_ADDR="192.0.2.2"), address)
    site.execute("UPDATE users SET deactivated_at = now() WHERE email LIKE 'deact%'")
    for _ in range(4):
        site.ask(page, "limited@example.com")
    # A registration has used one of three.
    assert len(site.deliver()) == (3 if page == "/forgot" else 2)
    browser = site.open_browser()
    pages, counts = {}, {}
    for address in (EMAIL, "nobody@example.com", "deactivated@example.com", "limited@example.com"):
        form = last_form(browser.get(page))
        form["email"] = address
        before = relay.count
        answer = form.submit(status=200)
        counts[address] = relay.count - before
        pages[address] = answer.text.replace(address, "ADDRESS")
        headers = {name: answer.headers[name] for name in answer.headers if name != "X-Request-ID"}
        pages[address] += str(sorted(headers.items())).replace(address, "ADDRESS")
    assert len({re.sub(r"Content-Length', '\d+", "", each) for each in pages.values()}) == 1
    assert len(set(counts.values())) == 1, counts
    assert site.execute("SELECT count(*) FROM mails") == [(4,)]
    recipients = [recipient for recipient, _ in subjects(site)]
    if page == "/forgot":
        assert recipients == [EMAIL]
    else:
        assert recipients == [EMAIL, "nobody@example.com", "deactivated@example.com"]


@pytest.mark.usefixtures("browser")
def test_mails_of_one_kind_do_not_use_up_the_limit_of_another(site: MailSite) -> None:
    for _ in range(5):
        site.ask("/register")
    site.ask("/forgot")
    # The registration was the first of three.
    assert subjects(site) == [
        *[(EMAIL, "You have an account already")] * 2,
        (EMAIL, "Set a new password"),
    ]


@pytest.mark.parametrize("page", ["/forgot", "/register"])
def test_requests_for_mails_to_any_addresses_are_rate_limited_by_network(
    site: MailSite, page: str
) -> None:
    for number in range(20):
        site.ask(page, f"{number}@example.com")
    refused = site.ask(page, "another@example.com", status=429)
    assert "Too many attempts" in refused
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert site.execute("SELECT count(*) FROM mails") == [(20,)]


@pytest.mark.parametrize("page", ["/forgot", "/register"])
@pytest.mark.parametrize("address", ["nobody", "=?utf-8?q?ada=0d=0ax?=@example.com"])
def test_text_that_is_not_an_address_is_refused_at_once(
    site: MailSite, page: str, address: str
) -> None:
    answer = site.ask(page, address, status=422)
    assert "An address looks like" in error_of(answer, "email")
    assert site.execute("SELECT count(*) FROM mails") == [(0,)]


@pytest.mark.parametrize("page", ["/forgot", "/register"])
def test_the_sent_page_sends_the_mail_again(site: MailSite, page: str) -> None:
    browser = site.open_browser()
    sent = ask_in(browser, page, "grace@example.com")
    assert "grace@example.com" in sent
    assert "grace@example.com" in last_form(sent).submit(status=200)
    assert site.execute("SELECT recipient FROM mails") == [("grace@example.com",)] * 2


def test_somebody_who_is_logged_in_can_ask_for_a_link_to_reset(
    site: MailSite, browser: webtest.TestApp
) -> None:
    assert last_form(browser.get("/forgot"))["email"].value == EMAIL
    assert "Check your mail" in ask_in(browser, "/forgot")
    use(browser, site.deliver_link(), password=NEW_PASSWORD)


# Notices


def test_each_notice_says_when_from_where_on_what_device_and_what_to_do(
    site: MailSite, browser: webtest.TestApp
) -> None:
    change_password(browser)
    (message,) = site.deliver()
    text = text_of(message)
    assert message["Subject"] == "Your password was changed"
    assert re.search(r"^Time:     \d\d \w+ 20\d\d, \d\d:\d\d ", text, re.MULTILINE)
    assert "Network:  192.0.2.1\nDevice:   Unknown device\n" in text
    assert "If it was not you, set a new password now." in text
    assert "http://localhost/forgot" in text
    assert message.get_content_type() == "text/plain"


def test_the_owner_is_told_of_a_login_only_if_the_device_is_new(
    site: MailSite, browser: webtest.TestApp
) -> None:
    log_out(browser)
    log_in(browser)
    assert site.deliver() == []
    new = site.open_browser(HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
    log_in(new)
    (message,) = site.deliver()
    assert (message["To"], message["Subject"]) == (EMAIL, "A login from a new device")
    assert "Firefox on Linux" in text_of(message)


def test_the_owner_is_told_of_the_deletion_after_the_account_is_deleted(
    site: MailSite, browser: webtest.TestApp
) -> None:
    use(browser, "/account/delete", current=PASSWORD)
    assert subjects(site) == [(EMAIL, "Your account was deleted")]
    assert site.execute("SELECT count(*) FROM users") == [(0,)]


def test_a_registered_device_logs_in_with_as_many_round_trips_as_without_mail(
    ini: MakeIni, tmp_path: Path, relay: RoundTrips
) -> None:
    site = MailSite(ini, relay.url, tmp_path / "mail")
    browser = site.open_browser()
    site.register(browser)
    counts = []
    for _ in range(3):
        log_out(browser)
        form = browser.get("/login").forms[0]
        form["email"], form["password"] = EMAIL, PASSWORD
        before = relay.count
        form.submit(status=303)
        counts.append(relay.count - before)
    assert counts[-1] == 5  # as in test_round_trips.py, without mail


# Pages


def test_the_login_page_leads_to_the_form_for_a_forgotten_password(site: MailSite) -> None:
    page = site.open_browser().get("/login").click("Forgot your password")
    assert page.request.path == "/forgot"


def test_password_managers_find_the_form_to_change_the_password(
    site: MailSite, browser: webtest.TestApp
) -> None:
    answer = browser.get("/.well-known/change-password", status=303)
    assert answer.follow().html.find(id="current") is not None
    stranger = site.open_browser().get("/.well-known/change-password").follow(status=303)
    assert "next=%2Faccount%2Fpassword" in stranger.location


def test_without_mail_nobody_can_ask_for_a_mail(open_browser: OpenBrowser) -> None:
    browser = open_browser()
    register(browser)
    browser.get("/forgot", status=404)
    token = csrf_token_of(browser)
    browser.post("/forgot", {"csrf_token": token, "email": EMAIL}, status=404)
    browser.post("/account/confirm-address", {"csrf_token": token}, status=404)
    page = browser.get("/link/wrong", status=404)
    assert "Ask the operator of this site for another link" in page
    assert "/forgot" not in page


def csrf_token_of(browser: webtest.TestApp) -> str:
    return str(browser.get("/").forms[0]["csrf_token"].value)


# The mailbox of the development server


@pytest.mark.parametrize("written", [True, False])
def test_the_mailbox_of_development_shows_mails_with_working_links(
    ini: MakeIni, url: str, tmp_path: Path, written: bool
) -> None:
    app: Any = hello_login.main(
        {},
        **ini(
            database_url=url,
            embedded_postgres=str(tmp_path / ".postgres"),
            mail_url=f"file:{tmp_path}/mail",
            mail_from="login@example.org",
            site_url="http://localhost",
        ),
    )
    browser = webtest.TestApp(app, {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html"})
    if not written:
        assert "None yet." in browser.get("/dev/mailbox")
        return
    ask_in(browser, "/register")
    app.registry.mail_sender.send_due()
    page = browser.get("/dev/mailbox")
    assert EMAIL in page
    assert "Confirm your address" in page
    assert page.click(href="/link/").html.find(id="password") is not None


@pytest.mark.parametrize("secure", ["true", "false"])
def test_production_has_no_mailbox(ini: MakeIni, tmp_path: Path, secure: str) -> None:
    site_url = "https://localhost" if secure == "true" else "http://localhost"
    settings = {"mail_url": f"file:{tmp_path}", "mail_from": "login@example.org"}
    app: Any = hello_login.main({}, **ini(site_url=site_url, secure_cookies=secure, **settings))
    routes = [each.name for each in app.routes_mapper.get_routes()]
    assert "mailbox" not in routes
    assert "link" in routes
    webtest.TestApp(app, {"HTTP_HOST": "localhost"}).get("/dev/mailbox", status=404)


def test_an_ended_session_gets_no_link_to_confirm_an_address(
    site: MailSite, browser: webtest.TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = csrf_token_of(browser)
    admit = RateLimiter.admit_mail_request

    def end_session(limiter: RateLimiter) -> None:
        site.execute("DELETE FROM sessions")
        admit(limiter)

    monkeypatch.setattr(RateLimiter, "admit_mail_request", end_session)
    answer = browser.post("/account/confirm-address", {"csrf_token": token}, status=303)
    assert "had ended" in answer.follow().follow().html.find(role="status").get_text()
    assert site.deliver() == []


def test_many_logins_queue_one_notice_for_each_device(
    site: MailSite, browser: webtest.TestApp
) -> None:
    assert browser.get("/account")
    for _ in range(3):
        log_in(site.open_browser())
    log_in(site.open_browser(HTTP_USER_AGENT="curl/8"))
    assert [each["Subject"] for each in site.deliver()] == ["A login from a new device"] * 2
    log_in(site.open_browser())
    assert len(site.deliver()) == 1


def test_an_undo_link_whose_address_is_taken_works_when_the_address_is_free_again(
    site: MailSite, browser: webtest.TestApp
) -> None:
    change_address(browser, NEW_ADDRESS)
    use(site.open_browser(), site.deliver_link(NEW_ADDRESS))
    undo = site.deliver_link(EMAIL)
    site.register(site.open_browser(), EMAIL)
    use(site.open_browser(), undo, password=NEW_PASSWORD, status=404)
    site.execute("DELETE FROM users WHERE email = %s", EMAIL)
    use(site.open_browser(), undo, password=NEW_PASSWORD)
    assert site.execute("SELECT email FROM users") == [(EMAIL,)]


def test_a_notice_does_not_name_the_operator_if_the_clients_address_is_unknown(
    site: MailSite, browser: webtest.TestApp
) -> None:
    assert browser.get("/account")
    log_in(site.open_browser(REMOTE_ADDR="203.0.113.9:4711"))
    (mail,) = site.deliver()
    assert "unknown" in text_of(mail)
    assert "operator" not in text_of(mail)
