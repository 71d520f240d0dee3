"""How the pages help: they say why and until when, keep what was typed, and judge a password."""

import re
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.browser.conftest import Visit
from tests.browser.people import PHONE, Keyboard
from tests.browser.site import Site, open_page
from tests.browser.walk import (
    SMALLEST_WIDTH,
    fill,
    log_in,
    log_out,
    make_logins_old,
    open_link,
    problems,
    register,
    wait_for_all,
)
from tests.people import PASSWORD

BERLIN = {"locale": "de-DE", "timezone_id": "Europe/Berlin"}
NAME = "Grace Hopper"
GOOD = "staple battery horse"

with_and_without_script = pytest.mark.parametrize(
    "java_script", [True, False], ids=["script", "no script"]
)


def main(page: Any) -> str:
    """Return the text of the page, without the header."""
    return str(page.get_by_role("main").inner_text())


def value(page: Any, name: str) -> str:
    return str(page.locator(f"main input[name={name}]:visible").input_value())


def open_form_again(page: Any) -> None:
    """Follow the first link on a page that shows an error."""
    page.get_by_role("main").get_by_role("link").first.click()
    page.wait_for_load_state()


def reach_rate_limit(page: Any, email: str) -> None:
    """Type wrong passwords until even the right one is refused."""
    for _ in range(6):
        log_in(page, email, "a wrong password")
    wait_for_all(page, problems(page).get_by_text("Too many"))


# Waits


@with_and_without_script
def test_the_wait_page_says_until_when_even_the_right_password_is_refused(
    visit: Visit, email: str, java_script: bool
) -> None:
    register(visit(), email)
    page = visit(java_script_enabled=java_script, **BERLIN)
    reach_rate_limit(page, email)
    until = page.locator("#form-error time")
    moment = datetime.fromisoformat(until.get_attribute("datetime"))
    assert 0 < (moment - datetime.now(timezone.utc)).total_seconds() <= 120
    in_berlin = f"{moment.astimezone(ZoneInfo('Europe/Berlin')):%H:%M}"
    in_utc = f"{moment.astimezone(timezone.utc):%H:%M}"
    assert until.inner_text() == (in_berlin if java_script else f"{in_utc} UTC")
    assert f"{in_utc}:00 UTC" in until.get_attribute("title")
    said = page.locator("#form-error").inner_text()
    wait = r"For (1 minute|\d+ seconds) even the right one is refused"
    assert re.search(f"{wait}; you can log in again at {until.inner_text()}", said)
    fill(page, "Log in", email=email, password=PASSWORD)
    page.get_by_text("Too many wrong passwords.").wait_for()
    assert page.locator("#password").get_attribute("aria-describedby") == "form-error"
    assert not re.search("type it|once more", main(page).lower())


@with_and_without_script
def test_the_wait_page_leads_to_a_new_password_where_mail_is_sent(
    chromium: Any, mail_site: Site, email: str, java_script: bool
) -> None:
    with open_page(chromium, mail_site, java_script_enabled=java_script) as page:
        page.goto("/register")
        fill(page, "Send the link", email=email)
        open_link(page, "Confirm your address", email)
        fill(page, "Register", name=NAME, password=PASSWORD, confirm=PASSWORD)
        page.wait_for_url("/account")
        log_out(page)
        page.context.clear_cookies()  # a new device has fewer attempts
        reach_rate_limit(page, email)
        problems(page).get_by_role("link", name="get a new password").click()
        page.wait_for_url("/forgot")
        fill(page, "Send the link", email=email)
        open_link(page, "Set a new password", email)
        fill(page, "Set password", password=GOOD, confirm=GOOD)
        page.wait_for_url("/login")
        log_in(page, email, GOOD)
        page.wait_for_url("/account")


