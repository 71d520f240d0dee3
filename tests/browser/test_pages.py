"""What every page is like, in every state, as Chromium shows it."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hello_login.web.routes import STATIC
from tests.browser.conftest import HOW, Visit
from tests.browser.judges import TOOLS, Lighthouse, axe, nu
from tests.browser.site import Site, open_page
from tests.browser.walk import walk
from tests.conftest import ROOT

DESKTOP, PHONE = 1280, 390
SMALLEST = 320
"""CSS pixels.  WCAG 2.2, 1.4.10 asks for no less; at 640 with twice the text for as much, 1.4.4."""


class Seen(NamedTuple):
    """A page in one of its states."""

    source: str
    title: str
    headings: list[str]
    problems: list[str]
    """What axe finds, in both schemes."""

    overflow: list[int]
    """Pixels that are reached by scrolling sideways alone, on the smallest screen, and where the
    text is twice as large."""


@pytest.fixture(scope="module")
def lighthouse(site: Site) -> list[Lighthouse]:
    """Begun before all else here, for most of the time it waits."""
    if not TOOLS.exists():
        pytest.skip(f"there are no axe, Nu checker and Lighthouse: {HOW}")
    return [Lighthouse(f"{site.url}{path}") for path in ("/", "/login", "/register")]


@pytest.fixture(scope="module")
def seen(chromium: Any, site: Site, lighthouse: Any) -> dict[str, Seen]:  # noqa: ARG001
    """Every page in every state, by name."""
    seen = {}
    with open_page(chromium, site) as page:
        documents: list[Any] = []
        page.on("response", lambda response: documents.append(response))
        for name in walk(page, site):
            shown = [each for each in documents if each.request.is_navigation_request()]
            seen[name] = look(page, shown[-1].text())
    return seen


def look(page: Any, source: str) -> Seen:
    headings = page.get_by_role("heading", level=1).all_inner_texts()
    problems = []
    for scheme, width in (("light", DESKTOP), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        problems += [f"{scheme}: {problem}" for problem in axe(page)]
    overflow = []
    for size, width in (("100%", SMALLEST), ("200%", 2 * SMALLEST)):
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
    return Seen(source, page.title(), headings, problems, overflow)


def test_axe_finds_no_problem_on_any_page_in_either_color_scheme(seen: dict[str, Seen]) -> None:
    assert len(seen) > 25
    assert {name: page.problems for name, page in seen.items() if page.problems} == {}


def test_the_nu_checker_finds_no_problem_in_any_page_or_file(
    seen: dict[str, Seen], tmp_path: Path
) -> None:
    for name, page in seen.items():
        (tmp_path / f"{name}.html").write_text(page.source)
    static = (ROOT / "hello_login/web/static").iterdir()
    files = [path for path in static if path.suffix in (".css", ".svg")]
    assert nu([*tmp_path.iterdir(), *files]) == []


def test_each_page_has_one_heading_that_is_also_its_title(seen: dict[str, Seen]) -> None:
    for name, page in seen.items():
        (heading,) = page.headings
        error = "Error: " if name.endswith(("-refused", "-throttled")) else ""
        assert page.title == f"{error}{heading} · Hello Login"


def test_no_page_needs_horizontal_scrolling(seen: dict[str, Seen]) -> None:
    assert {name: page.overflow for name, page in seen.items() if max(page.overflow) > 0} == {}


def test_lighthouse_gives_full_scores(lighthouse: list[Lighthouse]) -> None:
    for run in lighthouse:
        assert run.scores() == {"accessibility": 100, "best-practices": 100}


def test_the_first_view_of_the_login_page_loads_at_most_20_kb(visit: Visit) -> None:
    page = visit()
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    sizes: list[int] = []
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto("/login", wait_until="networkidle")
    sizes = [size for size in sizes if size > 0]  # the icon comes from the cache the second time
    assert 3 <= len(sizes) <= 4
    assert sum(sizes) <= 20_000


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
