"""Journeys through mails and their links in a real Chromium, with the mailbox of development."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.browser.site import Site, open_page
from tests.browser.walk import open_link

PASSWORDS = ("correct horse battery", "staple battery horse", "another horse staple")


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def page(chromium: Any, mail_site: Site, request: pytest.FixtureRequest) -> Iterator[Any]:
    with ExitStack() as opened:
        options = {"java_script_enabled": request.param}
        yield opened.enter_context(open_page(chromium, mail_site, **options))


def press(page: Any, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_load_state()


def choose_password(page: Any, password: str) -> None:
    page.wait_for_load_state()
    page.get_by_label("Password", exact=True).fill(password)
    again = page.get_by_label("Repeat the password", exact=True)
    if again.is_visible():  # the script hides it
        again.fill(password)


def log_in(page: Any, email: str, password: str) -> None:
    page.goto("/login")
    page.get_by_label("Email address").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    press(page, "Log in")


def test_a_user_registers_recovers_the_password_and_changes_the_address_by_mail(
    page: Any, request: pytest.FixtureRequest
) -> None:
    name = "ada" if "no" in request.node.callspec.id else "grace"
    old, new = f"{name}@example.com", f"{name}@example.org"

    page.goto("/register")
    page.get_by_label("Email address").fill(old)
    press(page, "Send the link")
    assert old in page.get_by_role("main").inner_text()
    open_link(page, "Confirm your address", old)
    page.get_by_label("Name").fill("Ada Lovelace")
    choose_password(page, PASSWORDS[0])
    press(page, "Register")
    assert "Your account is ready" in page.get_by_role("status").inner_text()
    press(page, "Log out")

    page.goto("/login")
    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("Email address").fill(old)
    press(page, "Send the link")
    open_link(page, "Set a new password", old)
    choose_password(page, PASSWORDS[1])
    press(page, "Set password")
    log_in(page, old, PASSWORDS[1])
    assert "Ada Lovelace" in page.get_by_role("navigation").inner_text()

    page.goto("/account/profile")
    page.get_by_label("Email address").fill(new)
    press(page, "Save")
    assert old in page.get_by_role("main").inner_text()
    open_link(page, "Confirm your address", new)
    press(page, "Confirm")
    assert new in page.get_by_role("main").inner_text()

    open_link(page, "Your address was changed", old)
    choose_password(page, PASSWORDS[2])
    press(page, "Get it back")
    log_in(page, old, PASSWORDS[2])
    assert old in page.get_by_role("main").inner_text()
