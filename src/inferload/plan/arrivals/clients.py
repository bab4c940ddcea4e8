"""Clients of a closed loop: each has one request in flight, and thinks before the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Int64s

# Think times drawn one by one; then they are taken again: 512 KiB.
DRAWN_THINKS = 65_536
THINKS = ("exponential", "constant")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clients:
    """The clients of one queue, and how long they think between a response and the next request.

    Their first requests are due ``first_ns`` after the start line, int64 of shape ``(clients,)``,
    ascending; the request that returns as number i of all is followed by one that is due
    ``think_ns[i % n]`` later, int64 of shape ``(n,)``.
    """

    first_ns: Int64s
    think_ns: Int64s

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.first_ns)

    def mean_think_s(self, calls: int) -> float:
        """The mean of the first so many think times."""
        turns, rest = divmod(calls, len(self.think_ns))
        total = turns * float(self.think_ns.sum()) + float(self.think_ns[:rest].sum())
        return total / max(calls, 1) / NS_PER_S


def clients_drawn(count: int, think_s: float, think: str, seed: int | Sequence[int]) -> Clients:
    """Draw the think times of so many clients.

    Without think time all first requests are due at the start line. Else the first ones come as
    they would later on: after a think time that is exponential, or at even distances within one
    that is constant.
    """
    generator = np.random.default_rng(seed)
    if think == "constant" or not think_s:
        thinks = np.full(1, think_s)
        firsts = np.arange(count) * (think_s / count)
    else:
        thinks = generator.exponential(think_s, DRAWN_THINKS)
        firsts = np.sort(generator.exponential(think_s, count))
    return Clients(
        first_ns=np.rint(firsts * NS_PER_S).astype(np.int64),
        think_ns=np.rint(thinks * NS_PER_S).astype(np.int64),
    )
