"""A walk through every page in every state."""

import re
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import webtest

import hello_login
from hello_login.web.security import AuthTktSecurityPolicy
from tests.browser.authenticator import Authenticator
from tests.browser.phone import Phone
from tests.browser.site import Site
from tests.conftest import ROOT
from tests.people import EMAIL, PASSWORD

NAME = "Ada Lovelace"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
)


SMALLEST_WIDTH = 320
"""In CSS pixels: WCAG 2.2, 1.4.10 requires it, and twice as much for text of 200 %, 1.4.4."""


def fill(page: Any, button: str, **typed: str) -> None:
    """Type the values into the visible fields of these names, and press the button.

    The script hides the field `confirm`.
    """
    page.wait_for_load_state()
    for name, value in typed.items():
        field = page.locator(f"input[name={name}]")
        if name != "confirm" or field.is_visible():
            field.fill(value)
    page.get_by_role("main").get_by_role("button", name=button, exact=True).click()


def register(page: Any, email: str = EMAIL, name: str = NAME) -> None:
    page.goto("/register")
    fill(page, "Register", name=name, email=email, password=PASSWORD, confirm=PASSWORD)


def problems(page: Any) -> Any:
    """Return the summary of what is wrong with the form that was sent."""
    return page.locator(".problems")


def log_in(page: Any, email: str = EMAIL, password: str = PASSWORD) -> None:
    page.goto("/login")
    fill(page, "Log in", email=email, password=password)


def log_out(page: Any) -> None:
    page.goto("/account")
    page.get_by_role("button", name="Log out").click()
    page.get_by_text("You are logged out.").wait_for()


def wait_for_all(page: Any, first: Any) -> None:
    """Wait until the first part is visible, and then until its page is complete and scripted."""
    first.wait_for()
    page.wait_for_load_state()


def open_link(page: Any, subject: str, recipient: str) -> None:
    """Wait for the newest mail with this subject and recipient, and follow its link."""
    for _ in range(100):
        page.goto("/dev/mailbox")
        subjects = page.locator("h2").all_inner_texts()
        recipients = page.locator("h2 + .hint").all_inner_texts()
        mails = list(zip(subjects, recipients, strict=True))
        if (subject, f"To {recipient}") in mails:
            number = mails.index((subject, f"To {recipient}"))
            page.locator("pre").nth(number).locator("a[href*='/link/']").click()
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"no mail {subject!r} to {recipient}")


def make_logins_old(site: Site) -> None:
    """Let every session ask for the password before a page that needs a fresh login."""
    site.database.execute("UPDATE sessions SET authenticated_at = now() - INTERVAL '1 hour'")


def walk(page: Any, site: Site) -> Iterator[str]:
    """Yield the name of each state while the page is in it; the caller must not leave the page."""
    page.goto("/")
    yield _reach(page, "home", "Log in to be greeted by name")
    page.goto("/register")
    yield _reach(page, "register", "Already registered?")
    page.locator("#password").fill("correct horse")
    yield _reach(page, "register-password-judged", "This password is good.")
    fill(page, "Register", name="", email="ada@", password="short", confirm="other")
    yield _reach(page, "register-refused", "This password is too short")
    register(page)
    yield _reach(page, "registered", "Welcome!")
    page.goto("/")
    yield _reach(page, "home-logged-in", "Good to see you")
    yield from _walk_account(page, site)
    yield from _walk_passkeys(page, site)
    phone, codes = yield from _walk_set_up(page, site)
    yield from _walk_errors(page, site)
    page.goto("/")
    page.get_by_role("button", name="Log out").click()
    yield _reach(page, "logged-out", "You are logged out")
    yield from _walk_login(page)
    yield from _walk_second_step(page, site, phone, codes)
    yield from _walk_rate_limit(page, "login-rate-limited")


