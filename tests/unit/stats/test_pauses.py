"""What pauses cost, from logs in which it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inferload.log.calls import CallLog
from inferload.stats.pauses import Pauses, pauses_of_run
from support.ranks import SPEC

DUE = replace(SPEC, drain_s=1.0, load="open loop", callers=1)


def log_of(gaps_ns, took_ns, given=None, none_ns: float = 1_000.0) -> CallLog:
    """Calls of one caller, each after a gap: of ``none_ns`` where it was due before that."""
    ends = np.cumsum(gaps_ns + took_ns)
    starts = ends - took_ns
    due = starts - np.where(gaps_ns == none_ns, none_ns + 2, 0)
    columns = {"scheduled_ns": due, "started_ns": starts, "finished_ns": ends}
    count = len(ends)
    return CallLog.of(
        {name: np.rint(one).astype(np.int64) for name, one in columns.items()}
        | {
            "caller": np.zeros(count, np.int32),
            "input": np.zeros(count, np.int32) if given is None else given.astype(np.int32),
            "error": np.full(count, -1, np.int32),
        },
        callers_by_lane=(1,),
        open_loop=True,
    )


def test_calls_that_take_longer_the_longer_they_had_to_wait():
    rng = np.random.default_rng(0)
    gaps = np.where(rng.random(20_000) < 0.5, 1_000.0, rng.exponential(5e6, 20_000) + 60_000)
    given = rng.integers(2, size=20_000)
    slower = 1 + 0.1 * (1 - np.exp(-gaps / 2e6))
    took = 1e6 * np.where(given == 0, 1.0, 3.0) * slower * rng.gamma(64, 1 / 64, 20_000)
    found = pauses_of_run(log_of(gaps, took, given), DUE, 0.0)
    assert found is not None
    assert found.calls == 20_000
    assert list(found.lengths_s) == sorted(found.lengths_s)
    expected = 1 + 0.1 * (1 - np.exp(-np.array(found.lengths_s) / 2e-3))
    assert found.slower == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("none_ns", [1_000.0, 80_000.0])  # a machine may need so long
def test_calls_that_do_not_mind_a_pause_are_told_so(none_ns: float):
    rng = np.random.default_rng(1)
    gaps = np.where(rng.random(20_000) < 0.5, none_ns, rng.exponential(5e6, 20_000) + 60_000)
    took = 1e6 * rng.gamma(64, 1 / 64, 20_000)
    found = pauses_of_run(log_of(gaps, took, none_ns=none_ns), DUE, 0.0)
    assert found is not None
    assert found.slower == pytest.approx([1.0] * len(found.slower), abs=0.015)


@pytest.mark.parametrize(
    ("spec", "share"),
    [
        (replace(DUE, callers=2), 0.5),  # whose calls slow each other down
        (replace(DUE, drain_s=None, load="closed loop"), 0.5),
        (DUE, 0.0),  # each call has a pause before it
        (DUE, 1.0),
    ],
)
def test_of_other_runs_nothing_is_known(spec, share):
    rng = np.random.default_rng(2)
    gaps = np.where(rng.random(5000) < share, 1_000.0, 1e6)
    assert pauses_of_run(log_of(gaps, np.full(5000, 1e6)), spec, 0.0) is None


def test_of_too_few_calls_nothing_is_known():
    gaps = np.where(np.arange(150) % 2, 1_000.0, 1e6)
    assert pauses_of_run(log_of(gaps, np.full(150, 1e6)), DUE, 0.0) is None


@pytest.mark.parametrize(
    ("lengths", "slower"), [((1.0,), (1.0,)), ((1.0, 2.0), (1.0,)), ((0.0, 1.0), (1.0, 1.0))]
)
def test_pauses_that_cannot_be_are_refused(lengths, slower):
    with pytest.raises(ValueError, match="pauses"):
        Pauses(lengths_s=lengths, slower=slower, calls=1)