@pytest.mark.parametrize(
    ("java_script", "registered"),
    [(True, "2. Juli 2026 um 00:30"), (False, "1 July 2026, 22:30 UTC")],
    ids=["script", "no script"],
)
def test_times_are_local_with_the_script_and_in_utc_without_it(
    visit: Visit, site: Site, email: str, java_script: bool, registered: str
) -> None:
    page = visit(java_script_enabled=java_script, **BERLIN)
    register(page, email)
    page.wait_for_url("/account")
    site.database.execute("UPDATE users SET created_at = '2026-07-01 22:30:15+00'")
    page.goto("/account")
    time = page.locator("dt:text-is('Registered') + dd time")
    assert time.inner_text() == registered
    assert time.get_attribute("datetime") == "2026-07-01T22:30:15+00:00"
    assert time.get_attribute("title") == "1 July 2026, 22:30:15 UTC"
    assert time.get_attribute("lang") == ("de-DE" if java_script else None)


def test_a_time_of_another_applications_page_stays_as_it_is(visit: Visit, email: str) -> None:
    page = visit(**BERLIN)
    register(page, email)
    page.wait_for_url("/account")
    own = "<time>two hours</time> <time datetime='2026-07-01'>1 July</time> <h1"
    page.route(
        "/account", lambda route: route.fulfill(body=route.fetch().text().replace("<h1", own, 1))
    )
    page.goto("/account")
    page.locator("dd time", has_text=" um ").first.wait_for()
    assert page.locator("time").all_inner_texts()[:2] == ["two hours", "1 July"]


# Forms that are filled in again


@with_and_without_script
def test_an_expired_registration_form_comes_back_filled_in(
    visit: Visit, email: str, java_script: bool
) -> None:
    page = visit(java_script_enabled=java_script)
    page.goto("/register")
    page.context.clear_cookies()
    fill(page, "Register", name=NAME, email=email, password=PASSWORD, confirm=PASSWORD)
    page.get_by_text("This form has expired").wait_for()
    open_form_again(page)
    assert (value(page, "name"), value(page, "email")) == (NAME, email)
    assert value(page, "password") == ""
    fill(page, "Register", password=PASSWORD, confirm=PASSWORD)
    wait_for_all(page, page.get_by_text("Welcome!"))
    assert {NAME, email} <= set(page.locator("dd").all_inner_texts())


def test_an_expired_form_of_the_account_comes_back_filled_in(visit: Visit, email: str) -> None:
    page = visit()
    register(page, email)
    page.wait_for_url("/account")
    page.goto("/account/profile")
    page.locator("main [name=csrf_token]").evaluate("field => { field.value = 'old' }")
    fill(page, "Save", name=NAME, email=f"new.{email}")
    page.get_by_text("This form has expired").wait_for()
    open_form_again(page)
    assert (value(page, "name"), value(page, "email")) == (NAME, f"new.{email}")
    fill(page, "Save")
    page.get_by_text("Your changes are saved.").wait_for()
    page.goto("/account/profile")
    assert (value(page, "name"), value(page, "email")) == (NAME, f"new.{email}")


@with_and_without_script
def test_a_form_whose_session_has_ended_comes_back_filled_in_after_a_login(
    visit: Visit, site: Site, email: str, java_script: bool
) -> None:
    page = visit(java_script_enabled=java_script)
    register(page, email)
    page.wait_for_url("/account")
    page.goto("/account/profile")
    site.database.execute("DELETE FROM sessions")
    fill(page, "Save", name=NAME)
    page.get_by_text("You had been logged out, so this may not have been saved.").wait_for()
    assert value(page, "email") == ""  # the fields belong to the other page
    fill(page, "Log in", email=email, password=PASSWORD)
    page.wait_for_url("/account/profile")
    assert (value(page, "name"), value(page, "email")) == (NAME, email)
    fill(page, "Save")
    page.get_by_text("Your changes are saved.").wait_for()
    page.goto("/account/profile")
    assert value(page, "name") == NAME


def test_a_form_that_needs_a_fresh_login_comes_back_filled_in_after_the_confirmation(
    visit: Visit, site: Site, email: str
) -> None:
    page = visit()
    register(page, email)
    page.wait_for_url("/account")
    page.goto("/account/profile")
    make_logins_old(site)
    fill(page, "Save", name=NAME)
    page.get_by_text("Nothing was changed.").wait_for()
    fill(page, "Confirm", current="a wrong password")
    problems(page).wait_for()
    fill(page, "Confirm", current=PASSWORD)
    page.wait_for_url("/account/profile")
    assert (value(page, "name"), value(page, "email")) == (NAME, email)


