"""The wheel is built from a checkout, and installed without one."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, NewDatabase, make_folder
from tests.functional.commands import GREETING, PRODUCTION, get
from tests.functional.servers import free_port

pytestmark = pytest.mark.slow

SOURCES = ("hello_login", "sql", "LICENSE", "README.md", "development.ini", "production.ini")
BUILD_FILES = ("setup.cfg", "setup.py", "pyproject.toml")


def pip(*arguments: str | Path) -> None:
    """Run pip offline."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"],
        check=True,
        env={**environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"},
    )


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """Return a copy of the checkout with only the files that a build needs."""
    with make_folder() as folder:
        for name in (*SOURCES, *BUILD_FILES):
            if (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
            else:
                shutil.copy(ROOT / name, folder / name)
        yield folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that pip builds from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", checkout, "--no-build-isolation", "--wheel-dir", folder)
    (wheel,) = folder.iterdir()
    return wheel


def test_building_the_wheel_leaves_no_files_in_the_checkout(checkout: Path, wheel: Path) -> None:
    assert wheel.name.startswith("hello_login-")
    assert {path.name for path in checkout.iterdir()} == {*SOURCES, *BUILD_FILES}


def test_the_wheel_has_the_migrations_and_both_ini_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    sources = [*ROOT.glob("sql/*.sql"), *ROOT.glob("*.ini")]
    assert len(sources) > 2
    for path in sources:
        assert packed[f"hello_login/{path.relative_to(ROOT)}"] == path.read_bytes()


def test_the_installed_wheel_migrates_and_serves_in_an_empty_folder(
    wheel: Path, folder: Path, tmp_path: Path, new_database: NewDatabase
) -> None:
    pip("install", wheel, "--target", tmp_path)
    port = free_port()
    environ = {
        **os.environ,
        **PRODUCTION,
        "DATABASE_URL": new_database(),
        "PORT": str(port),
        "PYTHONPATH": str(tmp_path),
    }

    def start(program: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [tmp_path / "bin" / program, "production.ini"],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with start("initialize_db") as migrating:
        assert "Applied 0001.users in" in migrating.communicate()[0]
    with start("pserve") as serving:
        try:
            assert get(port) == GREETING
            assert get(port, "/readyz")["schema"] == "up to date"
        finally:
            serving.terminate()
            printed = serving.communicate()[0]
    assert "Traceback" not in printed
    assert list(folder.iterdir()) == []
