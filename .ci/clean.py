"""Removes all that make has made here: "make clean" runs this file.

It asks before it deletes the development database; DATABASE=yes answers beforehand.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

MADE = (
    ".venv",
    "bench/.venv",
    "build",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "tests/browser/node_modules",
)
PATTERNS = (".coverage*", "*.egg-info", "**/__pycache__")
DATA = Path(".postgres")


def main() -> None:
    """Remove it, or raise SystemExit with a sentence."""
    locks = list(hold_locks()) if DATA.exists() else []
    delete_data = os.path.lexists(DATA) and may_delete_data()
    for name in MADE:
        remove(Path(name))
    for pattern in PATTERNS:
        for path in list(Path().glob(pattern)):
            remove(path)
    if delete_data:
        socket = DATA / "socket"
        if (socket / "data").resolve() == DATA.resolve():  # else it is the original's, of a copy
            remove(socket.resolve())
        remove(DATA.resolve())
        DATA.unlink(missing_ok=True)
    elif os.path.lexists(DATA):
        sys.stdout.write("The development database is kept: make clean DATABASE=yes deletes it.\n")
    for lock in locks:
        os.close(lock)


def hold_locks() -> Iterator[int]:
    """Take the locks of the development database, and wait until its PostgreSQL has ended."""
    for name, how in (("users.lock", fcntl.LOCK_NB), ("server.lock", 0)):
        path = DATA / name
        if path.exists():
            lock = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | how)
            except BlockingIOError:
                raise SystemExit("The server runs: end it (Ctrl-C in make serve) first.") from None
            yield lock


def may_delete_data() -> bool:
    """Return the answer."""
    if os.environ.get("DATABASE"):
        return os.environ["DATABASE"] == "yes"
    question = f"Delete the development database in {DATA.resolve()} too? Type yes: "
    return sys.stdin.isatty() and input(question) == "yes"


def remove(path: Path) -> None:
    """Remove a file, a folder or nothing; of a link only the link."""
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