@with_and_without_script
def test_a_form_comes_back_filled_in_after_the_database_was_down(
    visit: Visit, site: Site, email: str, java_script: bool
) -> None:
    new, known = (visit(java_script_enabled=java_script) for _ in range(2))
    register(known, email)
    known.wait_for_url("/account")
    known.goto("/account/profile")
    new.goto("/register")
    site.database.kill()
    try:
        fill(known, "Save", name=NAME)
        typed = {"name": NAME, "email": f"new.{email}", "password": PASSWORD, "confirm": PASSWORD}
        fill(new, "Register", **typed)
        for page in (known, new):
            page.get_by_text("Nothing has changed.").wait_for()
    finally:
        site.database.start_again()
    for page in (known, new):
        open_form_again(page)
        assert value(page, "name") == NAME
    assert value(new, "email") == f"new.{email}"
    assert value(new, "password") == ""
    fill(known, "Save")
    known.get_by_text("Your changes are saved.").wait_for()
    fill(new, "Register", password=PASSWORD, confirm=PASSWORD)
    new.get_by_text("Welcome!").wait_for()


# A new password

TYPING_PAUSE = 500
"""Milliseconds.  A password is judged when nothing was typed for this time."""


def judgement(page: Any) -> Any:
    """Return the element below the field for a new password."""
    return page.get_by_role("main").locator(".row:has(#password) + [role=status]")


def judge(page: Any, password: str, expected: str, *, clock: Any = None) -> None:
    """Type a new password, and wait for what the page says about it.

    clock: that of the page, if it stands still while somebody types.
    """
    page.locator("#password").fill("")
    assert judgement(page).inner_text() == ""
    page.locator("#password").press_sequentially(password)
    if clock is not None:
        clock.run_for(TYPING_PAUSE)
    judgement(page).get_by_text(expected).wait_for()


def watch(page: Any) -> tuple[list[str], list[str]]:
    """Return a list of all URLs requested from now on, and of those that are pages."""
    urls: list[str] = []
    pages: list[str] = []

    def on_request(request: Any) -> None:
        urls.append(request.url)
        if request.is_navigation_request():
            pages.append(request.url)

    page.on("request", on_request)
    return urls, pages


def test_a_new_password_is_judged_while_it_is_typed(visit: Visit, email: str) -> None:
    page = visit()
    # On a slow machine, there may be more than TYPING_PAUSE between two letters.
    page.clock.install(time=0)
    page.goto("/register")
    page.clock.pause_at(3600)
    page.locator("#name").fill("Grace Brewster Hopper")
    page.locator("#email").fill(email)
    urls, pages = watch(page)
    for password, judged in (
        ("short", "This password is too short: use 12 characters or more."),
        ("password1234", "Many people use this password: choose another one."),
        ("grace brewster hopper", "This password is easy to guess."),
        (email, "This password is easy to guess."),
        (GOOD, "This password is good."),
    ):
        judge(page, password, judged, clock=page.clock)
    assert pages == []
    assert len(urls) == 5
    assert all(url.endswith("/password-check") for url in urls)
    # What is announced is inside of a live region that was there before.
    assert page.get_by_role("status").get_by_text("This password is good.").count() == 1


