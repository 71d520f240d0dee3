"""Installing and cleaning up with make."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hello_login.dev.embedded import EmbeddedPostgres
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

STUB = """#!/bin/sh
# A stub for Python: makes a .venv that contains itself, and logs the arguments of pip.
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
else
    echo "$@" >> installed.log
fi
"""


@pytest.fixture
def checkout(folder: Path) -> Path:
    """Return a new checkout, in which make has not run; its path has a blank."""
    checkout = folder / "checkout"
    checkout.mkdir()
    (checkout / "bench/products").mkdir(parents=True)
    for name in ("Makefile", "setup.cfg", "pyproject.toml", ".ci/clean.py"):
        (checkout / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    for name in ("bench/requirements.txt", "bench/products/requirements.txt"):
        shutil.copy(ROOT / name, checkout / name)
    (folder / "python").write_text(STUB)
    (folder / "python").chmod(0o755)
    return checkout


def make(
    checkout: Path, *arguments: str, python: Path | None = None, user: str | None = None
) -> str:
    """Run make, and return its output followed by its exit code."""
    run = subprocess.run(
        ["make", "--no-print-directory", *arguments, f"PYTHON={python or '../python'}"],
        cwd=checkout,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        user=user,
    )
    return f"{run.stdout}{run.returncode}"


def count_installations(checkout: Path) -> int:
    return len((checkout / "installed.log").read_text().splitlines())


@pytest.mark.parametrize(("venv", "installations"), [(".venv", 1), ("bench/.venv", 2)])
def test_make_installs_once_and_prints_what_it_downloads(
    checkout: Path, venv: str, installations: int
) -> None:
    printed = make(checkout, f"{venv}/installed")
    assert f"Installing into {venv} (once): downloads about" in printed
    assert make(checkout, f"{venv}/installed").endswith("up to date.\n0")
    assert count_installations(checkout) == installations


@pytest.mark.parametrize(("venv", "installations"), [(".venv", 1), ("bench/.venv", 2)])
@pytest.mark.parametrize("copy", [shutil.move, shutil.copytree])
def test_make_installs_again_in_a_copied_or_moved_checkout(
    checkout: Path, copy: object, venv: str, installations: int
) -> None:
    # A copied .venv has the original's path, and would serve the original's code.
    make(checkout, f"{venv}/installed")
    (checkout / venv / "of the old path").touch()
    copied = checkout.parent / "another path"
    copy(checkout, copied)  # type: ignore[operator]
    assert "Installing" in make(copied, f"{venv}/installed")
    assert count_installations(copied) == 2 * installations
    assert not (copied / venv / "of the old path").exists()
    assert make(copied, f"{venv}/installed").endswith("up to date.\n0")


@pytest.mark.parametrize("made", [".", ".venv", ".postgres"])
def test_files_of_another_user_are_reported_in_one_sentence(checkout: Path, made: str) -> None:
    (checkout / made).mkdir(exist_ok=True)
    (checkout / made).chmod(0o555)
    if os.geteuid() == 0 and made != ".":
        checkout.chmod(0o777)
    printed = make(checkout, "serve", user="nobody" if os.geteuid() == 0 else None)
    assert f'You may not write to {made}: run make as the owner, or "make clean" as root' in printed
    assert len(printed.splitlines()) == 2
    (checkout / made).chmod(0o755)


@pytest.mark.parametrize("length", [1, 30])
def test_make_clean_removes_everything_that_make_created(checkout: Path, length: int) -> None:
    checkout = checkout.rename(checkout.parent / ("long" * length))
    before = set(checkout.rglob("*"))
    server = EmbeddedPostgres(checkout / ".postgres", fsync=False)
    server.start()
    for name in (".venv/bin", "bench/.venv", "tests/browser/node_modules", "bench/__pycache__"):
        (checkout / name).mkdir(parents=True)
    for name in (".coverage", "bench/__pycache__/load.pyc"):
        (checkout / name).touch()

    printed = make(checkout, "clean", "DATABASE=yes", python=Path(sys.executable))
    assert "The server runs: end it (Ctrl-C in make serve) first." in printed
    assert (checkout / ".venv/bin").is_dir()

    server.stop()
    printed = make(checkout, "clean", python=Path(sys.executable))
    assert "The development database is kept: make clean DATABASE=yes deletes it." in printed
    assert not (checkout / ".venv").exists()
    assert (checkout / ".postgres/cluster").is_dir()

    assert make(checkout, "clean", "DATABASE=yes", python=Path(sys.executable)) == "0"
    assert {path for path in checkout.rglob("*") if path.name not in ("tests", "browser")} == before


def test_make_clean_removes_a_database_outside_the_checkout(checkout: Path, tmp_path: Path) -> None:
    # Root keeps the data outside if the checkout allows no other owner; a kill leaves it there.
    data, socket = tmp_path / "hello_login-data", tmp_path / "hello_login-socket"
    data.mkdir()
    socket.mkdir()
    (checkout / ".postgres").symlink_to(data)
    (data / "socket").symlink_to(socket)
    (socket / "data").symlink_to(data)
    make(checkout, "clean", "DATABASE=yes", python=Path(sys.executable))
    assert list(tmp_path.iterdir()) == []
    assert not (checkout / ".postgres").is_symlink()


def test_clean_in_a_copy_keeps_the_database_of_the_original(checkout: Path, tmp_path: Path) -> None:
    original = checkout.parent / "original"
    original.symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(original)
    (checkout / ".postgres").symlink_to(tmp_path)
    make(checkout, "clean", "DATABASE=yes", python=Path(sys.executable))
    assert (tmp_path / "link").is_symlink()
    assert not (checkout / ".postgres").is_symlink()


def test_clean_after_a_kill_waits_until_the_database_has_stopped(checkout: Path) -> None:
    program = "import sys, pathlib, hello_login.dev.embedded as e, os\n"
    program += "e.EmbeddedPostgres(pathlib.Path(sys.argv[1]), fsync=False).start()\n"
    program += "os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, checkout / ".postgres"], check=False)
    assert (checkout / ".postgres/cluster/postmaster.pid").exists()
    assert make(checkout, "clean", "DATABASE=yes", python=Path(sys.executable)) == "0"
    assert not (checkout / ".postgres").exists()


def test_make_clean_in_a_copied_checkout_keeps_the_socket_of_the_original(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / ".postgres").mkdir()
    (checkout / ".postgres/socket").symlink_to(tmp_path)
    (tmp_path / "data").symlink_to(ROOT)
    make(checkout, "clean", "DATABASE=yes", python=Path(sys.executable))
    assert (tmp_path / "data").is_symlink()
    assert not (checkout / ".postgres").exists()
