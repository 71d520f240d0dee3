"""The main journey in a real Firefox; test_journeys.py has the one by keyboard alone."""

from typing import Any

import pytest

from tests.browser.conftest import Visit
from tests.browser.firefox import open_firefox_page
from tests.browser.phone import Phone
from tests.browser.site import Site
from tests.browser.walk import fill, log_in, log_out, register, wait_for_all
from tests.people import NEW_PASSWORD, PASSWORD


def test_the_main_journey_works_in_firefox(visit: Visit, email: str) -> None:
    page = visit(browser="Firefox")
    problems, said = page.locator(".problems li"), page.get_by_role("status")

    register(page, email)
    page.wait_for_url("/account")
    log_out(page)
    log_in(page, email, "a wrong password")
    problems.wait_for()
    assert page.url.endswith("/login")
    fill(page, "Log in", password=PASSWORD)
    page.wait_for_url("/account")
    assert page.get_by_role("definition").filter(has_text=email).count() == 1

    other = visit()
    log_in(other, email)
    other.wait_for_url("/account")
    page.reload()
    assert page.locator("li strong").all_inner_texts() == ["Firefox on Linux", "Chrome on Linux"]
    page.get_by_role("button", name="End this session").click()
    wait_for_all(page, said)
    assert page.locator("li strong").all_inner_texts() == ["Firefox on Linux"]
    other.goto("/account")
    other.wait_for_url("/login?next=%2Faccount")

    page.goto("/account/password")
    new = {"password": NEW_PASSWORD, "confirm": NEW_PASSWORD}
    fill(page, "Change password", current=PASSWORD, **new)
    page.wait_for_url("/account")

    page.goto("/account/totp")
    # A picture of the page, to scan the QR code, needs a style that Firefox blocks by our policy.
    secret = page.locator(".secret").inner_text().replace(" ", "")
    phone = Phone(f"otpauth://totp/{email}?secret={secret}")
    fill(page, "Turn on", code=phone.unused_code())
    page.locator(".codes").wait_for()
    log_out(page)
    log_in(page, email, NEW_PASSWORD)
    page.wait_for_url("/login/second")
    fill(page, "Log in", code="000000")
    problems.wait_for()
    fill(page, "Log in", code=phone.unused_code())
    page.wait_for_url("/account")

    page.goto("/account/delete")
    fill(page, "Delete my account", current=NEW_PASSWORD)
    page.wait_for_url("/")
    log_in(page, email, NEW_PASSWORD)
    problems.wait_for()


ERRORS = """async () => {
    console.error("a message");
    setTimeout(() => { throw new Error("an exception"); });
    document.head.append(document.createElement("style"));
    const image = Object.assign(new Image(), {src: "/static/missing"});
    await new Promise((resolve) => { image.onerror = resolve; });
}"""


def test_each_kind_of_error_on_a_page_in_firefox_is_noticed(playwright: Any, site: Site) -> None:
    elsewhere = f"http://127.0.0.1:{site.port}/healthz"

    def visit_page_with_errors() -> None:
        with open_firefox_page(playwright, site) as page:
            page.goto("/")
            page.evaluate(ERRORS)
            page.goto(elsewhere)

    with pytest.raises(AssertionError) as failed:
        visit_page_with_errors()
    for error in (
        "a message",
        "an exception",
        "CSP",
        f"status 404: {site.url}/static/missing",
        f"request to another origin: {elsewhere}",
    ):
        assert error in str(failed.value)