def test_a_password_is_judged_on_every_page_that_sets_one(
    chromium: Any, mail_site: Site, email: str
) -> None:
    with open_page(chromium, mail_site) as page:
        page.goto("/register")
        fill(page, "Send the link", email=email)
        open_link(page, "Confirm your address", email)
        page.locator("#name").fill("Grace Brewster Hopper")
        judge(page, "grace brewster hopper", "This password is easy to guess.")
        judge(page, email, "This password is easy to guess.")
        judge(page, PASSWORD, "This password is good.")
        fill(page, "Register")
        page.wait_for_url("/account")
        page.goto("/account/password")
        assert not page.locator("#confirm").is_visible()
        page.locator("#current").fill(PASSWORD)
        judge(page, "grace brewster hopper", "This password is easy to guess.")
        judge(page, GOOD, "This password is good.")
        fill(page, "Change password")
        page.get_by_text("Your password is changed").wait_for()
        log_out(page)
        page.goto("/forgot")
        fill(page, "Send the link", email=email)
        open_link(page, "Set a new password", email)
        assert not page.locator("#confirm").is_visible()
        judge(page, "short", "This password is too short")
        judge(page, email, "This password is easy to guess.")
        judge(page, PASSWORD, "This password is good.")
        fill(page, "Set password")
        page.wait_for_url("/login")
        log_in(page, email, PASSWORD)
        page.wait_for_url("/account")


def test_a_password_is_not_judged_while_the_server_does_not_answer(
    visit: Visit, email: str
) -> None:
    page = visit()
    page.goto("/register")
    judge(page, "short", "This password is too short")
    page.route("**/password-check", lambda route: route.fulfill(status=503, body="busy"))
    with page.expect_response("**/password-check"):
        page.locator("#password").press_sequentially("er")
    page.wait_for_function("document.querySelector('.row + [role=status]').textContent === ''")
    held: list[Any] = []
    page.unroute_all()
    page.route("**/password-check", lambda route: held.append(route))
    with page.expect_request("**/password-check"):
        page.locator("#password").fill(PASSWORD)
    assert judgement(page).inner_text() == ""
    fill(page, "Register", name=NAME, email=email)  # the form does not wait for it
    page.wait_for_url("/account")


def test_with_the_script_a_password_is_typed_once(visit: Visit, email: str) -> None:
    page = visit()
    page.goto("/register")
    assert page.locator("main input[type=password]:visible").count() == 1
    for name, text in (("name", NAME), ("email", email), ("password", PASSWORD)):
        page.locator(f"#{name}").fill(text)
    page.locator("#password").press("Enter")
    page.wait_for_url("/account")
    log_out(page)
    log_in(page, email)
    page.wait_for_url("/account")


def test_without_the_script_differing_passwords_are_refused(visit: Visit, email: str) -> None:
    page = visit(java_script_enabled=False)
    page.goto("/register")
    assert page.locator("main input[type=password]:visible").count() == 2
    fill(page, "Register", name=NAME, email=email, password=PASSWORD, confirm=GOOD)
    problems(page).get_by_role("link", name="The two passwords differ.").wait_for()
    assert page.locator("#confirm").get_attribute("aria-describedby") == "confirm-error"
    error = page.locator("#confirm-error").text_content()
    assert error.startswith("Error: The two passwords differ.")


# Hints for programs


def test_password_managers_are_told_the_rules_and_the_purpose_of_each_field(
    visit: Visit, email: str
) -> None:
    page = visit()

    def hints(field: str) -> tuple[str | None, str | None]:
        found = page.locator(field)
        return found.get_attribute("passwordrules"), found.get_attribute("autocomplete")

    rules = "minlength: 12; maxlength: 1024"
    page.goto("/register")
    assert hints("#password") == (rules, "new-password")
    assert hints("#email") == (None, "email")
    register(page, email)
    page.wait_for_url("/account")
    page.goto("/account/password")
    assert hints("#current") == (None, "current-password")
    assert hints("#password") == (rules, "new-password")
    page.goto("/.well-known/change-password")
    page.wait_for_url("/account/password")


def test_browsers_and_search_engines_find_the_files_that_they_look_for(visit: Visit) -> None:
    page = visit()
    for path, kind in (("/favicon.ico", "image/svg+xml"), ("/robots.txt", "text/plain")):
        answer = page.goto(path)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind)
    assert "Disallow: /account" in page.inner_text("body")


# Small things


def edges(page: Any, selector: str) -> tuple[float, float]:
    """Return the left and the right edge of an element, in pixels."""
    box = page.locator(selector).bounding_box()
    return box["x"], box["x"] + box["width"]


