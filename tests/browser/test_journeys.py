"""Journeys through the pages in a real Chromium."""

import re
from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import Keyboard, on_each_device_and_in_firefox
from tests.browser.site import Site
from tests.browser.walk import fill, log_in, make_logins_old, register, wait_for_all
from tests.people import PASSWORD


@on_each_device_and_in_firefox
def test_the_whole_journey_works_by_keyboard_alone(
    visit: Visit, site: Site, email: str, java_script: bool, device: dict[str, Any], scheme: str
) -> None:
    page = visit(java_script_enabled=java_script, color_scheme=scheme, **device)
    keyboard = Keyboard(page)
    heading, said = page.get_by_role("heading", level=1), page.get_by_role("status")
    problems = page.locator(".problems li")

    def repeat(password: str) -> list[str]:
        """Return what is typed into the second field, which the script hides."""
        return [] if java_script else [password]

    page.goto("/")
    keyboard.press("link", "Register")
    page.wait_for_url("/register")
    keyboard.type("Ada Lovelace", email, "short", *repeat("different"))
    wait_for_all(page, problems.first)
    assert page.title() == "Error: Register · Hello Login"
    assert problems.all_inner_texts() == [
        "This password is too short: use 12 characters or more.",
        *repeat("The two passwords differ. Type the same one in both fields."),
    ]
    keyboard.wait_for_focus("#password")
    keyboard.type(PASSWORD, *repeat(PASSWORD))
    page.wait_for_url("/account")
    assert said.inner_text() == "Welcome! Your account is ready, and you are logged in."

    keyboard.press("button", "Log out")
    page.wait_for_url("/")
    assert said.inner_text() == "You are logged out."
    keyboard.press("link", "Log in")
    page.wait_for_url("/login")
    keyboard.type(email, "a wrong password")
    problems.wait_for()
    keyboard.wait_for_focus("#password")
    keyboard.type(PASSWORD)
    page.wait_for_url("/account")
    assert said.count() == 0

    other = visit()
    log_in(other, email)
    other.wait_for_url("/account")
    page.reload()
    devices = page.get_by_role("listitem").filter(has_text="last seen just now")
    assert devices.count() == 1
    name = r"^End this session Chrome on Linux [\d.:]+, logged in since \w+ \w+,? 20\d\d.* \d+:\d\d"
    keyboard.press("button", re.compile(name))
    said.wait_for()
    assert said.inner_text() == "That session has ended."
    assert devices.count() == 0

    make_logins_old(site)
    keyboard.press("link", "Change password")
    page.get_by_role("heading", name="Confirm that it is you").wait_for()
    keyboard.type("a wrong password")
    problems.wait_for()
    assert problems.inner_text().startswith("This is not your password.")
    keyboard.wait_for_focus("#current")
    keyboard.type(PASSWORD)
    page.wait_for_url("/account/password")
    keyboard.wait_for_focus("#current")
    keyboard.type(PASSWORD, PASSWORD + "!", *repeat(PASSWORD + "!"))
    page.wait_for_url("/account")
    assert said.inner_text().startswith("Your password is changed")

    keyboard.press("link", "Delete account")
    page.wait_for_url("/account/delete")
    keyboard.type(PASSWORD + "!")
    page.wait_for_url("/")
    assert said.inner_text() == "Your account is deleted."
    assert heading.inner_text() == "Hello World, Little Dude, How Are You?"


