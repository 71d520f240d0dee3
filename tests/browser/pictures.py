"""Write docs/pictures: each page in each state, in both color schemes and two widths.

"make pictures" runs it.
"""

import io
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.site import Site, launch, open_page
from tests.browser.walk import walk
from tests.conftest import ROOT, make_folder

PICTURES = ROOT / "docs/pictures"
SCHEMES = ("light", "dark")
WIDTHS = (1280, 390)
GAP = 16
OVERVIEW = ("login", "account")
"""The states in overview.webp, which is at the top of README.md."""


def shoot(page: Any, scheme: str, width: int, height: int, *, full: bool = True) -> Image.Image:
    """Return a picture of the page at half its size: the full page, or what fits the window."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": height})
    shot = Image.open(io.BytesIO(page.screenshot(full_page=full)))
    return shot.resize((shot.width // 2, shot.height // 2), Image.Resampling.LANCZOS)


def save(shots: list[Image.Image], name: str, columns: int) -> None:
    """Write the pictures in rows to one file."""
    rows = [shots[start : start + columns] for start in range(0, len(shots), columns)]
    width = max(sum(shot.width + GAP for shot in row) for row in rows) - GAP
    heights = [max(shot.height for shot in row) for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + GAP * (len(rows) - 1)), "#888")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for shot in row:
            sheet.paste(shot, (left, top))
            left += shot.width + GAP
        top += height + GAP
    sheet.save(PICTURES / f"{name}.webp", quality=70, method=6)


def main() -> None:
    """Replace all pictures."""
    for old in PICTURES.glob("*"):
        old.unlink()
    overview = {}
    with make_folder() as folder:
        site = Site(folder)
        with (
            sync_playwright() as started,
            launch(started) as browser,
            open_page(browser, site) as page,
        ):
            for name in walk(page, site):
                shots = [shoot(page, s, width, 700) for width in WIDTHS for s in SCHEMES]
                save(shots, name, columns=4)
                if name in OVERVIEW:
                    overview[name] = [shoot(page, s, 900, 720, full=False) for s in SCHEMES]
        site.stop()
    save([shot for name in OVERVIEW for shot in overview[name]], "overview", columns=2)


if __name__ == "__main__":
    main()