def walk_with_mail(page: Any, site: Site) -> Iterator[str]:
    """Yield the name of each state that only a site with mail has, while the page is in it."""
    page.goto("/register")
    yield _reach(page, "register-by-mail", "Already registered?")
    page.goto("/forgot")
    yield _reach(page, "forgot", "Send the link")
    page.goto("/register")
    email = f"walker.{EMAIL}"  # journeys by mail use other addresses
    fill(page, "Send the link", email=email)
    yield _reach(page, "sent", email)
    open_link(page, "Confirm your address", email)
    yield _reach(page, "link", "Your address is")
    fill(page, "Register", name=NAME, password=PASSWORD, confirm=PASSWORD)
    _reach(page, "", "Your account is ready")
    site.database.execute("UPDATE users SET confirmed_at = NULL")
    page.reload()
    yield _reach(page, "account-unconfirmed", "not confirmed")
    page.get_by_role("link", name="Set up an authenticator app").click()
    yield _reach(page, "totp-unconfirmed", "Confirm your address")
    page.goto("/account/passkeys/add")
    yield _reach(page, "add-passkey-unconfirmed", "Confirm your address")
    page.goto("/account/profile")
    site.database.execute("DELETE FROM sessions")
    fill(page, "Save")
    yield _reach(page, "session-over", "You had been logged out")
    log_in(page, email, "a wrong one")
    yield _reach(page, "login-with-mail-refused", "or get a new password")
    yield from _walk_rate_limit(page, "login-with-mail-rate-limited", email)


def _reach(page: Any, state: str, words: str) -> str:
    """Wait for words that only this state shows, and return the state's name."""
    page.get_by_role("main").get_by_text(words).first.wait_for()
    return state


def _walk_account(page: Any, site: Site) -> Iterator[str]:
    for user_agent in (IPHONE, FIREFOX):
        other = page.context.browser.new_context(base_url=site.url, user_agent=user_agent)
        log_in(other.new_page())
        other.close()
    page.goto("/account")
    yield _reach(page, "account", "Firefox on Windows")
    page.get_by_role("link", name="All activity of the last 90 days").click()
    yield _reach(page, "activity", "You registered")
    yield from _walk_busy_activity(page, site)
    page.goto("/account/profile")
    yield _reach(page, "profile", "Change your name or email")
    fill(page, "Save", name="", email="ada@example.org")
    yield _reach(page, "profile-refused", "Type your name")
    page.goto("/account/profile")
    fill(page, "Save", name="Ada King")
    yield _reach(page, "profile-saved", "Your changes are saved")
    page.goto("/account/profile")
    fill(page, "Save", name="Augusta" * 14)
    yield _reach(page, "long-name", "AugustaAugusta")
    page.goto("/account/profile")
    fill(page, "Save", name="Ada King")
    _reach(page, "", "Your changes are saved")
    page.goto("/account/password")
    yield _reach(page, "password", "other devices have to log in again")
    fill(page, "Change password", current="a wrong one", password="password1234", confirm="other")
    yield _reach(page, "password-refused", "Many people use this password")
    page.goto("/account")
    page.goto(page.locator("form[action*='session=']").first.get_attribute("action"))
    yield _reach(page, "end-session", "That device has")
    page.goto("/account/sessions/end?session=others")
    yield _reach(page, "end-sessions", "Those devices have")
    page.goto("/account/delete")
    yield _reach(page, "delete", "will be deleted")
    fill(page, "Delete my account", current="a wrong one")
    yield _reach(page, "delete-refused", "This is not your password")


def _walk_busy_activity(page: Any, site: Site) -> Iterator[str]:
    """Fill the account with events of two months, and show them."""
    site.database.execute(
        """
        INSERT INTO account_events (event, user_id, address, device, happened_at)
        SELECT event, users.id, '2001:db8::1', device, now() - n * INTERVAL '7 hours'
          FROM users, generate_series(1, 30) AS n,
               (VALUES ('logged_in', 'Firefox on Windows'), ('login_failed', 'curl'),
                       ('logged_out', 'A browser on an iPhone')) AS kinds (event, device)
        """
    )
    site.database.execute(
        """
        INSERT INTO account_events (event, user_id, address, device, happened_at)
        SELECT 'login_failed', users.id, '198.51.100.1', 'Unknown device',
               now() - n * INTERVAL '3 minutes'
          FROM users, generate_series(1, 12) AS n
        """
    )
    page.reload()
    yield _reach(page, "activity-two-pages", "2001:db8::1")
    page.get_by_role("link", name="Older").click()
    yield _reach(page, "activity-older", "Back to the newest")
    page.goto("/account")
    yield _reach(page, "account-after-attempts", "Failed attempts")
    site.database.execute(
        "DELETE FROM account_events WHERE address IN ('2001:db8::1', '198.51.100.1')"
    )


