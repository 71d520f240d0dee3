"""Forms that are refused, as a person sees and hears them, in windows of six sizes."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.browser.site import Site, open_page
from tests.browser.walk import fill, register, wait_for_all
from tests.functional.servers import Database
from tests.people import PASSWORD

SIZES = [(320, 568), (360, 640), (640, 360), (844, 390), (1280, 720), (2560, 1440)]
"""Widths and heights in CSS pixels: phones, phones held sideways, and screens of computers."""

TYPE_AGAIN = re.compile("Type it (again|once more)")
EMAIL = "refused@example.com"


class Refusal(NamedTuple):
    """A form that is refused, and the fields that have an error."""

    path: str
    button: str
    typed: dict[str, str]
    wrong: tuple[str, ...]
    """The fields with an error, in the order of the page; none if the error is the form's."""

    focus: str
    """The field that gets the focus."""


REFUSALS = {
    "login": Refusal(
        "/login", "Log in", {"email": EMAIL, "password": "a wrong one"}, (), focus="password"
    ),
    "registration with a short password": Refusal(
        "/register",
        "Register",
        {"name": "Ada", "email": "ada@example.com", "password": "short", "confirm": "short"},
        ("password",),
        focus="password",
    ),
    "registration with three errors": Refusal(
        "/register",
        "Register",
        {"name": "", "email": "ada@", "password": "short", "confirm": "short"},
        ("name", "email", "password"),
        focus="name",
    ),
    "registration with a known address": Refusal(
        "/register",
        "Register",
        {"name": "Ada", "email": EMAIL, "password": PASSWORD, "confirm": PASSWORD},
        ("email",),
        focus="email",
    ),
    "new password with a wrong current one": Refusal(
        "/account/password",
        "Change password",
        {"current": "a wrong one", "password": PASSWORD + "!", "confirm": PASSWORD + "!"},
        ("current",),
        focus="current",
    ),
    "new password that is short": Refusal(
        "/account/password",
        "Change password",
        {"current": PASSWORD, "password": "short", "confirm": "short"},
        ("password",),
        focus="password",
    ),
}


@pytest.fixture(scope="module")
def session(chromium: Any, site: Site) -> Any:
    """Return the cookies of a browser that is logged in."""
    with open_page(chromium, site) as page:
        register(page, EMAIL)
        page.wait_for_url("/account")
        return page.context.storage_state()


class Visitor:
    """Somebody whose form is refused."""

    def __init__(self, page: Any, refusal: Refusal, database: Database) -> None:
        self.page = page
        self.refusal = refusal
        self._database = database

    def send_form(self, width: int, height: int) -> None:
        """Send the form in a window of this size, and wait until its page has come to rest."""
        # The rate limits count the wrong passwords of all windows.
        self._database.execute("DELETE FROM throttles")
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.goto(self.refusal.path)
        fill(self.page, self.refusal.button, **self.refusal.typed)
        wait_for_all(self.page, self.page.locator(".problems"))
        self.page.locator("input:focus").wait_for()
        before = None
        while (now := self.page.evaluate("scrollY")) != before:
            before = now
            self.page.wait_for_timeout(50)

    @property
    def reasons(self) -> list[str]:
        """The texts of the summary's items, without the prefix for screen readers."""
        texts = self.page.locator(".problems li").all_inner_texts()
        return [text.removeprefix("Error:").strip() for text in texts]

    def describe_focus(self) -> str:
        """Return the description of the focused element in Chromium's accessibility tree."""
        devtools = self.page.context.new_cdp_session(self.page)
        focused = devtools.send("Runtime.evaluate", {"expression": "document.activeElement"})
        node = {"objectId": focused["result"]["objectId"], "fetchRelatives": False}
        (found,) = devtools.send("Accessibility.getPartialAXTree", node)["nodes"]
        devtools.detach()
        return str(found["description"]["value"])


class Extent:
    """The upper and the lower edge of an element in the window, in whole CSS pixels."""

    def __init__(self, element: Any) -> None:
        box = element.bounding_box()
        self.top = math.ceil(box["y"])
        self.bottom = math.floor(box["y"] + box["height"])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((refusal, java_script), id=f"{name}, {'' if java_script else 'no '}script")
        for name, refusal in REFUSALS.items()
        for java_script in (False, True)
    ],
)
def visitor(
    chromium: Any, site: Site, session: Any, request: pytest.FixtureRequest
) -> Iterator[Visitor]:
    """Return a visitor whose form was refused on a phone."""
    refusal, java_script = request.param
    cookies = session if refusal.path.startswith("/account") else None
    options = {"java_script_enabled": java_script, "storage_state": cookies}
    with open_page(chromium, site, **options) as page:
        visitor = Visitor(page, refusal, site.database)
        visitor.send_form(*SIZES[0])
        yield visitor


def test_the_field_to_correct_has_the_focus_and_is_described_by_the_reason(
    visitor: Visitor,
) -> None:
    invalid = visitor.page.locator("[aria-invalid=true]")
    assert [each.get_attribute("id") for each in invalid.all()] == list(visitor.refusal.wrong)
    assert len(visitor.reasons) == max(len(visitor.refusal.wrong), 1)
    assert visitor.page.evaluate("document.activeElement.id") == visitor.refusal.focus
    assert f"Error: {visitor.reasons[0]}" in visitor.describe_focus()


def test_nobody_is_told_to_type_something_again_where_an_error_says_why(visitor: Visitor) -> None:
    rows = visitor.page.locator(".row")
    # An error of the form is one of each of its fields.
    if visitor.refusal.wrong:
        rows = rows.filter(has=visitor.page.locator(".error"))
    assert rows.count() >= 1
    assert not [text for text in rows.all_inner_texts() if TYPE_AGAIN.search(text)]


def test_the_reason_is_announced_once(visitor: Visitor) -> None:
    live = visitor.page.locator("[role=alert], [role=status], [aria-live]")
    reason = visitor.reasons[0]
    announced = [visitor.describe_focus(), *live.all_inner_texts()]
    assert sum(text.count(reason) for text in announced) == 1


@pytest.mark.parametrize("size", SIZES, ids=[f"{width}x{height}" for width, height in SIZES])
def test_the_reason_at_the_top_and_the_field_to_correct_are_in_view(
    visitor: Visitor, size: tuple[int, int]
) -> None:
    visitor.send_form(*size)
    _, window = size
    summary = Extent(visitor.page.locator(".problems"))
    reason = Extent(visitor.page.locator(".problems li").first)
    field = Extent(visitor.page.locator("input:focus"))
    assert 0 <= summary.top <= reason.top
    assert reason.bottom <= summary.bottom <= field.top
    assert field.bottom <= window
