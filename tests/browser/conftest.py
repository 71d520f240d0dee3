"""One Chromium and one site for all browser tests, which are skipped without Chromium.

Some tests use Firefox as well, and are skipped without it.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.browser.firefox import open_firefox_page
from tests.browser.site import CHROMIUM, Site, launch, open_page
from tests.conftest import make_folder

INSTALL_HINT = "make browser installs it"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as a browser test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    package = pytest.importorskip(
        "playwright.sync_api",
        reason=f"there is no Playwright: {INSTALL_HINT}",
        exc_type=ImportError,
    )
    with package.sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium(playwright: Any) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(f"there is no Chromium: {INSTALL_HINT}")
    with launch(playwright) as browser:
        yield browser


@pytest.fixture(scope="session")
def site(chromium: Any) -> Iterator[Site]:  # noqa: ARG001 (no site without Chromium)
    with make_folder() as folder:
        site = Site(folder)
        yield site
        site.stop()


@pytest.fixture(scope="session")
def mail_site(chromium: Any) -> Iterator[Site]:  # noqa: ARG001 (no site without Chromium)
    with make_folder() as folder:
        site = Site(folder, base="development.ini")
        yield site
        site.stop()


Visit = Callable[..., Any]


@pytest.fixture
def visit(playwright: Any, chromium: Any, site: Site) -> Iterator[Visit]:
    """Return a function that opens a page with empty cookies.

    It takes the options of open_page, or with browser="Firefox" those of open_firefox_page.
    """
    with ExitStack() as opened:

        def open_in(browser: str = "Chromium", **options: Any) -> Any:
            if browser == "Chromium":
                return opened.enter_context(open_page(chromium, site, **options))
            return opened.enter_context(open_firefox_page(playwright, site, **options))

        yield open_in


@pytest.fixture
def email() -> str:
    return f"{secrets.token_hex(4)}@example.com"
