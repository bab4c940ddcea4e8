"""The clocks of other machines, as far as they are needed to start together.

Durations are always taken by one clock; what is learned here is only when a rank is to start.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.runs.cluster import words

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.runs.cluster.link import Link

ROUNDS = 16
# A rank that is asked what time it is answers within two looks at the store, unless it is lost.
ANSWER_S, ANSWER_LOOKS = 2.0, 3
# One that is invited waits so long for its turn, and looks so often meanwhile.
TURN_S, TURN_LOOK_S = 60.0, 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """How far another clock is ahead, give or take ``error_ns``."""

    ahead_ns: int
    error_ns: int


def clock_name() -> str:
    """A name that processes have in common if they have a monotonic clock in common."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/time').readlink()}"
    except OSError:
        return f"process {os.getpid()}"


def invite(link: Link, rank: int) -> None:
    """Ask a rank the first question, so that it waits for the others when its turn comes."""
    link.say(words.asked(rank, 0))


def ask_offset(link: Link, rank: int, now_ns: Callable[[], int]) -> Offset | None:
    """How far the clock of another rank is ahead of this one's; ``None`` if it does not answer.

    The answer was read between asking and hearing it, so half of that time bounds the error; the
    quickest of several rounds counts (Cristian 1989).
    """
    best: Offset | None = None
    for number in range(ROUNDS):
        asked = now_ns()
        link.say(words.asked(rank, number))
        patience_s = max(ANSWER_S, ANSWER_LOOKS * link.look_s)
        answer = _awaited(link, words.answer(rank, number), patience_s)
        heard = now_ns()
        if answer is None:
            return best
        found = Offset(
            ahead_ns=int(answer) - (asked + heard) // 2, error_ns=(heard - asked + 1) // 2
        )
        if best is None or found.error_ns < best.error_ns:
            best = found
    return best


def answer_time(link: Link, now_ns: Callable[[], int]) -> None:
    """Answer another rank that asks what time it is here."""
    for number in range(ROUNDS):
        if _awaited(link, words.asked(link.rank, number), TURN_S, TURN_LOOK_S) is None:
            return
        link.say(words.answer(link.rank, number), str(now_ns()).encode())


def is_asked(link: Link) -> bool:
    """Whether another rank has begun to ask what time it is here."""
    return link.heard(words.asked(link.rank, 0)) is not None


def _awaited(link: Link, key: str, patience_s: float, pause_s: float = 0.0) -> bytes | None:
    """A value that is going to be said at once; a long pause would be in the error."""
    deadline = time.monotonic() + patience_s
    while (found := link.heard(key)) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(pause_s)
    return found