def _walk_passkeys(page: Any, site: Site) -> Iterator[str]:
    """Add a passkey, use it, and remove it."""
    authenticator = Authenticator(page)
    page.goto("/")
    page.get_by_role("button", name="Log out").click()
    log_in(page)
    yield _reach(page, "passkey-offer", "Log in without your password")
    page.get_by_role("link", name="Add a passkey").first.click()
    yield _reach(page, "add-passkey", "your password manager will keep the passkey")
    authenticator.set_owner(verified=False)
    fill(page, "Add a passkey")
    yield _reach(page, "add-passkey-cancelled", "No passkey was added")
    authenticator.set_owner()
    fill(page, "Add a passkey")
    yield _reach(page, "recovery-codes-with-passkey", "they are not shown again")
    page.goto("/account")
    yield _reach(page, "account-with-passkey", "Manage passkeys")
    page.goto("/account/passkeys/add")
    fill(page, "Add a passkey")
    yield _reach(page, "passkey-exists", "has a passkey for your account already")
    page.goto("/account/passkeys")
    yield _reach(page, "passkeys", "not used yet")
    page.get_by_role("link", name="Rename: ").click()
    yield _reach(page, "rename-passkey", "You see it in the list")
    fill(page, "Save", name="")
    yield _reach(page, "rename-passkey-refused", "Type a name for the passkey")
    fill(page, "Save", name="Augusta" * 14)
    yield _reach(page, "passkey-renamed", "The passkey has a new name")
    make_logins_old(site)
    page.get_by_role("link", name="Remove: ").click()
    yield _reach(page, "confirm-with-passkey", "or use a passkey")
    fill(page, "Use a passkey")
    yield _reach(page, "remove-passkey", "It is your only second step")
    authenticator.set_owner(present=False)
    page.get_by_role("button", name="Log out").click()
    log_in(page)
    yield _reach(page, "second-step-with-passkey", "Each works once")
    authenticator.set_owner(verified=False)
    fill(page, "Use a passkey")
    yield _reach(page, "second-step-passkey-cancelled", "No passkey was used")
    site.database.execute("DELETE FROM passkeys")
    authenticator.set_owner()
    page.goto("/login")
    yield _reach(page, "login-passkey-refused", "This site does not know this passkey")
    authenticator.remove()
    log_in(page)
    page.goto("/account/passkeys")
    yield _reach(page, "passkeys-none", "You have none")


def _walk_set_up(page: Any, site: Site) -> Generator[str, None, tuple[Phone, list[str]]]:
    """Set up an app as the second factor, and return the app and the recovery codes."""
    make_logins_old(site)
    page.goto("/account/totp")
    yield _reach(page, "confirm", "You logged in a while ago")
    fill(page, "Confirm", current="a wrong one")
    yield _reach(page, "confirm-refused", "This is not your password")
    fill(page, "Confirm", current=PASSWORD)
    yield _reach(page, "totp", "Scan this picture")
    phone = Phone.scan(page)
    fill(page, "Turn on", code="12345")
    yield _reach(page, "totp-refused", "A code of the app has 6 digits")
    fill(page, "Turn on", code=phone.unused_code())
    yield _reach(page, "recovery-codes", "they are not shown again")
    codes: list[str] = page.locator(".codes code").all_inner_texts()
    page.get_by_role("link", name="I have kept them").click()
    yield _reach(page, "account-with-second-step", "Remove the app")
    page.goto("/account/totp")
    yield _reach(page, "totp-on", "To use another one")
    page.goto("/account/recovery-codes")
    yield _reach(page, "recovery-codes-left", "You have 10 recovery codes left")
    page.goto("/account/totp/remove")
    yield _reach(page, "remove-second-step", "Your password alone will be enough")
    make_logins_old(site)
    page.reload()
    yield _reach(page, "confirm-with-code", "Type your password and a code to go on")
    fill(page, "Confirm", current=PASSWORD, code="1234567")
    yield _reach(page, "confirm-with-code-refused", "A code has 6 digits")
    fill(page, "Confirm", current=PASSWORD, code=phone.unused_code())
    _reach(page, "", "Your password alone will be enough")
    return phone, codes