def test_the_header_lines_up_with_the_card_below_it(visit: Visit, email: str) -> None:
    page = visit()

    def check() -> None:
        # On a phone the card is as wide as the window, so the header lines up with its content.
        for width, below in ((1280, "main"), (SMALLEST_WIDTH, "h1")):
            page.set_viewport_size({"width": width, "height": 800})
            left, right = edges(page, below)
            assert edges(page, ".brand")[0] == pytest.approx(left, abs=1)
            assert edges(page, "nav > :last-child")[1] == pytest.approx(right, abs=1)

    page.goto("/login")
    check()
    register(page, email)
    page.wait_for_url("/account")
    check()


def test_the_header_takes_one_line_for_a_visitor_and_two_for_a_long_name_on_a_small_phone(
    visit: Visit, email: str
) -> None:
    page = visit(viewport={"width": SMALLEST_WIDTH, "height": 568})

    def middle(selector: str) -> float:
        box = page.locator(selector).bounding_box()
        return float(box["y"] + box["height"] / 2)

    page.goto("/login")
    assert middle("nav") == pytest.approx(middle(".brand"), abs=1)
    register(page, email, "Augusta" * 10)
    page.wait_for_url("/account")
    assert middle("nav button") == pytest.approx(middle("nav a"), abs=1)


@with_and_without_script
def test_a_missing_page_offers_a_login_or_the_account(
    visit: Visit, email: str, java_script: bool
) -> None:
    page = visit(java_script_enabled=java_script)
    links = page.get_by_role("navigation").get_by_role("link")
    page.goto("/nowhere")
    assert links.all_inner_texts() == ["Log in", "Register"]
    register(page, email)
    page.wait_for_url("/account")
    page.goto("/nowhere")
    assert links.all_inner_texts() == ["Your account"]


@pytest.mark.parametrize("path", ["/account", "/account/profile"])
@with_and_without_script
def test_back_after_a_logout_shows_neither_the_account_nor_the_name(
    visit: Visit, email: str, java_script: bool, path: str
) -> None:
    page = visit(java_script_enabled=java_script)
    register(page, email, NAME)
    page.wait_for_url("/account")
    page.goto(path)
    page.get_by_role("button", name="Log out").click()
    page.get_by_text("You are logged out.").wait_for()
    page.go_back()
    page.get_by_role("heading", name="Log in").wait_for()
    assert NAME not in page.content()
    assert email not in page.content()


@pytest.mark.parametrize("path", ["/account", "/account/profile", "/"])
def test_a_page_that_the_browser_kept_is_loaded_again_after_a_logout(
    visit: Visit, email: str, path: str
) -> None:
    page = visit()
    register(page, email, NAME)
    page.wait_for_url("/account")
    page.goto(path)
    other = page.context.new_page()
    log_out(other)
    assert NAME in page.content()
    # Chromium keeps no page that has Cache-Control: no-store, but other browsers do on plain http.
    with page.expect_navigation():
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    assert NAME not in page.content()
    assert page.get_by_role("navigation").get_by_role("link").first.inner_text() == "Log in"


@with_and_without_script
def test_a_registration_with_a_known_address_leads_to_the_login_by_keyboard_alone(
    visit: Visit, email: str, java_script: bool
) -> None:
    register(visit(), email)
    page = visit(java_script_enabled=java_script, **PHONE)
    keyboard = Keyboard(page)
    page.goto("/register?next=%2Faccount%2Fprofile")
    keyboard.type(NAME, email, *([GOOD] if java_script else [GOOD, GOOD]))
    page.get_by_text("You already have an account with this address.").first.wait_for()
    keyboard.wait_for_focus("#email")
    page.keyboard.press("Shift+Tab")  # the link is above the field
    keyboard.wait_for_focus("a:text-is('Log in')")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Log in").wait_for()
    page.wait_for_load_state()
    assert value(page, "email") == email
    keyboard.go_to("textbox", "Password")
    keyboard.type(PASSWORD)
    page.wait_for_url("/account/profile")
