"""A number of calls that the callers of several processes share, in memory that they share."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_BYTES = 64


class Budget:
    """Calls that are left to be claimed.

    Python callers take calls under a lock on the file, which the system gives back if its holder
    dies; native callers take them by an atomic instruction on :attr:`buffer`, an int64. Where both
    take from one budget, the Python ones must do as the native ones: set :attr:`take_atomically`.
    """

    def __init__(self, fileno: int) -> None:
        self.fileno = fileno
        self.buffer = mmap.mmap(fileno, _BYTES)
        self.take_atomically: Callable[[object, int, int], int] | None = None
        self._left = np.frombuffer(self.buffer, np.int64, 1)
        # the lock on the file is the process's: it does not keep threads apart
        self._lock = threading.Lock()

    @classmethod
    def of(cls, calls: int) -> Budget:
        """A new budget of so many calls."""
        with tempfile.TemporaryFile(prefix="inferload-", suffix=".budget") as file:
            file.write(np.array([calls], np.int64).tobytes().ljust(_BYTES, b"\0"))
            file.flush()
            return cls(os.dup(file.fileno()))

    @property
    def left(self) -> int:
        """How many calls are left."""
        return int(self._left[0])

    def take(self, most: int, among: int) -> int:
        """Claim some calls: a fair share among so many callers, at least 1; 0 if none are left."""
        if self.take_atomically is not None:
            return self.take_atomically(self.buffer, most, among)
        with self._lock:
            fcntl.lockf(self.fileno, fcntl.LOCK_EX)
            try:
                left = self.left
                taken = min(max(left // (4 * among), 1), most, left)
                self._left[0] = left - taken
                return taken
            finally:
                fcntl.lockf(self.fileno, fcntl.LOCK_UN)
