"""Passkeys, as people use them."""

import json
import os
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.repositories import passkeys as table
from tests.conftest import MakeIni, OpenBrowser
from tests.functional.authenticator import (
    Clock,
    Phone,
    is_logged_in,
    recovery_codes_on,
    set_up,
    type_code,
    type_first_code,
)
from tests.functional.mail_site import (
    MailSite,
    ask_to_confirm,
    change_address,
    last_form,
    use,
)
from tests.functional.software_key import (
    MAY_SYNC,
    PRESENT,
    SYNCED,
    VERIFIED,
    SoftwareKey,
    add_passkey,
    encode,
    options_on,
    send_credential,
    use_passkey,
)
from tests.people import (
    EMAIL,
    NEW_PASSWORD,
    confirm,
    csrf_token,
    error_of,
    log_in,
    log_out,
    register,
    send,
)
from tests.rows import execute

ADD, LIST = "/account/passkeys/add", "/account/passkeys"
ACCOUNT, SECOND = "http://localhost/account", "http://localhost/login/second"
KEEPASSXC = uuid.UUID("fdb141b2-5d84-443e-8a35-4698c205a502").bytes
SUBJECTS = {
    "passkey_added": "A passkey was added to your account",
    "passkey_removed": "A passkey was removed from your account",
    "second_failed": "A login without the second step",
    "new_device": "A login from a new device",
}


class Person:
    """Ada, whose account has a passkey; her browser is logged in."""

    def __init__(self, browser: webtest.TestApp) -> None:
        self.browser, self.key = browser, SoftwareKey()
        register(browser)
        self.recovery_codes = recovery_codes_on(add_passkey(browser, self.key, status=200))


@pytest.fixture
def ada(browser: webtest.TestApp) -> Person:
    return Person(browser)


@pytest.fixture
def site(emptied_url: str, ini: MakeIni, tmp_path: Path) -> MailSite:
    """Return a site with mail."""
    return MailSite(ini, emptied_url, tmp_path / "mail")


@pytest.fixture
def key() -> SoftwareKey:
    """Return an authenticator for the site with mail."""
    return SoftwareKey(origin="http://localhost")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock."""
    return Clock(monkeypatch)


def links_on(browser: webtest.TestApp, action: str) -> list[str]:
    """Return the links of the list of passkeys that do this: name or remove."""
    return [each["href"] for each in browser.get(LIST).html.select(f"li a[href$='/{action}']")]


def names_on(browser: webtest.TestApp) -> list[str]:
    """Return the names of the account's passkeys."""
    return [each.get_text() for each in browser.get(LIST).html.select("main li strong")]


def signals_on(page: Any) -> Any:
    """Return what the page tells the browser about passkeys, or None."""
    found = page.html.find(attrs={"data-signals": True})
    return found and json.loads(found["data-signals"])


def remove(browser: webtest.TestApp, number: int = 0) -> Any:
    """Remove a passkey, and return the page with the list."""
    return send(browser, links_on(browser, "remove")[number]).follow()


def add_app(browser: webtest.TestApp) -> Phone:
    """Set an app up for an account that has a passkey, and so its recovery codes."""
    page = browser.get("/account/totp")
    phone = Phone(page.html.find(class_="secret").get_text())
    assert type_first_code(page, phone.code(-1), status=303).location == ACCOUNT
    return phone


def age_logins(db: Connection, minutes: int) -> None:
    statement = "UPDATE sessions SET authenticated_at = now() - make_interval(mins => %s)"
    execute(db, statement, minutes)


def events(db: Connection) -> list[str]:
    return [name for (name,) in execute(db, "SELECT event FROM account_events ORDER BY id")]


def subjects(site: MailSite) -> list[str]:
    """Send the mails that are due, and return their subjects."""
    return [str(each["Subject"]) for each in site.deliver()]


# Adding


def test_a_passkey_logs_in_and_replaces_each_second_step(open_browser: OpenBrowser) -> None:
    browser, key = open_browser(), SoftwareKey()
    register(browser)
    add_passkey(browser, key, status=200)
    log_out(browser)
    assert use_passkey(browser, key).location == ACCOUNT
    use_passkey(browser, key, page="/account/confirm")
    log_out(browser)
    assert log_in(browser).location == SECOND
    assert use_passkey(browser, key, page="/login/second").location == ACCOUNT


def test_the_first_passkey_brings_recovery_codes_and_ends_other_sessions(
    browser: webtest.TestApp, open_browser: OpenBrowser, db: Connection
) -> None:
    register(browser)
    other = open_browser()
    log_in(other)
    assert "From then on, your password alone is not enough" in browser.get(ADD)
    page = add_passkey(browser, SoftwareKey(), status=200)
    expected = "The passkey is added, and all your other sessions have ended."
    assert page.html.find(role="status").get_text() == expected
    codes = recovery_codes_on(page)
    assert len(set(codes)) == 10
    assert (is_logged_in(browser), is_logged_in(other)) == (True, False)
    assert log_in(other).location == SECOND
    assert events(db)[-3:] == ["passkey_added", "session_ended", "codes_made"]
    assert "A passkey was added" in browser.get("/account")


