"""How long calls take with so many under way, from logs whose calls are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inferload.log.calls import CallLog
from inferload.records.batches import BatchSpec
from inferload.stats.service import LEVELS, profiles_of, profiles_of_run, values_of, why_no_profile
from support.ranks import SPEC

CLOSED = replace(SPEC, drain_s=None, load="closed loop")


def log_of(took_ms, given=None, callers=1, **more) -> CallLog:
    """Calls of callers that call without a pause, dealt in turn."""
    took = np.asarray(took_ms, float) * 1e6
    caller = np.arange(len(took)) % callers
    finished = np.empty(len(took))
    for each in range(callers):
        finished[each::callers] = np.cumsum(took[each::callers])
    columns = {
        "scheduled_ns": finished - took,
        "started_ns": finished - took,
        "finished_ns": finished,
    }
    return CallLog.of(
        {name: np.rint(one).astype(np.int64) for name, one in columns.items()}
        | {
            "caller": caller.astype(np.int32),
            "input": np.zeros(len(took), np.int32) if given is None else given.astype(np.int32),
            "error": np.full(len(took), -1, np.int32),
        }
        | more,
        callers_by_lane=(callers,),
        open_loop=False,
    )


def test_the_mean_the_spread_and_what_inputs_differ_by():
    rng = np.random.default_rng(0)
    given = rng.integers(2, size=20_000)
    took = np.where(given == 0, 1.0, 3.0) * rng.gamma(16, 1 / 16, len(given))
    (found,) = profiles_of(log_of(took, given, callers=2), 2)
    assert found.in_flight == 2
    assert found.batch_size is None
    assert found.calls == 20_000
    assert found.mean_ms.value == pytest.approx(2.0, rel=0.02)
    assert found.mean_ms.low < 2.0 < found.mean_ms.high
    assert found.factors == pytest.approx((0.5, 1.5), rel=0.02)
    assert sum(found.shares) == pytest.approx(1.0)
    values = values_of(np.array(found.shape), 4096)
    assert values.mean() == pytest.approx(1.0)
    assert values.std() == pytest.approx(0.25, rel=0.03)
    assert np.quantile(values, 0.99) == pytest.approx(
        np.quantile(rng.gamma(16, 1 / 16, 100_000), 0.99), rel=0.02
    )


def test_independent_calls_are_no_machine_that_changes():
    took = np.random.default_rng(1).exponential(1.0, 20_000)
    (found,) = profiles_of(log_of(took), 1)
    assert np.std(found.speeds) < 0.03
    assert np.std(values_of(np.array(found.shape), 4096)) == pytest.approx(1.0, rel=0.03)


def test_a_machine_that_changes_its_speed_is_seen_apart_from_its_calls():
    rng = np.random.default_rng(2)
    slow = np.where(np.arange(20_000) // 2000 % 2 == 0, 1.0, 1.5)
    (found,) = profiles_of(log_of(slow * rng.gamma(100, 0.01, 20_000)), 1)
    assert np.std(found.speeds) == pytest.approx(0.2, abs=0.02)
    assert np.mean(found.speeds) == pytest.approx(1.0)
    assert np.std(values_of(np.array(found.shape), 4096)) == pytest.approx(0.1, abs=0.02)


def test_batches_by_their_size():
    size = np.repeat([1, 2, 4] * 40, [1, 2, 4] * 40)
    number = np.repeat(np.arange(120), [1, 2, 4] * 40)
    log = log_of(
        np.where(size == 1, 1.0, np.where(size == 2, 1.5, 2.0)),
        batch=number.astype(np.int32),
        batch_size=size.astype(np.int32),
        padding_ppm=np.zeros(len(size), np.int32),
    )
    found = profiles_of(log, 1)
    assert [(one.batch_size, one.calls) for one in found] == [(1, 40), (2, 40), (4, 40)]
    assert [one.mean_ms.value for one in found] == pytest.approx([1.0, 1.5, 2.0])


def test_calls_that_failed_or_came_first_are_left_out():
    took = np.concatenate([np.full(50, 100.0), np.full(200, 1.0)])
    log = log_of(took)
    log.error[-10:] = 0
    (found,) = profiles_of(log, 1, from_s=5.0001)
    assert found.calls == 190
    assert found.mean_ms.value == pytest.approx(1.0)


def test_too_few_calls_say_nothing():
    assert profiles_of(log_of(np.ones(2)), 1) == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"clients": 8}, None),
        ({"clients": 8, "think_s": 0.1}, "leave callers idle"),
        ({"clients": 1}, "leave callers idle"),
        ({"drain_s": 30.0}, "between 1 and 2 of its calls"),
        ({"drain_s": 30.0, "callers": 1}, None),
        ({"drain_s": 30.0, "batching": BatchSpec(max_batch=8)}, None),
        ({"servers": (object(),)}, "to a server"),
    ],
)
def test_runs_that_do_not_tell_say_why(changes, why):
    spec = replace(CLOSED, **changes)
    found = why_no_profile(spec)
    assert (found is None) == (why is None)
    if why is not None:
        assert why in found
        assert profiles_of_run(log_of(np.ones(100)), spec, 0.0) == ()


def test_levels_rise_from_none_to_all():
    assert (np.diff(LEVELS) > 0).all()
    assert (LEVELS[0], LEVELS[-1]) == (0.0, 1.0)
