"""Figures of the batches that requests were called in, from a call log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.log.calls import NO_STAGE
from inferload.records.batches import BatchFigures
from inferload.stats.durations import RawDurations
from inferload.stats.intervals import BATCHES
from inferload.stats.parts import part_of
from inferload.stats.summary import distribution_ms, rate
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inferload.log.arrays import Int64s
    from inferload.log.calls import CallLog
    from inferload.records.distribution import Distribution
    from inferload.records.figures import Summary


def batch_figures(
    log: CallLog, summary: Summary, elements_per_input: Sequence[int]
) -> BatchFigures | None:
    """The figures of the batches whose requests returned in the measured part.

    ``None`` where calls were not made in batches. Each request stands for one part in
    ``batch_size`` of its batch, so that the number of batches is exact where all requests are in
    the log and a sample of requests is one of batches. Of a counted log the waits are of all
    requests, all else of the sample.
    """
    if "batch" not in log.batches:
        return None
    from_ns = round(summary.from_s * NS_PER_S)
    kept = log.rows(log.completed & (log.finished_ns > from_ns) & (log.batches["batch"] >= 0))
    if not len(kept):
        return None
    one_in = 1 if log.tally is None else log.tally.sampled_one_in
    size = kept.batches["batch_size"].astype(np.int64)
    sizes, requests = np.unique(size, return_counts=True)
    counts = np.maximum(np.rint(requests * one_in / sizes), 1).astype(np.int64)
    batches = float((requests * one_in / sizes).sum())
    single = kept.rows(_one_of_each(kept, size, sampled=one_in > 1))
    part = part_of(log, summary.from_s)
    return BatchFigures(
        batches=round(batches),
        calls_per_s=rate(round(batches), summary.duration_s, _by_window(single, from_ns)),
        mean_size=float(requests.sum() * one_in / batches),
        sizes=tuple(zip(sizes.tolist(), counts.tolist(), strict=True)),
        instance_wait_ms=distribution_ms(part.stage("instance_ns")),
        batch_wait_ms=distribution_ms(part.stage("hold_ns")),
        gather_ms=_known(single, "gather_ns"),
        device_ms=_known(single, "device_ns"),
        padding_fraction=_padding(kept, elements_per_input),
        sampled=one_in > 1,
    )


def _one_of_each(log: CallLog, size: Int64s, *, sampled: bool) -> NDArray[np.integer]:
    """A request of each batch; of a sample of requests those of a sample of batches."""
    if sampled:
        # each with a chance of one in the size of its batch
        return np.flatnonzero(np.random.default_rng(0).random(len(size)) < 1 / size)
    _, first = np.unique(log.batches["batch"], return_index=True)
    return first


def _by_window(single: CallLog, from_ns: int) -> Int64s:
    """How many batches returned in each of some windows of equal length."""
    ends = np.sort(single.finished_ns)
    edges = np.linspace(from_ns, ends[-1], BATCHES + 1)
    return np.diff(np.searchsorted(ends, edges[1:], side="right"), prepend=0).astype(np.int64)


def _known(single: CallLog, name: str) -> Distribution | None:
    """A stage of each batch that has it."""
    if name not in single.stages:
        return None
    values = single.stages[name][np.argsort(single.finished_ns, kind="stable")]
    values = values[values != NO_STAGE]
    return distribution_ms(RawDurations.of(values))


def _padding(log: CallLog, elements_per_input: Sequence[int]) -> float:
    """The share of padding in all values that the model was given."""
    own = np.asarray(elements_per_input, np.float64)[log.input]
    given = own / (1 - np.minimum(log.batches["padding_ppm"] / 1e6, 1 - 1e-9))
    whole = float(given.sum())
    return 1 - float(own.sum()) / whole if whole else 0.0