def _walk_errors(page: Any, site: Site) -> Iterator[str]:
    page.goto("/account/profile")
    page.locator("main [name=csrf_token]").evaluate("field => { field.value = 'old' }")
    fill(page, "Save")
    yield _reach(page, "expired", "This form has expired")
    page.goto("/nowhere")
    yield _reach(page, "not-found", "There is no such page")
    page.goto("/logout")
    yield _reach(page, "not-allowed", "This can't be done here")
    forbidden = _render_forbidden(site)
    page.route(re.compile("/account$"), lambda route: route.fulfill(status=403, body=forbidden))
    page.goto("/account")
    yield _reach(page, "forbidden", "You don't have access to this page")
    page.unroute_all()
    # A wrong type makes the page fail.  A missing table would be reported as an old schema.
    change = "ALTER TABLE users ALTER created_at TYPE {0} USING created_at::{0}"
    site.database.execute("ALTER TABLE users ALTER created_at DROP DEFAULT")
    site.database.execute(change.format("text"))
    page.goto("/account")
    yield _reach(page, "failed", "Something went wrong here")
    site.database.execute(change.format("timestamptz"))
    site.database.execute("ALTER TABLE users ALTER created_at SET DEFAULT now()")
    site.database.kill()
    page.goto("/account")
    yield _reach(page, "offline", "Our database is too busy or unreachable")
    site.database.start_again()


def _walk_login(page: Any) -> Iterator[str]:
    page.goto("/login")
    yield _reach(page, "login", "Forgot your password?")
    page.goto("/account")
    yield _reach(page, "login-to-go-on", "Log in to continue")
    log_in(page, password="a wrong one")
    yield _reach(page, "login-refused", "That address and password do not match")
    register(page)
    yield _reach(page, "register-known-address-refused", "You already have an account")


def _walk_second_step(page: Any, site: Site, phone: Phone, codes: list[str]) -> Iterator[str]:
    log_in(page)
    yield _reach(page, "second-step", "that your authenticator app shows")
    fill(page, "Log in", code="12345")
    yield _reach(page, "second-step-refused", "A code has 6 digits")
    fill(page, "Log in", code=phone.code(steps_from_now=-5))
    yield _reach(page, "second-step-clock-refused", "Check the clock of your phone")
    page.get_by_role("link", name="Use a recovery code", exact=True).click()
    yield _reach(page, "recovery-code", "Each works once")
    fill(page, "Log in", code="A" * 24)
    yield _reach(page, "recovery-code-refused", "This recovery code is wrong")
    for _ in range(5):
        page.goto("/login/second")
        fill(page, "Log in", code="000000")
    yield _reach(page, "second-step-rate-limited", "Too many wrong codes")
    site.database.execute(
        "UPDATE throttles SET blocked_until = 'infinity' WHERE blocked_until > now()"
    )
    fill(page, "Log in", code="000000")
    yield _reach(page, "second-step-locked", "There were too many wrong codes")
    page.get_by_role("link", name="Use a recovery code", exact=True).click()
    fill(page, "Log in", code=codes[0])
    yield _reach(page, "recovery-code-used", "You have 9 recovery codes left")
    page.get_by_role("button", name="Log out").click()
    _reach(page, "", "You are logged out")


def _walk_rate_limit(page: Any, state: str, email: str = EMAIL) -> Iterator[str]:
    for _ in range(6):
        log_in(page, email, "a wrong one")
    yield _reach(page, state, "Too many wrong passwords")


def _render_forbidden(site: Site) -> str:
    """Return the page for a missing permission; no view requires one that a user can lack."""
    ini = {"database_url": site.database.url, "secret_key": "k" * 32, "migrations": f"{ROOT}/sql"}
    ini["trusted_proxy"] = "none"
    app = hello_login.main({}, **{f"hello_login.{name}": ini[name] for name in ini})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuthTktSecurityPolicy, "permits", lambda *_: False)
        patch.setattr(AuthTktSecurityPolicy, "identity", lambda *_: EMAIL)
        browser = webtest.TestApp(app, {"HTTP_ACCEPT": "text/html"})
        return str(browser.get("/account", status=403).text)
