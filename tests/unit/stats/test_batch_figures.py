"""Figures of batches from a log whose batches are known."""

from __future__ import annotations

import numpy as np
import pytest

from inferload.log.calls import BATCH, BATCH_STAGES, COLUMNS, CallLog
from inferload.log.merge import LogPlace, counted, merged
from inferload.records.batches import BatchFigures
from inferload.stats.batches import batch_figures
from inferload.stats.summary import summarize

MS = 1_000_000
ELEMENTS = (10, 30)


def log_of(batches: int, *, sizes: tuple[int, ...] = (1, 3), failed: int = 0) -> CallLog:
    """Batches of these sizes in turn, one every 10 ms, each of 5 ms; the last ones failed.

    A request waits 1 ms for an instance, 2 ms for its batch, and is late by 3 ms.
    """
    size = np.resize(sizes, batches)
    number = np.repeat(np.arange(batches), size)
    started = (10 * number + 6) * MS
    columns = {
        "scheduled_ns": started - 6 * MS,
        "started_ns": started,
        "finished_ns": started + 5 * MS,
        "caller": number % 2,
        "input": np.arange(len(number)) % 2,
        "error": np.where(number >= batches - failed, 0, -1),
        "gather_ns": np.full(len(number), MS) * size[number],
        "hold_ns": np.full(len(number), 2 * MS),
        "late_ns": np.full(len(number), 3 * MS),
        "batch": number,
        "batch_size": size[number],
        "padding_ppm": np.where(size[number] == 1, 0, 500_000),
    }
    dtypes = {**COLUMNS, **dict.fromkeys(BATCH_STAGES, np.int64), **dict.fromkeys(BATCH, np.int32)}
    return CallLog.of(
        {name: columns[name].astype(dtype) for name, dtype in dtypes.items()}, open_loop=True
    )


def figures(log: CallLog, from_s: float = 0.0) -> BatchFigures:
    found = batch_figures(log, summarize(log, (1, 1), from_s=from_s), ELEMENTS)
    assert found is not None
    return found


def test_figures_are_those_of_the_batches():
    found = figures(log_of(1000))
    assert found.batches == 1000
    assert found.sizes == ((1, 500), (3, 500))
    assert found.mean_size == 2
    assert found.calls_per_s.value == pytest.approx(1000 / 10.001, rel=1e-3)
    assert found.calls_per_s.low <= found.calls_per_s.value <= found.calls_per_s.high
    assert found.instance_wait_ms.mean == found.instance_wait_ms.p50.value == 1
    assert found.batch_wait_ms.max == 2
    assert found.gather_ms.count == 1000  # of batches, not of requests
    assert found.gather_ms.mean == 2
    assert found.device_ms is None


def test_padding_is_a_share_of_all_values():
    """Of requests of 10 and 30 values in turn, half of what batches of three are given."""
    log = log_of(1000)
    own = np.array(ELEMENTS)[log.input]
    alone = own[log.batches["batch_size"] == 1].sum()
    padded = 2 * own[log.batches["batch_size"] == 3].sum()
    assert figures(log).padding_fraction == pytest.approx(1 - own.sum() / (alone + padded))


def test_failed_batches_and_those_before_the_cut_do_not_count():
    assert figures(log_of(1000, failed=100)).batches == 900
    assert figures(log_of(1000), from_s=5.0).batches == 501  # the first of them ends at 5.001 s


def test_calls_without_batches_have_no_figures():
    log = log_of(10)
    plain = CallLog.of({name: getattr(log, name) for name in COLUMNS}, open_loop=True)
    assert batch_figures(plain, summarize(plain, (1, 1)), ()) is None


def test_batches_of_several_processes_stay_apart():
    logs = [(log_of(30), LogPlace(callers=2)), (log_of(40), LogPlace(callers=2, first_caller=2))]
    log = merged(logs, [2], open_loop=True, inputs=2)
    assert len(np.unique(log.batches["batch"])) == 70
    assert figures(log).batches == 70
    for number in np.unique(log.batches["batch"]):
        own = log.batches["batch"] == number
        assert len(set(log.process[own].tolist())) == 1
        assert own.sum() == log.batches["batch_size"][own][0]


def test_a_sample_of_a_long_run_has_nearly_the_same(monkeypatch: pytest.MonkeyPatch):
    log = log_of(20_000)
    exact = figures(log)
    monkeypatch.setattr("inferload.log.tally.SAMPLED_CALLS", 10_000)
    monkeypatch.setattr("inferload.log.merge.SAMPLED_CALLS", 10_000)
    found = figures(counted(log, 2))
    assert found.sampled
    assert not exact.sampled
    # a sample of one in 4 of 40,000 requests: 2 % are three deviations
    assert found.batches == pytest.approx(exact.batches, rel=0.03)
    assert found.mean_size == pytest.approx(2, rel=0.03)
    assert found.padding_fraction == pytest.approx(exact.padding_fraction, rel=0.03)
    assert found.gather_ms.mean == pytest.approx(2, rel=0.03)
    # waits are counted, of every request
    assert found.batch_wait_ms.mean == pytest.approx(2, rel=1e-3)
    assert found.instance_wait_ms.mean == pytest.approx(1, rel=1e-3)
    assert found.batch_wait_ms.count == exact.batch_wait_ms.count
