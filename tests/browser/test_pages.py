"""Checks of every page in every state, as Chromium shows it."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hello_login.web.routes import STATIC
from tests.browser.checkers import TOOLS, Lighthouse, run_axe, run_nu_checker
from tests.browser.conftest import INSTALL_HINT, Visit
from tests.browser.site import Site, open_page
from tests.browser.walk import SMALLEST_WIDTH, walk, walk_with_mail
from tests.conftest import ROOT

DESKTOP, PHONE = 1280, 390


class PageReport(NamedTuple):
    """The findings about a page in one of its states."""

    source: str
    title: str
    headings: list[str]
    problems: list[str]
    """The problems that axe finds, in both color schemes."""

    overflow: list[int]
    """Pixels that need horizontal scrolling: at the smallest width, and with text of 200 %."""


@pytest.fixture(scope="module")
def lighthouse(site: Site) -> list[Lighthouse]:
    """Start the runs of Lighthouse before all else, because they mostly wait."""
    if not TOOLS.exists():
        pytest.skip(f"axe, the Nu checker and Lighthouse are missing: {INSTALL_HINT}")
    return [Lighthouse(f"{site.url}{path}") for path in ("/", "/login", "/register")]


@pytest.fixture(scope="module")
def reports(
    chromium: Any,
    site: Site,
    mail_site: Site,
    lighthouse: Any,  # noqa: ARG001
) -> dict[str, PageReport]:
    """Return a report on every page in every state, by the state's name."""
    reports = {}
    for visited, steps in ((site, walk), (mail_site, walk_with_mail)):
        with open_page(chromium, visited) as page:
            documents: list[Any] = []
            page.on("response", lambda response, seen=documents: seen.append(response))
            for name in steps(page, visited):
                shown = [each for each in documents if each.request.is_navigation_request()]
                reports[name] = inspect_page(page, shown[-1].text())
    return reports


def inspect_page(page: Any, source: str) -> PageReport:
    headings = page.get_by_role("heading", level=1).all_inner_texts()
    problems = []
    for scheme, width in (("light", DESKTOP), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        problems += [f"{scheme}: {problem}" for problem in run_axe(page)]
    overflow = []
    for size, width in (("100%", SMALLEST_WIDTH), ("200%", 2 * SMALLEST_WIDTH)):
        page.set_viewport_size({"width": width, "height": 800})
        overflow.append(
            page.evaluate(
                """size => {
                    const page = document.documentElement;
                    page.style.fontSize = size;
                    return page.scrollWidth - page.clientWidth;
                }""",
                size,
            )
        )
    page.evaluate("document.documentElement.style.fontSize = ''")
    return PageReport(source, page.title(), headings, problems, overflow)


def test_axe_finds_no_problem_on_any_page_in_either_color_scheme(
    reports: dict[str, PageReport],
) -> None:
    assert len(reports) > 50
    assert {name: page.problems for name, page in reports.items() if page.problems} == {}


def test_the_nu_checker_finds_no_problem_in_any_page_or_file(
    reports: dict[str, PageReport], tmp_path: Path
) -> None:
    for name, page in reports.items():
        (tmp_path / f"{name}.html").write_text(page.source)
    static = (ROOT / "hello_login/web/static").iterdir()
    files = [path for path in static if path.suffix in (".css", ".svg")]
    assert run_nu_checker([*tmp_path.iterdir(), *files]) == []


def test_each_page_has_one_heading_that_is_also_its_title(reports: dict[str, PageReport]) -> None:
    for name, page in reports.items():
        (heading,) = page.headings
        error = "Error: " if name.endswith(("-refused", "-rate-limited", "-locked")) else ""
        assert page.title == f"{error}{heading} · Hello Login"


def test_no_page_needs_horizontal_scrolling(reports: dict[str, PageReport]) -> None:
    assert {name: page.overflow for name, page in reports.items() if max(page.overflow) > 0} == {}


def test_lighthouse_gives_full_scores(lighthouse: list[Lighthouse]) -> None:
    for run in lighthouse:
        assert run.scores() == {"accessibility": 100, "best-practices": 100, "seo": 100}


@pytest.mark.parametrize(
    ("path", "most_bytes", "most_requests"),
    [("/", 9_900, 4), ("/login", 12_600, 5), ("/register", 13_000, 5)],
)
def test_the_first_view_of_a_page_loads_little(
    visit: Visit, path: str, most_bytes: int, most_requests: int
) -> None:
    page = visit()
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    urls: dict[str, str] = {}
    sizes: list[int] = []

    def begin(event: Any) -> None:
        urls[event["requestId"]] = event["request"]["url"]

    def finish(event: Any) -> None:
        # The icon comes from the cache the second time.
        if event["encodedDataLength"] and not urls[event["requestId"]].endswith("/passkeys.js"):
            sizes.append(event["encodedDataLength"])

    network.on("Network.requestWillBeSent", begin)
    network.on("Network.loadingFinished", finish)
    page.goto(path, wait_until="networkidle")
    assert 3 <= len(sizes) <= most_requests
    assert sum(sizes) <= most_bytes


def test_static_files_are_downloaded_once(visit: Visit) -> None:
    page = visit()
    page.goto("/login", wait_until="networkidle")
    with page.expect_navigation(wait_until="networkidle"):
        page.get_by_role("main").get_by_role("link", name="Register").click()
    cached = page.evaluate(
        "performance.getEntriesByType('resource').map(entry => [entry.name, entry.transferSize])"
    )
    assert len(cached) >= 2
    assert all(f"/{STATIC}/" in name and size == 0 for name, size in cached)
