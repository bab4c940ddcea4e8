"""The cores that both sides of a pair of processes are held to: the same ones."""

from __future__ import annotations

import os
from itertools import groupby
from typing import TYPE_CHECKING

from inferload.plan.cores import usable_cpus

if TYPE_CHECKING:
    import numpy as np

    from inferload.plan.options import RunOptions

Cores = tuple[tuple[int, ...], ...]


def cores_of(a: RunOptions, b: RunOptions, rng: np.random.Generator) -> Cores:
    """The cores of each caller, the same for both sides; none where they are held to none.

    Each caller has a core for every thread of its calls, drawn anew for each pair of processes:
    what the neighbours of one core do is then no property of a side. Callers are held to none where
    they need more cores than there are, or nobody has said how many threads a call has.
    """
    if not hasattr(os, "sched_getaffinity") or a.pin != "none" or b.pin != "none":
        return ()
    callers = {one.load.callers for one in (a, b)}
    threads = {one.threads_per_call for one in (a, b)}
    if len(callers) > 1 or len(threads) > 1 or None in threads:
        return ()
    (count,), (each,) = callers, threads
    cores = [
        tuple(sorted(cpu.number for cpu in own))
        for _, own in groupby(sorted(usable_cpus()), key=lambda cpu: (cpu.node, cpu.core))
    ]
    wanted = count * int(each or 1)
    if wanted > len(cores):
        return ()
    first = int(rng.integers(len(cores) - wanted + 1))
    own = cores[first : first + wanted]
    each = int(each or 1)
    return tuple(
        tuple(cpu for core in own[caller * each : (caller + 1) * each] for cpu in core)
        for caller in range(count)
    )
