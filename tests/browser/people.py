"""The people of the journeys: their devices, and their keyboard."""

from typing import Any

import pytest

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}

# Every pair of two values occurs in one of the runs.
on_each_device = pytest.mark.parametrize(
    ("java_script", "device", "scheme"),
    [
        (False, PHONE, "dark"),
        (False, DESKTOP, "light"),
        (True, PHONE, "light"),
        (True, DESKTOP, "dark"),
    ],
    ids=["no script, phone, dark", "no script, desktop", "script, phone", "script, desktop, dark"],
)


class Keyboard:
    """A person who uses only the keyboard."""

    def __init__(self, page: Any) -> None:
        self._page = page

    def go_to(self, role: str, name: str) -> None:
        """Press Tab until the element has the focus, and check that its outline shows it."""
        wanted = self._page.get_by_role(role, name=name, exact=True).first
        wanted.wait_for()
        for _ in range(30):
            if wanted.evaluate("element => element === document.activeElement"):
                outline = wanted.evaluate("element => getComputedStyle(element).outlineStyle")
                assert outline == "solid"
                return
            self._page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {name}")

    def press(self, role: str, name: str) -> None:
        """Go to the element and press Enter."""
        self.go_to(role, name)
        self._page.keyboard.press("Enter")

    def type(self, *texts: str) -> None:
        """Type one text into the focused field and each next one, and press Enter."""
        for number, text in enumerate(texts):
            if number:
                self._go_to_next_field()
            self._page.keyboard.press("Control+A")
            self._page.keyboard.type(text)
        self._page.keyboard.press("Enter")

    def _go_to_next_field(self) -> None:
        self._page.keyboard.press("Tab")
        while self.focused() == "BUTTON":  # the button that shows the password
            self._page.keyboard.press("Tab")

    def focused(self, attribute: str = "tagName") -> str:
        return str(self._page.evaluate(f"document.activeElement.{attribute}"))
