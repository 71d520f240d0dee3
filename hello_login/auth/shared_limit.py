"""A limit that several processes share."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RETRY_SECONDS = 0.001
"""The time between two tries: the kernel can't wait for any of several bytes.  In a process, one
thread tries at a time."""

PATIENCE_SECONDS = 5.0
"""A thread that waits for longer goes on: a stopped process may hold its byte for ever."""


class SharedLimit:
    """Limits the number of threads that go on at once, in this process and in those that it forks.

    Each thread locks a byte of an unnamed file.  If a process dies, the kernel unlocks its bytes.
    """

    def __init__(self, number: int) -> None:
        self._file = os.memfd_create("shared_limit")
        self._free = set(range(number))
        self._turn = threading.Lock()
        self._patience = PATIENCE_SECONDS

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait until a byte is free, and lock it.

        After PATIENCE_SECONDS, go on without a byte.  Later threads do so at once, until a byte is
        free again.
        """
        with self._turn:
            byte = self._lock_byte()
        try:
            yield
        finally:
            if byte is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
                self._free.add(byte)

    def _lock_byte(self) -> int | None:
        deadline = time.monotonic() + self._patience
        while True:
            # A process does not exclude itself from a byte that it has locked.
            for byte in list(self._free):
                with suppress(BlockingIOError, PermissionError):
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                    self._free.remove(byte)
                    self._patience = PATIENCE_SECONDS
                    return byte
            if time.monotonic() >= deadline:
                self._patience = 0.0
                return None
            time.sleep(RETRY_SECONDS)
