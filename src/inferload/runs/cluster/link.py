"""What the ranks of a cluster say to each other, through the c10d store.

There is no collective: whoever waits looks at the store again and again, and sees whom he has not
heard of for too long, so that a lost rank cannot hang the others.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, cast

from inferload.errors import InferloadError
from inferload.runs.cluster import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from inferload.runs.cluster.launch import Launch

# The store takes no more than 8 MiB at once.
CHUNK_BYTES = 4 * 2**20
# Waiting ranks look at the store so often, and less often the more of them there are.
LOOK_S, LOOK_S_PER_RANK = 0.02, 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long the ranks of a run wait for each other.

    ``beat_s``: how often each says that it is there, and ``look_s`` how often the first one looks
    for that. Who was not heard of for ``lost_s`` is lost; who was never heard of, after ``join_s``.
    ``try_s``: how long one try to reach the store takes; a Ctrl-C is heard between two.
    """

    beat_s: float = 1.0
    look_s: float = 2.0
    lost_s: float = 10.0
    join_s: float = 300.0
    try_s: float = 10.0


_USUAL = Waits()


class StoreLostError(InferloadError):
    """The store cannot be reached any more."""


class Store(Protocol):
    """What is used of a ``torch.distributed.Store``."""

    def set(self, key: str, value: bytes) -> None:
        """Write a value."""

    def get(self, key: str) -> bytes:
        """Read a value, and wait until there is one."""

    def check(self, keys: list[str]) -> bool:
        """Whether all keys have values."""

    def add(self, key: str, amount: int) -> int:
        """Add to a number, 0 at first; the sum."""

    def multi_get(self, keys: list[str]) -> list[bytes]:
        """Read several values."""

    def delete_key(self, key: str) -> bool:
        """Forget a value."""


class Link:
    """One rank's side of the conversation.

    A thread says again and again that this rank is there, and hears whether the run is to stop; it
    has a connection of its own from ``connect``.
    """

    def __init__(
        self, rank: int, ranks: int, connect: Callable[[], Store], waits: Waits = _USUAL
    ) -> None:
        self.rank = rank
        self.ranks = ranks
        self.waits = waits
        self.look_s = max(LOOK_S, LOOK_S_PER_RANK * ranks)
        #: Another rank, or this one, wants all ranks to stop.
        self.stop_asked = False
        self._want_stop = False
        self._connect = connect
        self._store = connect()
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="beat", daemon=True)

    def __enter__(self) -> Self:
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._beating.join(2 * self.waits.beat_s)

    def _beat(self) -> None:
        try:
            store = self._connect()
            while True:
                store.add(words.beat(self.rank), 1)
                if self._want_stop:
                    store.set(words.STOP, b"")
                self.stop_asked = self.stop_asked or store.check([words.STOP])
                if self._over.wait(self.waits.beat_s):
                    return
        except RuntimeError:
            return  # who waits for something finds out

    def ask_stop(self) -> None:
        """Have all ranks stop; may be called by a signal handler."""
        self._want_stop = self.stop_asked = True

    def say(self, key: str, value: bytes = b"") -> None:
        """Write a value for others to hear."""
        with _reached():
            self._store.set(key, value)

    def heard(self, key: str) -> bytes | None:
        """A value, if somebody has said it."""
        with _reached():
            return self._store.get(key) if self._store.check([key]) else None

    def count(self, key: str, amount: int = 0) -> int:
        """Add to a number that all ranks share; the sum."""
        with _reached():
            return self._store.add(key, amount)

    def beats(self) -> list[int]:
        """How often each rank has said that it is there."""
        with _reached():
            found = self._store.multi_get([words.beat(rank) for rank in range(self.ranks)])
        return [int(one) for one in found]

    def expect_beats(self) -> None:
        """Before :meth:`beats`: see that there is a number for every rank."""
        for rank in range(self.ranks):
            self.count(words.beat(rank))

    def send(self, name: str, content: bytes) -> None:
        """Put down a large value, in pieces."""
        pieces = range(0, len(content), CHUNK_BYTES)
        for number, begin in enumerate(pieces):
            self.say(f"{name}/{number}", content[begin : begin + CHUNK_BYTES])
        self.say(f"{name}/pieces", str(len(pieces)).encode())
        self.heard(f"{name}/pieces")  # what is said is on its way; what was answered has arrived

    def has_sent(self, name: str) -> bool:
        """Whether a large value is there as a whole."""
        return self.heard(f"{name}/pieces") is not None

    def received(self, name: str) -> bytearray | None:
        """A large value, if it is there as a whole; it is taken out of the store."""
        pieces = self.heard(f"{name}/pieces")
        if pieces is None:
            return None
        content = bytearray()
        with _reached():
            for number in range(int(pieces)):
                content += self._store.get(f"{name}/{number}")
                self._store.delete_key(f"{name}/{number}")
        return content


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's DistError is one
        reason = str(error).splitlines()[0]
        raise StoreLostError(f"the store of the cluster cannot be reached: {reason}") from error


def import_store() -> None:
    """Import torch's store, which says nothing from then on."""
    before = os.environ.get("TORCH_CPP_LOG_LEVEL")
    # else torch writes a stack of C++ to stderr whenever another side has ended
    os.environ["TORCH_CPP_LOG_LEVEL"] = before or "ERROR"
    import torch.distributed  # noqa: F401

    if before is None:
        del os.environ["TORCH_CPP_LOG_LEVEL"]


def connected(launch: Launch, say: Callable[[str], None], waits: Waits = _USUAL) -> Link:
    """The link of one rank to the store that torchrun, or the first rank, keeps.

    Raises:
        StoreLostError: there is no store where the environment says.
    """
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    keeps_it = launch.rank == 0 and not launch.agent_store

    def connect() -> Store:
        nonlocal keeps_it
        store = TCPStore(
            launch.address,
            launch.port,
            is_master=keeps_it,
            timeout=timedelta(seconds=waits.try_s),
            wait_for_workers=False,
        )
        keeps_it = False
        # torch's own types say that values are text; bytes are what it takes and gives
        return cast("Store", PrefixStore(f"inferload/{launch.attempt}", store))

    where = f"{launch.address}:{launch.port}"
    deadline = time.monotonic() + waits.join_s
    while True:  # in short tries, between which a Ctrl-C is heard
        try:
            return Link(launch.rank, launch.ranks, connect, waits)
        except RuntimeError as error:  # noqa: PERF203
            if time.monotonic() > deadline or keeps_it:
                reason = str(error).splitlines()[0]
                raise StoreLostError(f"there is no store at {where}: {reason}") from error
            say(f"waiting for the store at {where} (to run alone, unset RANK and WORLD_SIZE)")


def wait_a_look(link: Link) -> None:
    """Wait until it is time to look at the store again."""
    time.sleep(link.look_s)
