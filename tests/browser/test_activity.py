"""Sessions and events as the person sees and hears them."""

import re

import pytest

from tests.browser.conftest import Visit
from tests.browser.walk import log_in, register


@pytest.mark.parametrize("java_script", [True, False], ids=["script", "no script"])
def test_the_button_that_ends_a_session_is_named_by_the_shown_texts(
    visit: Visit, email: str, java_script: bool
) -> None:
    page = visit(java_script_enabled=java_script, timezone_id="Asia/Kolkata", locale="en-GB")
    register(page, email)
    other = visit()
    log_in(other, email)
    other.wait_for_url("/account")
    page.goto("/account")
    row = page.get_by_role("listitem").filter(has_text="last seen just now")
    shown = row.locator("time").inner_text()
    assert ("UTC" in shown) == (not java_script)  # the script shows the browser's own time
    name = rf"^End this session Chrome on Linux [\d.:]+, logged in since {re.escape(shown)}$"
    row.get_by_role("button", name=re.compile(name)).click()
    page.get_by_role("main").get_by_text("That session has ended.").wait_for()
    assert row.count() == 0
