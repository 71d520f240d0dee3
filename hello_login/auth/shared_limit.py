"""A limit that several processes share."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RETRY_SECONDS = 0.001
"""The kernel can't wait for any of several bytes.  One thread of a process at a time asks again."""


class SharedLimit:
    """Limits what this process and those that it forks do at once, all together.

    Each user locks a byte of an unnamed file.  The kernel unlocks those of a process that dies.
    """

    def __init__(self, number: int) -> None:
        self._file = os.memfd_create("shared_limit")
        self._free = set(range(number))
        self._turn = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait until fewer than the number are held, and hold one of them."""
        with self._turn:
            byte = self._lock_byte()
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
            self._free.add(byte)

    def _lock_byte(self) -> int:
        # A process does not exclude itself from a byte that it has locked.
        while True:
            for byte in list(self._free):
                with suppress(BlockingIOError, PermissionError):
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                    self._free.remove(byte)
                    return byte
            time.sleep(RETRY_SECONDS)
