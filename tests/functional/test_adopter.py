"""The application of docs/build-on-it.md, made from the text of the page, on the built wheel."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hello_login.dev.embedded import EmbeddedPostgres
from tests.conftest import ROOT, NewDatabase, make_folder
from tests.functional.commands import PRODUCTION, database_runs, get
from tests.functional.servers import Person, free_port

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/build-on-it.md").read_text()
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
"""The files that the page shows, by name."""

INSTALLATION = re.findall(r"^\$ (.*(?:-m venv| wheel | install ).*)$", PAGE, re.MULTILINE)
"""The commands before the adopter's own test."""

SOURCES = ("hello_login", "sql", "LICENSE", "README.md", "development.ini", "production.ini")
BUILD_FILES = ("setup.cfg", "setup.py", "pyproject.toml")


@pytest.fixture(scope="module")
def notes() -> Iterator[Path]:
    """Return the adopter's folder, after the commands of the page up to the test."""
    with make_folder() as folder:
        for name in (*SOURCES, *BUILD_FILES):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (folder / "hello_login").mkdir(exist_ok=True)
            copy(ROOT / name, folder / "hello_login" / name)
        for name, text in FILES.items():
            path = folder / "notes" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for command in INSTALLATION:
            done = run(folder / "notes", "sh", "-ec", command)
            assert done.returncode == 0, (command, done.stdout)
        yield folder / "notes"
        # If root runs this, the database of the adopter's test is outside of the folder.
        for link in folder.glob("pytest-of-*/pytest-*/database*/postgres"):
            shutil.rmtree(link.resolve(), ignore_errors=True)
        if database_runs(folder / "notes"):
            database = EmbeddedPostgres(folder / "notes/.postgres")
            database.start()
            database.stop()


def run(folder: Path, *command: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in the folder to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


@contextmanager
def serve(notes: Path, ini: str, **environ: str) -> Iterator[int]:
    """Serve the adopter's application, and yield the port when it answers."""
    port = free_port()
    log = notes / f"{ini}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [notes / ".venv/bin/pserve", ini, f"http_port={port}"],
            cwd=notes,
            env={**os.environ, **environ},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            assert get(port, "/readyz")["schema"] == "up to date"
            yield port
        finally:
            process.terminate()
    assert "Traceback" not in log.read_text()


def static_file(visitor: Person, page: str, name: str) -> str:
    """Return the text of a static file that the page links."""
    (path,) = set(re.findall(rf'"(/static/\w+/{re.escape(name)})"', page))
    status, _, text = visitor.ask(path)
    assert status == 200
    return text


def check_pages(visitor: Person) -> None:
    """Assert that every page has the adopter's name, colours, logo, words and footer."""
    first = visitor.ask("/")[2]
    assert "<h1>Notes that only you can read</h1>" in first
    for page in (first, visitor.ask("/login")[2], visitor.ask("/nothing")[2]):
        assert re.search(r"<title>[^<]+ · Notes</title>", page)
        assert static_file(visitor, page, "icon.svg") == FILES["overrides/static/icon.svg"]
        assert static_file(visitor, page, "colours.css") == FILES["overrides/static/colours.css"]
        assert "--accent: #1b6b50" in static_file(visitor, page, "style.css")
        assert FILES["overrides/templates/footer.jinja2"].strip() in page


def test_the_adopters_own_test_passes_and_its_pages_are_served(notes: Path) -> None:
    assert "\n$ .venv/bin/pytest\n$ .venv/bin/pserve development.ini --reload\n" in PAGE
    tested = run(notes, ".venv/bin/pytest", "-q", PYTEST_DEBUG_TEMPROOT=str(notes.parent))
    assert tested.stdout.splitlines()[-1].startswith("2 passed"), tested.stdout
    migrated = run(notes, ".venv/bin/initialize_db", "development.ini")
    assert re.search(r"^Applied 0001\.notes in \d+ ms\n\nTable", migrated.stdout, re.MULTILINE)
    assert re.search(r"^notes +0$", migrated.stdout, re.MULTILINE)
    with serve(notes, "development.ini") as port:
        visitor = Person(port)
        check_pages(visitor)
        assert visitor.ask("/notes")[0] == 303
        assert visitor.register() == 303
        assert "<h1>Your notes</h1>" in visitor.ask("/notes")[2]
        assert visitor.ask("/notes", {"text": "Water <the> plants"})[0] == 303
        assert "<li>Water &lt;the&gt; plants</li>" in visitor.ask("/notes")[2]
        assert 'href="/notes"' in visitor.ask("/")[2]


def test_the_adopter_serves_in_production(notes: Path, new_database: NewDatabase) -> None:
    own = [line for line in FILES["development.ini"].splitlines() if re.match(OWN_SETTINGS, line)]
    assert len(own) == 4
    text = (ROOT / "production.ini").read_text()
    text = text.replace("use = egg:hello_login", "\n".join(["use = egg:notes", *own]), 1)
    (notes / "production.ini").write_text(text)
    environ = {**PRODUCTION, "DATABASE_URL": new_database(), "TRUSTED_PROXY": "127.0.0.1"}
    migrated = run(notes, ".venv/bin/initialize_db", "production.ini", "--wait", "30", **environ)
    assert re.search(r"^Applied 0001\.notes in ", migrated.stdout, re.MULTILINE)
    with serve(notes, "production.ini", **environ) as port:
        check_pages(Person(port))


OWN_SETTINGS = r"hello_login\.(site_name|after_login|migrations|overrides) ="


def test_the_package_of_the_page_has_all_of_its_files(notes: Path) -> None:
    done = run(notes, ".venv/bin/pip", "wheel", "--no-deps", "--wheel-dir", "built", ".")
    assert done.returncode == 0, done.stdout
    (wheel,) = (notes / "built").iterdir()
    listed = run(notes, ".venv/bin/python", "-m", "zipfile", "--list", wheel).stdout
    for name in FILES:
        assert (name in listed) is name.startswith("notes/")
