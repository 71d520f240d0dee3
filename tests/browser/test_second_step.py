"""Journeys through logins in two steps in a real Chromium, with an app that is not ours."""

from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import DESKTOP, Keyboard, on_each_device
from tests.browser.phone import Phone
from tests.browser.site import Site
from tests.browser.walk import (
    SMALLEST_WIDTH,
    fill,
    log_in,
    log_out,
    make_logins_old,
    problems,
    register,
    wait_for_all,
)
from tests.people import PASSWORD

FIELD = "autocomplete", "inputmode"


def set_up(page: Any) -> tuple[Phone, list[str]]:
    """Set up an app as the second factor, and return the app and the recovery codes."""
    page.goto("/account/totp")
    phone = Phone.scan(page)
    fill(page, "Turn on", code=phone.unused_code())
    wait_for_all(page, page.locator(".codes"))
    return phone, page.locator(".codes code").all_inner_texts()


def attributes(page: Any) -> list[str | None]:
    """Return what the field of the code asks of a phone's keyboard."""
    field = page.locator("#code")
    return [field.get_attribute(name) for name in FIELD]


@on_each_device
def test_the_second_step_works_by_keyboard_alone(
    visit: Visit, email: str, java_script: bool, device: dict[str, Any], scheme: str
) -> None:
    page = visit(java_script_enabled=java_script, color_scheme=scheme, **device)
    keyboard = Keyboard(page)
    said, refusals = page.get_by_role("status"), problems(page).get_by_role("link")

    def log_in_by_password() -> None:
        keyboard.press("button", "Log out")
        page.wait_for_url("/")
        keyboard.press("link", "Log in")
        page.wait_for_url("/login")
        keyboard.type(email, PASSWORD)

    register(page, email)
    page.wait_for_url("/account")
    # A message that is unread takes the focus from the fields of the next page.
    page.goto("/account")
    keyboard.press("link", "Set up an authenticator app")
    page.wait_for_url("/account/totp")
    phone = Phone.scan(page)
    keyboard.wait_for_focus("#code")
    assert attributes(page) == ["one-time-code", "numeric"]
    keyboard.type("12345")
    refusals.wait_for()
    keyboard.wait_for_focus("#code")
    assert Phone.scan(page).secret == phone.secret
    keyboard.type(phone.unused_code())
    wait_for_all(page, page.get_by_role("heading", name="Keep your recovery codes"))
    codes = page.locator(".codes code").all_inner_texts()
    assert len(set(codes)) == 10
    keyboard.press("link", "I have kept them")
    page.wait_for_url("/account")

    log_in_by_password()
    page.wait_for_url("/login/second")
    keyboard.wait_for_focus("#code")
    assert attributes(page) == ["one-time-code", "numeric"]
    keyboard.type(phone.code(steps_from_now=-5))
    refusals.wait_for()
    assert refusals.inner_text().startswith("This code is for another time.")
    assert page.locator("#code").input_value() == ""
    keyboard.wait_for_focus("#code")
    keyboard.type(phone.unused_code())
    page.wait_for_url("/account")
    assert said.count() == 0

    log_in_by_password()
    page.wait_for_url("/login/second")
    keyboard.press("link", "Use a recovery code")
    page.wait_for_url("/login/second?with=recovery")
    keyboard.wait_for_focus("#code")
    assert attributes(page) == ["off", None]
    keyboard.type(codes[0].lower())
    page.wait_for_url("/account")
    assert said.inner_text() == "You have 9 recovery codes left."

    keyboard.press("link", "Remove the app")
    page.wait_for_url("/account/totp/remove")
    keyboard.press("button", "Remove the app")
    page.wait_for_url("/account")
    assert said.inner_text().startswith("The app is removed")
    log_in_by_password()
    page.wait_for_url("/account")


@pytest.mark.parametrize("java_script", [False, True], ids=["no JavaScript", "JavaScript"])
def test_a_pasted_code_may_have_blanks(visit: Visit, email: str, java_script: bool) -> None:
    page = visit(java_script_enabled=java_script)
    register(page, email)
    phone, _ = set_up(page)
    log_out(page)
    log_in(page, email)
    page.wait_for_url("/login/second")
    page.locator("#code:focus").wait_for()
    code = phone.unused_code()
    page.keyboard.insert_text(f" {code[:3]} {code[3:]} ")
    page.keyboard.press("Enter")
    page.wait_for_url("/account")


