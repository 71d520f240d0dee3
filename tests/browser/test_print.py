"""Printed pages: each fits on one sheet."""

import re
from typing import Any

from tests.browser.conftest import Visit
from tests.browser.phone import Phone
from tests.browser.walk import fill, log_in, register, wait_for_all

PAGE_OF_PDF = re.compile(rb"/Type\s*/Page\b")


def pages_in_print(page: Any) -> int:
    """Return the number of A4 pages that the page needs."""
    return len(PAGE_OF_PDF.findall(page.pdf(format="A4")))


def buttons_in_print(page: Any) -> list[str]:
    """Return the texts of the buttons that are printed."""
    page.emulate_media(media="print")
    buttons = page.locator("button, .button")
    return [each.inner_text() for each in buttons.all() if each.is_visible()]


def size_of_text(element: Any) -> float:
    """Return the size of an element's text in CSS pixels."""
    return float(element.evaluate("element => parseFloat(getComputedStyle(element).fontSize)"))


def test_the_account_page_is_printed_on_one_sheet_without_buttons(visit: Visit, email: str) -> None:
    page, other = visit(), visit()
    register(page, email)
    page.wait_for_url("/account")
    for password in ("a wrong one", "another wrong one"):
        log_in(other, email, password)
        other.get_by_text("There is a problem").wait_for()
    log_in(other, email)
    other.wait_for_url("/account")
    page.goto("/account")
    assert page.get_by_role("button", name="End this session").count() == 1
    assert pages_in_print(page) == 1
    assert buttons_in_print(page) == []
    name, hint = page.locator(".list strong").first, page.locator(".list .hint").first
    assert size_of_text(hint) < size_of_text(name)
    page.set_viewport_size({"width": 1000, "height": 800})
    assert page.locator("main").bounding_box()["width"] == 1000


def test_recovery_codes_are_printed_on_one_sheet_without_buttons(visit: Visit, email: str) -> None:
    page = visit()
    register(page, email)
    page.goto("/account/totp")
    fill(page, "Turn on", code=Phone.scan(page).unused_code())
    wait_for_all(page, page.locator(".codes"))
    assert page.locator(".button").count() == 1
    assert pages_in_print(page) == 1
    assert buttons_in_print(page) == []
