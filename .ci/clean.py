"""Removes all files that make created: "make clean" runs this file.

It asks before it deletes the development database, unless DATABASE=yes or DATABASE=no is given.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

CREATED = (
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
    """Remove the files.  Raises SystemExit with a sentence if the server is running."""
    locks = list(hold_locks()) if DATA.exists() else []
    delete_data = os.path.lexists(DATA) and may_delete_data()
    for name in CREATED:
        remove(Path(name))
    for pattern in PATTERNS:
        for path in list(Path().glob(pattern)):
            remove(path)
    if delete_data:
        socket = DATA / "socket"
        # In a copied checkout, the link leads to the socket of the original.
        if (socket / "data").resolve() == DATA.resolve():
            remove(socket.resolve())
        remove(DATA.resolve())
        DATA.unlink(missing_ok=True)
    elif os.path.lexists(DATA):
        sys.stdout.write("The development database is kept: make clean DATABASE=yes deletes it.\n")
    for lock in locks:
        os.close(lock)


def hold_locks() -> Iterator[int]:
    """Yield the locks of the development database; wait until its PostgreSQL has ended."""
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
