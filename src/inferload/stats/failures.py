"""Calls that failed, by their class: how many, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.records.server import FailureFigures
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.log.calls import CallLog


def failure_figures(log: CallLog) -> tuple[FailureFigures, ...]:
    """The failed calls of each class of exceptions, the most frequent one first.

    Of a log that has a sample of its calls as many as those stand for.
    """
    failed = np.flatnonzero(log.error >= 0)
    if not len(failed):
        return ()
    names = list(dict.fromkeys(one.type for one in log.errors))
    sampled = log.tally is not None
    each = log.calls_failed / len(failed) if sampled else 1.0
    kind_of = np.array([names.index(one.type) for one in log.errors])
    kinds, when = kind_of[log.error[failed]], log.finished_ns[failed]
    found = []
    for kind, name in enumerate(names):
        own = kinds == kind
        if not own.any():
            continue
        times = when[own]
        first = log.errors[int(log.error[failed[own][int(times.argmin())]])]
        found.append(
            FailureFigures(
                type=name,
                calls=round(int(own.sum()) * each),
                first_s=float(times.min()) / NS_PER_S,
                last_s=float(times.max()) / NS_PER_S,
                example=first.gist,
                sampled=sampled,
            )
        )
    return tuple(sorted(found, key=lambda one: -one.calls))
