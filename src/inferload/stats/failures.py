"""Calls that failed: how many of each class, when, and whether more do of one side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.records.server import FailureFigures
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from inferload.log.calls import CallLog


#: The chance that more calls are said to fail where as many do.
ERROR = 0.05


def more_fail(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether more calls of B fail than of A; each is how many failed, of how many.

    Any, where none of A's do; else by the binomial test, given how many failed of both.

    >>> more_fail((0, 1000), (1, 1000)), more_fail((50, 1000), (51, 1000))
    (True, False)
    >>> more_fail((50, 1000), (80, 1000))
    True
    """
    from scipy import stats

    failed, made = a[0] + b[0], a[1] + b[1]
    if not b[0] or not a[0]:
        return b[0] > 0
    return float(stats.binom.sf(b[0] - 1, failed, b[1] / made)) < ERROR


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
