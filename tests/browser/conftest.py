"""One Chromium and one site for all tests here, which are skipped where there is no Chromium."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.browser.site import CHROMIUM, Site, launch, open_page
from tests.conftest import make_folder

HOW = "make browser installs it"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here as one that drives the browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(f"there is no Chromium: {HOW}")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason=f"there is no Playwright: {HOW}", exc_type=ImportError
    )
    with playwright.sync_playwright() as started, launch(started) as browser:
        yield browser


@pytest.fixture(scope="session")
def site(chromium: Any) -> Iterator[Site]:  # noqa: ARG001 (nothing is started for no browser)
    with make_folder() as folder:
        site = Site(folder)
        yield site
        site.stop()


Visit = Callable[..., Any]


@pytest.fixture
def visit(chromium: Any, site: Site) -> Iterator[Visit]:
    """Opens pages, each of a person who was never here before; see open_page."""
    with ExitStack() as opened:
        yield lambda **options: opened.enter_context(open_page(chromium, site, **options))
