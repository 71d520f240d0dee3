"""Debian's Firefox ESR, driven by WebDriver BiDi."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.site import Site, open_page

FIREFOX = shutil.which("firefox-esr")

CONTENT_SCHEMES = {"dark": 0, "light": 1}
"""Values of the preference for the color scheme of pages."""


@contextlib.contextmanager
def open_firefox_page(
    playwright: Any,
    site: Site,
    *,
    java_script_enabled: bool = True,
    color_scheme: str = "light",
    **options: Any,
) -> Iterator[Any]:
    """Open a page in a Firefox of its own, and fail at the end if any error occurred on it.

    The test is skipped if Firefox is not installed.  Without JavaScript, the page takes only the
    keyboard: Playwright fills in and clicks by scripts.
    options: more options of Playwright's new_context.
    """
    if FIREFOX is None:
        pytest.skip("there is no Firefox: make browser installs it")
    preferences = {
        "javascript.enabled": java_script_enabled,
        "layout.css.prefers-color-scheme.content-override": CONTENT_SCHEMES[color_scheme],
    }
    # Firefox refuses to run as root in the home of another user, and leaves caches there.
    with tempfile.TemporaryDirectory(prefix="hello_login-firefox-") as home:
        browser = playwright.firefox.launch(
            # Any other channel is for Playwright's own Firefox, which does not speak BiDi.
            channel="moz-firefox",
            executable_path=FIREFOX,
            env={**os.environ, "HOME": home},
            firefox_user_prefs=preferences,
        )
        try:
            with open_page(browser, site, **options) as page:
                yield page
        finally:
            browser.close()