def test_a_further_passkey_brings_no_codes_and_ends_no_session(
    ada: Person, open_browser: OpenBrowser, db: Connection
) -> None:
    other, second = open_browser(), SoftwareKey()
    use_passkey(other, ada.key)
    codes = execute(db, "SELECT id FROM recovery_codes ORDER BY id")
    assert "From then on" not in ada.browser.get(ADD)
    token = csrf_token(ada.browser)
    answer = add_passkey(ada.browser, second)
    assert answer.location == f"http://localhost{LIST}"
    assert "The passkey is added" in answer.follow()
    assert csrf_token(ada.browser) != token
    assert (is_logged_in(ada.browser), is_logged_in(other)) == (True, True)
    assert execute(db, "SELECT id FROM recovery_codes ORDER BY id") == codes
    use_passkey(open_browser(), ada.key)
    use_passkey(open_browser(), second)


def test_the_options_name_the_passkeys_of_the_account_that_authenticators_must_not_add_again(
    ada: Person,
) -> None:
    asked = json.loads(options_on(ada.browser.get(ADD)))
    assert asked["excludeCredentials"] == [
        {"type": "public-key", "id": encode(ada.key.passkey_id), "transports": []}
    ]
    assert asked["authenticatorSelection"]["residentKey"] == "required"
    assert asked["authenticatorSelection"]["userVerification"] == "required"
    assert asked["attestation"] == "none"
    for page in ("/account/confirm", "/login/second"):
        if page == "/login/second":
            log_out(ada.browser)
            log_in(ada.browser)
        asked = json.loads(options_on(ada.browser.get(page)))
        assert [each["id"] for each in asked["allowCredentials"]] == [encode(ada.key.passkey_id)]
    assert "allowCredentials" not in json.loads(options_on(ada.browser.get("/login")))


def test_the_user_handle_is_random_and_stays(ada: Person, open_browser: OpenBrowser) -> None:
    assert json.loads(options_on(ada.browser.get(ADD)))["user"]["id"] == encode(ada.key.handle)
    assert uuid.UUID(bytes=ada.key.handle).version == 4
    grace, key = open_browser(), SoftwareKey()
    register(grace, email="grace@example.com")
    add_passkey(grace, key, status=200)
    assert key.handle != ada.key.handle


def test_a_passkey_is_added_once_and_to_one_account(
    ada: Person, open_browser: OpenBrowser, db: Connection
) -> None:
    grace = open_browser()
    register(grace, email="grace@example.com")
    for browser in (ada.browser, grace):
        stolen = SoftwareKey()
        stolen.passkey_id = ada.key.passkey_id
        page = add_passkey(browser, stolen, status=422)
        assert "An account has this passkey already" in page
        assert signals_on(page) is None
    assert "none" in grace.get("/account").html.find("dt", string="Passkeys").parent.get_text()
    assert execute(db, "SELECT count(*) FROM passkeys") == [(1,)]
    use_passkey(open_browser(), ada.key)
    assert log_in(open_browser(), email="grace@example.com").location == ACCOUNT


def test_a_browser_whose_new_passkey_was_refused_is_told_to_forget_it(ada: Person) -> None:
    key = SoftwareKey()
    page = add_passkey(ada.browser, key, status=422, origin="https://evil.example")
    assert signals_on(page) == {
        "signalUnknownCredential": {"rpId": "localhost", "credentialId": encode(key.passkey_id)}
    }


def test_an_account_has_up_to_twenty_passkeys(ada: Person, db: Connection) -> None:
    (user_id,) = execute(db, "SELECT id FROM users")[0]
    for _ in range(18):
        passkey_id = os.urandom(32)
        assert table.insert(
            db,
            passkey_id,
            user_id,
            public_key=b"",
            sign_count=0,
            name="A key",
            may_sync=False,
            synced=False,
            transports=[],
        )
    page, late = ada.browser.get(ADD), SoftwareKey()
    add_passkey(ada.browser, SoftwareKey())
    answer = ada.browser.get(ADD, status=303)
    assert answer.location == f"http://localhost{LIST}"
    listed = answer.follow()
    assert "You have as many passkeys" in listed.html.find(role="status").get_text()
    assert len(listed.html.select("main li strong")) == 20
    form = last_form(page)
    form["csrf_token"], form["credential"] = csrf_token(ada.browser), late.create(options_on(page))
    assert form.submit(status=303).location == f"http://localhost{LIST}"
    assert len(names_on(ada.browser)) == 20


