"""Removes all files that make created: "make clean" runs this file.

It asks before it deletes the development database, unless DATABASE=yes or DATABASE=no is given.
"""

import fcntl
import os
import shutil
import sys
from pathlib import Path

CREATED = (
    ".venv",
    "bench/.venv",
    "build",
    ".hypothesis",
    ".mail",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "sbom",
    "tests/browser/node_modules",
)
PATTERNS = (".coverage*", "*.egg-info", "**/__pycache__")
DATA = Path(".postgres")


def main() -> None:
    """Remove the files.  Raises SystemExit with a sentence if the server is running."""
    locks = hold_locks()
    delete_data = os.path.lexists(DATA) and may_delete_data()
    for name in CREATED:
        remove(Path(name))
    for pattern in PATTERNS:
        for path in list(Path().glob(pattern)):
            remove(path)
    if delete_data:
        delete_database()
    elif os.path.lexists(DATA):
        sys.stdout.write("The development database is kept: make clean DATABASE=yes deletes it.\n")
    for each in locks:
        os.close(each)


def hold_locks() -> list[int]:
    """Return the locks of the development database; wait until its PostgreSQL has ended.

    Raises SystemExit with a sentence if a process uses it.
    """
    if not (DATA / "users.lock").exists():
        return []
    # While this holds users.lock, the process that stops an unused PostgreSQL takes it for used.
    os.close(lock("users.lock", fcntl.LOCK_NB))
    return [lock("server.lock", 0), lock("users.lock", fcntl.LOCK_NB)]


def lock(name: str, flags: int) -> int:
    """Lock a file of the development database exclusively, and return its descriptor."""
    descriptor = os.open(DATA / name, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except BlockingIOError:
        raise SystemExit("The server runs: end it (Ctrl-C in make serve) first.") from None
    return descriptor


def delete_database() -> None:
    """Delete the folder, and what it links to, unless that belongs to the original of a copy."""
    socket, link_back = DATA / "socket", DATA / "link"
    if (socket / "data").resolve() == DATA.resolve():
        remove(socket.resolve())
    original = link_back.readlink() if link_back.is_symlink() else DATA.absolute()
    if original == DATA.absolute() or original.resolve() != DATA.resolve():
        remove(DATA.resolve())
    DATA.unlink(missing_ok=True)


def may_delete_data() -> bool:
    """Return whether to delete the development database: DATABASE=yes, or the user's answer."""
    if os.environ.get("DATABASE"):
        return os.environ["DATABASE"] == "yes"
    question = f"Delete the development database in {DATA.resolve()} too? Type yes: "
    return sys.stdin.isatty() and input(question) == "yes"


def remove(path: Path) -> None:
    """Remove a file, a folder or a link (not its target), if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        main()
    except PermissionError as error:
        reason = f"Can't remove {error.filename}: run make clean as its owner, or as root."
        raise SystemExit(reason) from None
