"""The people of the journeys: their devices, and their keyboard."""

import re
from typing import Any

import pytest

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
FIREFOX = {"browser": "Firefox", **DESKTOP}

# Every pair of two values occurs in one of the runs.
IN_CHROMIUM = [
    pytest.param(False, PHONE, "dark", id="no script, phone, dark"),
    pytest.param(False, DESKTOP, "light", id="no script, desktop"),
    pytest.param(True, PHONE, "light", id="script, phone"),
    pytest.param(True, DESKTOP, "dark", id="script, desktop, dark"),
]
IN_FIREFOX = [
    pytest.param(False, FIREFOX, "light", id="no script, Firefox"),
    pytest.param(True, FIREFOX, "dark", id="script, Firefox, dark"),
]
RUN = ("java_script", "device", "scheme")

on_each_device = pytest.mark.parametrize(RUN, IN_CHROMIUM)
on_each_device_and_in_firefox = pytest.mark.parametrize(RUN, IN_CHROMIUM + IN_FIREFOX)


class Keyboard:
    """A person who uses only the keyboard."""

    def __init__(self, page: Any) -> None:
        self._page = page

    def go_to(self, role: str, name: str | re.Pattern[str]) -> None:
        """Press Tab until the element has the focus, and check that its outline shows it.

        name: the accessible name, or a pattern that occurs in it.
        """
        named = self._page.get_by_role(role, name=name, exact=True).first
        named.wait_for()
        # In Firefox, to find an element takes much longer than to ask one.
        wanted = named.element_handle()
        for _ in range(30):
            if wanted.evaluate("element => element === document.activeElement"):
                outline = wanted.evaluate("element => getComputedStyle(element).outlineStyle")
                assert outline == "solid"
                return
            self._page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {name}")

    def press(self, role: str, name: str | re.Pattern[str]) -> None:
        """Go to the element and press Enter."""
        self.go_to(role, name)
        self._page.keyboard.press("Enter")

    def type(self, *texts: str) -> None:
        """Wait for a focused field, type one text into it and each next one, and press Enter."""
        self.wait_for_focus("input")
        for number, text in enumerate(texts):
            if number:
                self._go_to_next_field()
            self._page.keyboard.press("Control+A")
            self._page.keyboard.type(text)
        self._page.keyboard.press("Enter")

    def _go_to_next_field(self) -> None:
        self._page.keyboard.press("Tab")
        show_password = self._page.locator("button:focus")
        while show_password.count():
            self._page.keyboard.press("Tab")

    def wait_for_focus(self, selector: str) -> None:
        """Wait until an element that the selector matches has the focus.

        A browser moves the focus to a field with `autofocus` when it draws the page, which may be
        after the page has loaded.
        """
        self._page.locator(f"{selector}:focus").wait_for()