def test_the_skip_link_leads_past_the_header(visit: Visit) -> None:
    page = visit()
    page.goto("/")
    page.keyboard.press("Tab")
    page.locator(".skip:focus").wait_for()
    page.keyboard.press("Enter")
    page.locator("main:focus").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_each_error_links_to_its_field(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    page.goto("/register")
    fill(page, "Register")
    for name in ("name", "email", "password"):
        page.locator(f".problems a[href='#{name}']").click()
        page.locator(f"#{name}:focus").wait_for()


def test_a_password_is_shown_on_demand_and_hidden_when_the_form_is_sent(visit: Visit) -> None:
    page = visit()
    page.goto("/login")
    field = page.locator("#password")
    field.fill("a secret")
    page.get_by_role("button", name="Show: Password").click()
    assert field.get_attribute("type") == "text"
    with page.expect_navigation(), page.expect_request("**/login") as sent:
        page.evaluate(
            """() => {
                const [next, password] = document.querySelectorAll("[name=next], #password");
                next.form.addEventListener("submit", () => { next.value = password.type; });
            }"""
        )
        field.press("Enter")
    assert "next=password" in sent.value.post_data
    page.get_by_role("button", name="Show: Password").click()
    page.get_by_role("button", name="Hide: Password").click()
    assert field.get_attribute("type") == "password"


@pytest.mark.parametrize("java_script", [False, True], ids=["no JavaScript", "JavaScript"])
def test_a_double_click_registers_once(visit: Visit, email: str, java_script: bool) -> None:
    page = visit(java_script_enabled=java_script)
    page.goto("/register")
    for name, text in (("name", "Ada"), ("email", email), ("password", PASSWORD)):
        page.locator(f"#{name}").fill(text)
    if not java_script:
        page.locator("#confirm").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Register").dblclick()
    # wait_for_url would fail when the second click interrupts the first navigation.
    page.get_by_text("You registered").wait_for()
    assert page.get_by_text("You registered").count() == 1


def test_a_form_submitted_twice_is_sent_once(visit: Visit, email: str) -> None:
    page = visit()
    register(page, email)
    page.goto("/account/password")
    page.locator("#current").fill(PASSWORD)
    page.locator("#password").fill("short")
    held: list[Any] = []
    page.route("**/account/password", lambda route: held.append(route))
    page.keyboard.press("Enter")
    while not held:
        page.wait_for_timeout(10)
    page.keyboard.press("Enter")
    held[0].continue_()
    page.locator(".problems").wait_for()
    assert len(held) == 1


def test_neither_back_nor_reload_sends_a_form_again(visit: Visit, email: str) -> None:
    page = visit()
    page.goto("/register")
    fill(page, "Register", name="Ada", email=email, password="short", confirm="short")
    problems = page.locator(".problems")
    wait_for_all(page, problems)  # the script makes a reload harmless
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    page.reload()
    assert problems.count() == 0
    assert "POST" not in sent
    fill(page, "Register", name="Ada", email=email, password="short", confirm="short")
    problems.wait_for()
    fill(page, "Register", password=PASSWORD, confirm=PASSWORD)
    page.wait_for_url("/account")
    sent.clear()
    page.go_back()
    page.wait_for_url("/account")  # where /register redirects a logged-in browser
    page.go_back()
    page.reload()
    assert "GET" in sent
    assert "POST" not in sent


def test_an_expired_login_form_still_leads_to_the_requested_page(visit: Visit, email: str) -> None:
    page = visit()
    register(page, email)
    page.get_by_role("button", name="Log out").click()
    page.goto("/account/profile")
    page.context.clear_cookies(name="csrf_token")
    fill(page, "Log in", email=email, password=PASSWORD)
    page.get_by_role("link", name="Open the form again").click()
    fill(page, "Log in", email=email, password="a wrong one")
    page.locator(".problems").wait_for()
    page.reload()
    fill(page, "Log in", email=email, password=PASSWORD)
    page.wait_for_url("/account/profile")


def test_a_login_form_leads_to_the_account_after_a_login_in_another_tab(
    visit: Visit, email: str
) -> None:
    page = visit()
    register(page, email)
    page.get_by_role("button", name="Log out").click()
    page.goto("/login")
    other = page.context.new_page()
    log_in(other, email)
    other.wait_for_url("/account")
    fill(page, "Log in", email=email, password=PASSWORD)
    page.wait_for_url("/account")


def test_a_registration_leads_to_the_requested_page(visit: Visit, email: str) -> None:
    page = visit(java_script_enabled=False)
    page.goto("/account/profile")
    assert page.get_by_text("Log in to continue.").count() == 1
    page.get_by_role("main").get_by_role("link", name="Register").click()
    fill(page, "Register", name="Ada", email=email, password=PASSWORD, confirm=PASSWORD)
    page.wait_for_url("/account/profile")
    assert page.get_by_role("status").inner_text().startswith("Welcome!")