def test_a_passkey_is_named_after_its_authenticator_and_the_device(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    browser.extra_environ["HTTP_USER_AGENT"] = agent
    add_passkey(browser, SoftwareKey(model=KEEPASSXC), status=200)
    add_passkey(browser, SoftwareKey(model=b"\xff" * 16))
    assert set(names_on(browser)) == {"KeePassXC, Firefox on Linux", "Firefox on Linux"}


def test_the_list_says_when_a_passkey_was_used_and_whether_it_is_synced(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    key = SoftwareKey(flags=PRESENT | VERIFIED | MAY_SYNC)
    add_passkey(browser, key, status=200)
    page = browser.get(LIST)
    assert "on one device only, added on" in page
    assert "not used yet" in page
    key.flags |= SYNCED
    use_passkey(browser, key, page="/account/confirm")
    page = browser.get(LIST)
    assert "synced to your other devices, added on" in page
    assert "last used on" in page


def test_a_form_that_is_sent_twice_adds_one_passkey(browser: webtest.TestApp) -> None:
    register(browser)
    form = last_form(browser.get(ADD))
    form["credential"] = SoftwareKey().create(options_on(form.response))
    cookies = {name: value.strip('"') for name, value in browser.cookies.items()}
    form.submit(status=200)
    for name, value in cookies.items():
        browser.set_cookie(name, value)
    assert "/login" in form.submit(status=303).location
    log_in(browser)
    assert json.loads(options_on(browser.get("/login/second")))["allowCredentials"] != []


def test_with_mail_the_address_must_be_confirmed_before_a_passkey_is_added(
    site: MailSite, owner: webtest.TestApp, key: SoftwareKey
) -> None:
    earlier = owner.get(ADD)
    site.execute("UPDATE users SET confirmed_at = NULL")
    page = owner.get(ADD)
    assert "first, by the link in a mail" in page
    assert page.html.find(attrs={"name": "credential"}) is None
    refused = send_credential(earlier, key.create(options_on(earlier)), status=422)
    assert "first, by the link in a mail" in refused
    assert site.execute("SELECT count(*) FROM passkeys") == [(0,)]
    ask_to_confirm(owner)
    use(owner, site.deliver_link())
    add_passkey(owner, key, status=200)


def test_a_page_for_a_passkey_is_shown_while_there_is_time_to_send_its_form(
    ada: Person, db: Connection
) -> None:
    age_logins(db, 9)
    page = ada.browser.get(ADD)
    age_logins(db, 10)
    asked = ada.browser.get(ADD, status=303)
    assert asked.location == "http://localhost/account/confirm?next=%2Faccount%2Fpasskeys%2Fadd"
    age_logins(db, 14)
    send_credential(page, SoftwareKey().create(options_on(page)))
    page = ada.browser.get("/account/confirm")
    assert len(names_on(ada.browser)) == 2
    use_passkey(ada.browser, ada.key, page="/account/confirm")
    page = ada.browser.get(ADD)
    age_logins(db, 15)
    answer = send_credential(page, SoftwareKey().create(options_on(page)))
    assert answer.location == asked.location
    assert "Nothing was changed" in answer.follow()
    assert len(names_on(ada.browser)) == 2


def test_a_passkey_makes_the_login_fresh(ada: Person, db: Connection) -> None:
    age_logins(db, 60)
    token = csrf_token(ada.browser)
    asked = ada.browser.get(ADD, status=303).location
    assert "Or use a passkey." in ada.browser.get(asked)
    answer = use_passkey(ada.browser, ada.key, page=asked)
    assert answer.location == f"http://localhost{ADD}"
    assert csrf_token(ada.browser) != token
    ada.browser.get(ADD, status=200)


def test_changes_of_passkeys_are_rate_limited(ada: Person) -> None:
    for _ in range(19):
        add_passkey(ada.browser, SoftwareKey(), status=422, rp_id="evil.example")
    page = add_passkey(ada.browser, SoftwareKey(), status=429)
    assert "Too many attempts" in page
    assert "Retry-After" in page.headers
    assert "signalUnknownCredential" in signals_on(page)
    send(ada.browser, links_on(ada.browser, "remove")[0], status=429)


def test_new_names_are_rate_limited_in_each_session(ada: Person, open_browser: OpenBrowser) -> None:
    (link,) = links_on(ada.browser, "name")
    for number in range(20):
        send(ada.browser, link, name=f"Name {number}")
    assert "Too many attempts" in send(ada.browser, link, name="Another name", status=429)
    other = open_browser()
    use_passkey(other, ada.key)
    send(other, link, name="Another name")
    remove(ada.browser)


# Logging in


def test_a_login_with_a_passkey_remembers_the_device_and_the_page(
    ada: Person, open_browser: OpenBrowser
) -> None:
    for remember in (True, False):
        browser = open_browser()
        page = browser.get("/login?next=/account/profile%3Fa=1")
        page.forms[0]["remember"] = remember
        answer = send_credential(page, ada.key.get(options_on(page)))
        assert answer.location == "http://localhost/account/profile?a=1"
        (cookie,) = [each for each in answer.headers.getall("Set-Cookie") if "session=" in each]
        assert ("Max-Age" in cookie) == remember


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example/", "/\\evil.example"])
def test_no_login_with_a_passkey_redirects_to_another_site(
    ada: Person, open_browser: OpenBrowser, target: str
) -> None:
    page = open_browser().get("/login")
    page.forms[0]["next"].force_value(target)
    assert send_credential(page, ada.key.get(options_on(page))).location == ACCOUNT


def test_a_login_with_a_passkey_replaces_the_csrf_token_and_is_recorded(
    ada: Person, open_browser: OpenBrowser, db: Connection
) -> None:
    browser = open_browser()
    token = browser.get("/login").forms[0]["csrf_token"].value
    use_passkey(browser, ada.key)
    assert csrf_token(browser) != token
    assert events(db)[-1] == "logged_in"
    assert execute(db, "SELECT last_login_at = now() FROM users") == [(True,)]


def test_a_browser_that_is_logged_in_uses_no_passkey_again(ada: Person) -> None:
    log_out(ada.browser)
    page = ada.browser.get("/login")
    credential = ada.key.get(options_on(page))
    send_credential(page, credential)
    assert send_credential(page, credential).location == ACCOUNT


@pytest.mark.usefixtures("clock")
def test_after_the_password_either_a_passkey_or_a_code_completes_the_login(
    ada: Person, open_browser: OpenBrowser
) -> None:
    phone = add_app(ada.browser)
    other = open_browser()
    log_in(other, page="/login?next=/account/profile", remember=True)
    page = other.get("/login/second?next=/account/profile")
    assert "6 digits" in page
    assert "Use a recovery code" in page
    answer = send_credential(page, ada.key.get(options_on(page)))
    assert answer.location == "http://localhost/account/profile"
    assert "Max-Age" in "".join(x for x in answer.headers.getall("Set-Cookie") if "session=" in x)
    log_out(other)
    log_in(other)
    type_code(other, phone.code())


def test_without_an_app_a_recovery_code_replaces_the_passkey(
    ada: Person, open_browser: OpenBrowser
) -> None:
    other = open_browser()
    log_in(other)
    page = other.get("/login/second")
    assert page.html.find("label", attrs={"for": "code"}).get_text() == "Recovery code"
    assert "Use the app" not in page
    assert "Use a recovery code" not in page
    for code in ("123456", "12345"):
        assert " recovery code " in error_of(type_code(other, code, status=422), "code")
        assert "digits. " not in error_of(type_code(other, code, status=422), "code")
    answer = type_code(other, ada.recovery_codes[0])
    assert "9 recovery codes left" in answer.follow().text
    log_out(other)
    log_in(other)
    type_code(other, ada.recovery_codes[0], status=422)


def test_reauthentication_takes_the_password_with_a_recovery_code_or_a_passkey(
    ada: Person,
) -> None:
    form = last_form(ada.browser.get("/account/confirm"))
    form["current"], form["code"] = "correct horse battery", ada.recovery_codes[0]
    form.submit(status=303)
    confirm(ada.browser, status=422)
    use_passkey(ada.browser, ada.key, page="/account/confirm")


@pytest.mark.usefixtures("clock")
def test_an_account_without_a_passkey_is_asked_for_its_code_although_a_passkey_is_sent(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    # The form with a credential is refused like a form without a code and a password.
    register(browser)
    set_up(browser)
    other = open_browser()
    log_in(other)
    for sender, path in ((browser, "/account/confirm"), (other, "/login/second")):
        page = sender.get(path)
        assert page.html.find(attrs={"name": "credential"}) is None
        assert page.html.find(id="use-passkey") is None
        fields = {"csrf_token": last_form(page)["csrf_token"].value, "credential": "{}"}
        assert "Type the code." in sender.post(path, fields, status=422)


def test_a_half_login_that_has_ended_takes_no_passkey(
    ada: Person, open_browser: OpenBrowser, db: Connection
) -> None:
    other = open_browser()
    log_in(other)
    page = other.get("/login/second")
    execute(db, "UPDATE half_logins SET expires_at = now()")
    answer = send_credential(page, ada.key.get(options_on(page)))
    assert answer.location == "http://localhost/login"
    assert not is_logged_in(other)


def test_the_owner_of_a_deactivated_account_is_told_so_and_a_forger_is_not(
    ada: Person, open_browser: OpenBrowser, db: Connection
) -> None:
    execute(db, "UPDATE users SET deactivated_at = now()")
    other = open_browser()
    told = "This account is deactivated"
    assert told in use_passkey(other, ada.key, status=422)
    forged: list[dict[str, Any]] = [{"signature": b"x"}, {"handle": b""}, {"origin": "x"}]
    for each in forged:
        page = use_passkey(other, ada.key, status=422, **each)
        assert told not in page
        assert "We could not verify this passkey" in page
    assert not is_logged_in(other)


def test_a_browser_is_told_of_an_unknown_passkey_and_of_no_other(
    ada: Person, open_browser: OpenBrowser
) -> None:
    stranger, unknown = open_browser(), SoftwareKey()
    page = use_passkey(stranger, unknown, status=422)
    assert "This site does not know this passkey" in page
    assert signals_on(page) == {
        "signalUnknownCredential": {"rpId": "localhost", "credentialId": encode(unknown.passkey_id)}
    }
    assert signals_on(use_passkey(stranger, ada.key, status=422, signature=b"x")) is None
    assert signals_on(stranger.get("/login")) is None
    log_in(stranger)
    page = use_passkey(stranger, unknown, status=422, page="/login/second")
    assert "signalUnknownCredential" in signals_on(page)
    page = use_passkey(ada.browser, unknown, status=422, page="/account/confirm")
    assert "signalUnknownCredential" in signals_on(page)


def test_the_pages_of_the_account_tell_the_browser_of_all_its_passkeys(ada: Person) -> None:
    for path in ("/account", LIST):
        assert signals_on(ada.browser.get(path)) == {
            "signalAllAcceptedCredentials": {
                "rpId": "localhost",
                "userId": encode(ada.key.handle),
                "allAcceptedCredentialIds": [encode(ada.key.passkey_id)],
            },
            "signalCurrentUserDetails": {
                "rpId": "localhost",
                "userId": encode(ada.key.handle),
                "name": EMAIL,
                "displayName": "Ada Lovelace",
            },
        }
    signals = signals_on(remove(ada.browser))
    assert signals["signalAllAcceptedCredentials"]["allAcceptedCredentialIds"] == []


def test_an_account_that_never_had_a_passkey_tells_the_browser_nothing(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    assert signals_on(browser.get("/account")) is None
    assert signals_on(browser.get(LIST)) is None


# Rate limits


def test_fifty_refused_passkeys_of_a_network_are_followed_by_a_wait(
    ada: Person, open_browser: OpenBrowser
) -> None:
    log_out(ada.browser)
    use_passkey(ada.browser, ada.key)
    log_out(ada.browser)
    forger = open_browser()
    page = forger.get("/login")
    for _ in range(50):
        use_passkey(open_browser(), ada.key)  # Its own count is taken back, and no other.
        page = send_credential(page, "x", status=422)
    page = use_passkey(forger, ada.key, status=429)
    assert "Too many attempts" in page
    assert 1 <= int(page.headers["Retry-After"]) <= 60
    half = open_browser()
    log_in(half)
    use_passkey(half, ada.key, page="/login/second", status=429)
    use_passkey(open_browser(REMOTE_ADDR="203.0.113.1"), ada.key)
    assert use_passkey(ada.browser, ada.key).location == ACCOUNT  # Its device is known.


def test_a_known_device_has_a_limit_of_its_own(ada: Person, open_browser: OpenBrowser) -> None:
    log_out(ada.browser)
    use_passkey(ada.browser, ada.key)
    use = partial(use_passkey, ada.browser, ada.key, page="/account/confirm")
    for _ in range(2):
        for _ in range(4):
            use(status=422, origin="x")
        use()
    for _ in range(5):
        use(status=422, origin="x")
    use(status=429)
    use_passkey(open_browser(), ada.key)


def test_a_page_that_was_open_for_too_long_does_not_count_as_a_failure(
    ada: Person,
    open_browser: OpenBrowser,
    db: Connection,
    clock: Clock,
) -> None:
    stranger = open_browser()
    before = events(db)
    for _ in range(51):
        page = stranger.get("/login")
        clock.tick(10)
        refused = send_credential(page, ada.key.get(options_on(page)), status=422)
        assert "This page was open for too long." in refused
    assert events(db) == before
    use_passkey(stranger, ada.key)


# Removing and renaming


def test_removing_the_last_passkey_makes_the_password_enough(
    ada: Person, open_browser: OpenBrowser, db: Connection
) -> None:
    other = open_browser()
    use_passkey(other, ada.key)
    (link,) = links_on(ada.browser, "remove")
    assert "Your password alone will be enough" in ada.browser.get(link)
    page = remove(ada.browser)
    assert "The passkey is removed, and all your other sessions have ended." in page
    assert (is_logged_in(ada.browser), is_logged_in(other)) == (True, False)
    assert "Your password alone is enough to log in." in ada.browser.get("/account")
    assert execute(db, "SELECT count(*) FROM recovery_codes") == [(0,)]
    assert "passkey_removed" in events(db)
    page = use_passkey(other, ada.key, status=422)
    assert "This site does not know this passkey" in page
    assert log_in(other).location == ACCOUNT


def test_removing_one_of_two_passkeys_keeps_the_other_and_the_codes(
    ada: Person, open_browser: OpenBrowser, db: Connection
) -> None:
    other, key = open_browser(), SoftwareKey()
    add_passkey(ada.browser, key)
    # Both were added in this test's transaction, so the list is in the order of their ids.
    removed, kept = sorted((ada.key, key), key=lambda each: each.passkey_id)
    use_passkey(other, kept)
    assert "Your password alone" not in ada.browser.get(links_on(ada.browser, "remove")[0])
    remove(ada.browser)
    assert not is_logged_in(other)
    assert execute(db, "SELECT count(*) FROM recovery_codes") == [(10,)]
    use_passkey(other, removed, status=422)
    assert log_in(other).location == SECOND
    use_passkey(other, kept, page="/login/second")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("first", ["app", "passkey"])
@pytest.mark.parametrize("app_is_added_first", [True, False])
def test_removing_the_last_factor_removes_the_recovery_codes(
    browser: webtest.TestApp,
    open_browser: OpenBrowser,
    db: Connection,
    first: str,
    app_is_added_first: bool,
) -> None:
    register(browser)
    key, other = SoftwareKey(), open_browser()
    if app_is_added_first:
        phone, codes = set_up(browser)
        log_in(other)
        type_code(other, phone.code())
        add_passkey(browser, key)
        assert is_logged_in(other)
    else:
        codes = recovery_codes_on(add_passkey(browser, key, status=200))
        use_passkey(other, key)
        add_app(browser)
        assert not is_logged_in(other)  # An app is a weaker factor.
    assert len(codes) == 10
    for removed in (first, "passkey" if first == "app" else "app"):
        assert log_in(open_browser()).location == SECOND
        assert execute(db, "SELECT count(*) FROM recovery_codes") == [(10,)]
        page = "/account/totp/remove" if removed == "app" else links_on(browser, "remove")[0]
        is_last = removed != first
        assert ("Your password alone will be enough" in browser.get(page)) == is_last
        send(browser, page)
    assert execute(db, "SELECT count(*) FROM recovery_codes") == [(0,)]
    assert log_in(open_browser()).location == ACCOUNT


def test_a_passkey_that_two_sessions_remove_at_once_is_removed_once(
    site: MailSite, owner: webtest.TestApp, key: SoftwareKey
) -> None:
    add_passkey(owner, key, status=200)
    other = site.open_browser()
    use_passkey(other, key)
    forms = [last_form(each.get(links_on(each, "remove")[0])) for each in (owner, other)]
    answers = site.run_at_once(*(partial(form.submit, status="*") for form in forms))
    assert [each.location for each in answers] == [f"http://localhost{LIST}", ACCOUNT]
    assert (is_logged_in(owner), is_logged_in(other)) == (True, False)
    removed = "SELECT count(*) FROM account_events WHERE event = 'passkey_removed'"
    assert site.execute(removed) == [(1,)]


@pytest.mark.parametrize("path", ["add", "name", "remove"])
def test_nothing_is_changed_in_a_session_that_is_ended_meanwhile(
    site: MailSite, owner: webtest.TestApp, key: SoftwareKey, path: str
) -> None:
    add_passkey(owner, key, status=200)
    other = site.open_browser()
    use_passkey(other, key)
    form = last_form(owner.get(ADD if path == "add" else links_on(owner, path)[0]))
    if path == "add":
        form["credential"] = SoftwareKey(origin="http://localhost").create(
            options_on(form.response)
        )
    before = site.execute("SELECT id, name FROM passkeys")
    end = last_form(other.get("/account/sessions/end?session=others"))
    answers = site.run_at_once(*(partial(each.submit, status="*") for each in (end, form)))
    assert [each.status_int for each in answers] == [303, 303]
    assert answers[1].location == ACCOUNT
    assert site.execute("SELECT id, name FROM passkeys") == before
    assert not is_logged_in(owner)


def test_a_passkey_gets_another_name(ada: Person, db: Connection) -> None:
    (link,) = links_on(ada.browser, "name")
    answer = send(ada.browser, link, name="  <b>Ada's</b> Schlüssel 🔑 ")
    assert answer.location == f"http://localhost{LIST}"
    assert "The passkey has a new name." in answer.follow()
    assert names_on(ada.browser) == ["<b>Ada's</b> Schlüssel 🔑"]
    assert last_form(ada.browser.get(link))["name"].value == "<b>Ada's</b> Schlüssel 🔑"
    assert events(db)[-1] == "passkey_renamed"
    assert "A passkey got another name" in ada.browser.get("/account")
    assert "&lt;b&gt;Ada&#39;s" in ada.browser.get(links_on(ada.browser, "remove")[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "Type a name for the passkey."),
        ("  ", "Type a name for the passkey."),
        ("a" * 101, "Use no more than 100 characters."),
        ("a\tb", "Use one line"),
        ("a\u202eb", "Use one line"),
        ("\u3164", "This name shows nothing"),
    ],
)
def test_a_name_that_cannot_be_shown_is_refused(ada: Person, name: str, message: str) -> None:
    before = names_on(ada.browser)
    page = send(ada.browser, links_on(ada.browser, "name")[0], status=422, name=name)
    assert message in error_of(page, "name")
    assert names_on(ada.browser) == before


@pytest.mark.parametrize("action", ["name", "remove"])
def test_a_passkey_of_another_account_is_not_found(
    ada: Person, open_browser: OpenBrowser, action: str
) -> None:
    grace = open_browser()
    register(grace, email="grace@example.com")
    add_passkey(grace, SoftwareKey(), status=200)
    (of_ada,) = links_on(ada.browser, action)
    fields = {"csrf_token": csrf_token(grace), "name": "Grace's now"}
    for path in (of_ada, f"/account/passkeys/x/{action}", f"/account/passkeys/%00/{action}"):
        for send_request in (grace.get, partial(grace.post, params=fields)):
            answer = send_request(path, status=303)
            assert answer.location == f"http://localhost{LIST}"
            assert "there is no such passkey" in answer.follow()
    assert len(names_on(ada.browser)) == len(names_on(grace)) == 1
    assert "Grace's now" not in names_on(ada.browser)


@pytest.mark.parametrize("path", [ADD, LIST, "name", "remove"])
def test_the_pages_of_passkeys_need_a_login(
    ada: Person, open_browser: OpenBrowser, path: str
) -> None:
    path = path if path.startswith("/") else links_on(ada.browser, path)[0]
    assert "/login?next=" in open_browser().get(path, status=303).location


# Mail


def test_the_owner_is_told_of_each_passkey_that_is_added_or_removed(
    site: MailSite, owner: webtest.TestApp, key: SoftwareKey
) -> None:
    add_passkey(owner, key, status=200)
    assert subjects(site) == [SUBJECTS["passkey_added"]]
    add_passkey(owner, SoftwareKey(origin="http://localhost"))
    assert subjects(site) == [SUBJECTS["passkey_added"]]
    send(owner, links_on(owner, "name")[0], name="Another name")
    assert subjects(site) == []
    for _ in range(2):
        remove(owner)
        (message,) = site.deliver()
        assert (message["To"], message["Subject"]) == (EMAIL, SUBJECTS["passkey_removed"])
        assert "192.0.2.1" in message.get_content()


def test_adding_and_removing_a_passkey_voids_links_and_makes_all_devices_unknown(
    site: MailSite, owner: webtest.TestApp, key: SoftwareKey
) -> None:
    other = site.open_browser()
    log_in(other)
    site.deliver()
    site.ask("/forgot")
    link = site.deliver_link()
    add_passkey(owner, key, status=200)
    site.open_browser().get(link, status=404)
    site.deliver()
    for _ in range(2):  # The device is known from the first of these logins on.
        use_passkey(other, key)
        log_out(other)
    assert subjects(site) == [SUBJECTS["new_device"]]
    site.ask("/forgot")
    link = site.deliver_link()
    remove(owner)
    site.open_browser().get(link, status=404)
    site.deliver()
    log_in(other)
    assert subjects(site) == [SUBJECTS["new_device"]]


def test_the_owner_of_an_account_without_an_app_is_told_of_a_failed_second_step_once_an_hour(
    site: MailSite, owner: webtest.TestApp, key: SoftwareKey
) -> None:
    add_passkey(owner, key, status=200)
    site.deliver()
    for _ in range(3):
        stranger = site.open_browser(REMOTE_ADDR="203.0.113.1")
        log_in(stranger)
        use_passkey(
            stranger, SoftwareKey(origin="http://localhost"), page="/login/second", status=422
        )
    (message,) = site.deliver()
    assert (message["To"], message["Subject"]) == (EMAIL, SUBJECTS["second_failed"])
    assert "203.0.113.1" in message.get_content()
    assert "and then used a wrong code or passkey" in owner.get("/account")
    site.execute("UPDATE users SET told_of_failure_at = now() - interval '1 hour'")
    type_code(stranger, "123456", status=422)
    assert subjects(site) == [SUBJECTS["second_failed"]]
    log_out(owner)
    use_passkey(owner, key)
    log_out(owner)
    site.deliver()
    site.execute("UPDATE users SET told_of_failure_at = NULL")
    log_in(owner)  # Its device is known.
    use_passkey(owner, key, page="/login/second", status=422, origin="x")
    assert subjects(site) == []


def test_an_undone_change_of_the_address_removes_the_passkeys_that_were_added_after_it(
    site: MailSite, owner: webtest.TestApp, key: SoftwareKey
) -> None:
    # The passkeys that were added in the week before the change are removed, too.
    thief, earlier = (SoftwareKey(origin="http://localhost") for _ in range(2))
    add_passkey(owner, key, status=200)
    add_passkey(owner, earlier)
    site.deliver()
    age = "UPDATE passkeys SET created_at = now() - %s * interval '1 day' WHERE id = %s"
    site.execute(age, 8, key.passkey_id)
    site.execute(age, 6, earlier.passkey_id)
    change_address(owner, "thief@example.org")
    use(owner, site.deliver_link("thief@example.org"))
    undo = site.deliver_link(EMAIL)
    add_passkey(owner, thief)
    site.deliver()
    use(site.open_browser(), undo, password=NEW_PASSWORD)
    assert site.execute("SELECT id FROM passkeys")[0][0].tobytes() == key.passkey_id
    removed = "SELECT count(*) FROM account_events WHERE event = 'passkey_removed'"
    assert site.execute(removed) == [(2,)]
    assert SUBJECTS["passkey_removed"] in subjects(site)
    for each in (thief, earlier):
        use_passkey(site.open_browser(), each, status=422)
    use_passkey(site.open_browser(), key)
    browser = site.open_browser()
    assert log_in(browser, password=NEW_PASSWORD).location == SECOND


# The offer


def offer_on(page: Any) -> Any:
    return page.html.find(class_="offer")


def test_a_passkey_is_offered_once_after_a_login_with_the_password(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    assert offer_on(browser.get("/account")) is None
    for _ in range(2):
        log_out(browser)
        page = log_in(browser).follow()
        assert offer_on(page) is not None
        assert page.html.find("script", src=lambda src: src and "passkeys" in src) is not None
        assert offer_on(browser.get("/account")) is None
    log_out(browser)
    form = next(each for each in log_in(browser).follow().forms.values() if "suggest" in each.text)
    answer = form.submit(status=303)
    assert "We will not suggest a passkey again." in answer.follow()
    log_out(browser)
    page = log_in(browser).follow()
    assert offer_on(page) is None
    assert "Add a passkey" in page
    browser.get("/account/passkeys/decline", status=405)


def test_no_passkey_is_offered_to_an_account_that_has_one(ada: Person) -> None:
    log_out(ada.browser)
    assert offer_on(use_passkey(ada.browser, ada.key).follow()) is None
    log_out(ada.browser)
    log_in(ada.browser)
    answer = use_passkey(ada.browser, ada.key, page="/login/second")
    assert offer_on(answer.follow()) is None


def test_no_passkey_is_offered_where_the_address_is_not_confirmed(
    site: MailSite, owner: webtest.TestApp
) -> None:
    log_out(owner)
    assert offer_on(log_in(owner).follow()) is not None
    site.execute("UPDATE users SET confirmed_at = NULL")
    log_out(owner)
    assert offer_on(log_in(owner).follow()) is None


# Sites without passkeys


@pytest.fixture(scope="module")
def bare_app(ini: MakeIni) -> Any:
    """Return an application whose site is an IP address, so that it has no passkeys."""
    return hello_login.main({}, **ini(site_url="http://192.0.2.80"))


def test_without_a_host_name_the_site_takes_no_passkeys(
    ada: Person, bare_app: Any, open_browser: OpenBrowser
) -> None:
    # An account that got a passkey while the site had a host name still needs its second step.
    browser = open_browser(bare_app, HTTP_HOST="192.0.2.80")
    credential = ada.key.get(options_on(open_browser().get("/login")))

    def refuse(path: str, words: str) -> None:
        page = browser.get(path)
        assert page.html.find(id="use-passkey") is None
        for name in ("data-options", "data-signals"):
            assert page.html.find(attrs={name: True}) is None
        assert page.html.find("script", src=lambda src: src and "passkeys" in src) is None
        fields = {"csrf_token": last_form(page)["csrf_token"].value, "credential": credential}
        assert words in browser.post(path, fields, status=422)

    refuse("/login", "Type your password.")
    log_in(browser)
    refuse("/login/second", "Type the code.")
    type_code(browser, ada.recovery_codes[0])
    refuse("/account/confirm", "Type the code.")
    browser.get(ADD, status=404)
    fields = {"csrf_token": csrf_token(browser), "credential": credential}
    browser.post(ADD, fields, status=404)
    page = browser.get("/account")
    assert signals_on(page) is None
    assert "Manage passkeys" in page
    listed = browser.get(LIST)
    assert signals_on(listed) is None
    assert "Add a passkey" not in listed
    remove(browser)
    page = browser.get("/account")
    assert "passkey" not in page.html.main.find("dl").get_text().lower()
    log_out(browser)
    assert offer_on(log_in(browser).follow()) is None


def test_without_a_site_url_there_is_no_passkey(
    open_browser: OpenBrowser, production_app: Any
) -> None:
    browser = open_browser(production_app, **{"wsgi.url_scheme": "https"})
    page = browser.get("/login")
    assert page.html.find(attrs={"name": "credential"}) is None
    register(browser)
    browser.get(ADD, status=404)
    assert "passkey" not in browser.get("/account").html.main.get_text().lower()