@pytest.mark.parametrize("domain", ["example.com", f"{'a' * 60}.{'b' * 60}.{'c' * 60}.example"])
def test_a_phone_reads_the_qr_code_from_the_screen(visit: Visit, email: str, domain: str) -> None:
    email = f"{email.partition('@')[0]}+codes@{domain}"
    page = visit()
    register(page, email)
    page.goto("/account/totp")
    secret = page.locator(".secret").inner_text()
    for media in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}):
        for width in (SMALLEST_WIDTH, DESKTOP["viewport"]["width"]):
            page.emulate_media(**media)
            page.set_viewport_size({"width": width, "height": 700})
            phone = Phone.scan(page)
            assert (phone.issuer, phone.account) == ("Hello Login", email)
            assert phone.secret == secret.replace(" ", "")
    assert all(len(group) == 4 for group in secret.split(" "))


def test_recovery_codes_are_printed_in_dark_ink_without_the_rest_of_the_page(
    visit: Visit, email: str
) -> None:
    page = visit(color_scheme="dark")
    register(page, email)
    set_up(page)
    page.emulate_media(media="print")
    codes = page.locator(".codes")
    assert codes.is_visible()
    assert codes.evaluate("element => getComputedStyle(element).color") == "rgb(32, 37, 30)"
    assert page.get_by_text(f"These codes are for {email} at localhost").is_visible()
    assert not page.locator("header").is_visible()
    assert not page.get_by_role("link", name="I have kept them").is_visible()


@pytest.mark.parametrize("java_script", [False, True], ids=["no JavaScript", "JavaScript"])
def test_a_double_click_sets_up_one_app_and_leaves_a_way_to_recovery_codes(
    visit: Visit, email: str, java_script: bool
) -> None:
    page = visit(java_script_enabled=java_script)
    register(page, email)
    page.goto("/account/totp")
    page.locator("#code").fill(Phone.scan(page).unused_code())
    page.get_by_role("button", name="Turn on").dblclick()
    codes = page.get_by_role("heading", name="Keep your recovery codes")
    codes.or_(page.get_by_role("link", name="Make new recovery codes")).wait_for()
    page.goto("/account/recovery-codes")
    page.get_by_role("button", name="Make new codes").click()
    wait_for_all(page, codes)
    assert page.locator(".codes code").count() == 10


def test_recovery_codes_are_shown_once(visit: Visit, email: str) -> None:
    page = visit()
    register(page, email)
    _, codes = set_up(page)
    for leave in (page.reload, lambda: page.goto("/account"), page.go_back):
        leave()
        page.get_by_role("link", name="Make new recovery codes").wait_for()
        assert codes[0] not in page.content()


@pytest.mark.parametrize("java_script", [False, True], ids=["no JavaScript", "JavaScript"])
def test_a_login_can_be_canceled_before_its_second_step(
    visit: Visit, email: str, java_script: bool
) -> None:
    page = visit(java_script_enabled=java_script)
    register(page, email)
    set_up(page)
    log_out(page)
    log_in(page, email)
    page.locator("#code").fill("12345")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("You are logged out.").wait_for()
    page.goto("/login/second")
    assert page.get_by_role("heading", level=1).inner_text() == "Log in"


@pytest.mark.parametrize("java_script", [False, True], ids=["no JavaScript", "JavaScript"])
def test_an_old_login_needs_the_password_and_a_code_and_goes_on_to_the_page(
    visit: Visit, site: Site, email: str, java_script: bool
) -> None:
    page = visit(java_script_enabled=java_script)
    register(page, email)
    _, codes = set_up(page)
    make_logins_old(site)
    page.goto("/account/profile")
    keyboard = Keyboard(page)
    keyboard.wait_for_focus("#current")
    assert attributes(page) == ["one-time-code", "numeric"]
    keyboard.type("a wrong one", "12345")
    problems(page).wait_for()
    keyboard.press("link", "Use a recovery code")
    page.get_by_label("Recovery code").wait_for()
    keyboard.type("a wrong one", codes[1])
    problems(page).wait_for()
    assert page.locator("#code").input_value() == codes[1].replace("-", "")
    keyboard.type(PASSWORD)
    page.wait_for_url("/account/profile")
    fill(page, "Save", name="Ada King")
    page.wait_for_url("/account")


def test_an_old_login_needs_the_password_before_it_ends_a_session(
    visit: Visit, site: Site, email: str
) -> None:
    page = visit()
    register(page, email)
    other = visit()
    log_in(other, email)
    other.wait_for_url("/account")
    make_logins_old(site)
    page.goto("/account")
    page.get_by_role("button", name="End this session Chrome on Linux").click()
    page.get_by_role("heading", name="Confirm that it is you").wait_for()
    assert page.locator("#code").count() == 0
    fill(page, "Confirm", current=PASSWORD)
    page.get_by_text("That device has to log in again.").wait_for()
    fill(page, "End it")
    page.get_by_text("That session has ended.").wait_for()
    other.reload()
    assert other.get_by_role("heading", level=1).inner_text() == "Log in"
