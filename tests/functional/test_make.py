"""Installing, pinning and cleaning up with make."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


IMAGE_FILES = [
    "Dockerfile",
    "deploy/sbom.Dockerfile",
    "proxy/Dockerfile",
    "docker-compose.yml",
    "docker-compose.production.yml",
]


def make_requirements(checkout: Path, registry: str) -> tuple[str, str]:
    """Run make requirements, with base images of this registry and without packages.

    Returns what it prints, and the lines of all files that name an image.
    """
    for name in ("deploy/pin-images.sh", *IMAGE_FILES):
        (checkout / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    for path in (checkout / name for name in IMAGE_FILES):
        unpinned = re.sub(r"@sha256:\w+", "", path.read_text())
        path.write_text(re.sub(r"(?m)^(FROM| +image:) (.+:)", rf"\1 {registry}/\2", unpinned))
    make(checkout, ".venv/installed")
    (checkout / ".venv/bin/uv").symlink_to(shutil.which("true") or "")
    printed = make(checkout, "requirements")
    return printed, name_images(checkout)


def name_images(checkout: Path) -> str:
    texts = "".join((checkout / name).read_text() for name in IMAGE_FILES)
    return "\n".join(re.findall(r"(?m)^(?:FROM| +image:) .*", texts))


BASE_IMAGES = """\
FROM REGISTRY/python:3.13-slim AS build
FROM REGISTRY/python:3.13-slim
FROM REGISTRY/python:3.13-slim AS tools
FROM scratch
FROM REGISTRY/debian:trixie-slim
    image: hello_login
    image: REGISTRY/postgres:17-alpine
    image: hello_login
    image: REGISTRY/postgres:17-alpine"""


def test_make_requirements_keeps_the_base_images_if_no_registry_answers(checkout: Path) -> None:
    registry = "localhost:1"
    printed, images = make_requirements(checkout, registry)
    assert printed.startswith(
        "The base images stay as they are, because no registry answered for localhost:1/debian:"
    )
    assert len(printed.splitlines()) == 2
    assert printed.endswith("\n0")
    assert images == BASE_IMAGES.replace("REGISTRY", registry)


class Registry(BaseHTTPRequestHandler):
    """A registry with one empty image, which has every name and tag."""

    image = b'{"schemaVersion": 2, "manifests": [], '
    image += b'"mediaType": "application/vnd.oci.image.index.v1+json"}'
    digest = f"sha256:{hashlib.sha256(image).hexdigest()}"

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.oci.image.index.v1+json")
        self.send_header("Content-Length", str(len(self.image)))
        self.send_header("Docker-Content-Digest", self.digest)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.image)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    """Serve a registry, and return its host and port."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "buildx", "version"]).returncode != 0:
        pytest.skip("there is no docker buildx")
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.container
def test_make_requirements_pins_the_base_images_by_digest(checkout: Path, registry: str) -> None:
    printed, images = make_requirements(checkout, registry)
    assert printed == "0"
    assert f"FROM {registry}/python:3.13-slim@{Registry.digest} AS build\n" in images
    assert f"image: {registry}/postgres:17-alpine@{Registry.digest}\n" in images
    assert images.count("@") == 6
    assert images.replace(f"@{Registry.digest}", "") == BASE_IMAGES.replace("REGISTRY", registry)
    for path in (checkout / name for name in IMAGE_FILES):
        path.write_text(path.read_text().replace(Registry.digest, f"sha256:{'0' * 64}"))
    assert make(checkout, "requirements") == "0"
    assert name_images(checkout) == images
    assert list(checkout.rglob("*.before")) == []
