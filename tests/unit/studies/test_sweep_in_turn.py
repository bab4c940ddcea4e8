"""Points of a sweep held open at once, and called by slices in turn: figures and failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import inferload as il
from inferload.errors import InferloadError, PlanError
from inferload.plan.options import RunOptions
from inferload.stats.slices.slice import Slice
from inferload.stats.slices.whole import whole_of_slices
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import Settings
from inferload.studies.slices.turns import in_turn
from inferload.studies.sweep.plan import SweepPlan
from inferload.studies.sweep.sweeper import run_sweep
from support.sliced_sides import Told


class Machine:
    """Settings whose calls take ``call_s``; time passes by slices, at a pace that changes."""

    def __init__(self, spec, call_s, pace=lambda _: 1.0, fails=lambda *_: None):
        self.spec, self.call_s, self.pace, self.fails = spec, call_s, pace, fails
        self.now_s = 0.0
        self.kept: dict[Settings, list] = {}
        self.log: list[tuple[str, Settings | None]] = []

    def clock(self) -> float:
        return self.now_s

    def open_turn(self, settings, turn, observer):
        assert settings == turn.settings
        self.log.append(("open", settings))
        if (error := self.fails("open", settings)) is not None:
            raise error
        self.kept[settings] = []
        spec = replace(self.spec, callers=settings.callers)
        return SimpleNamespace(spec=spec, environment={"usable_cores": 8}, warnings=())

    def turn(self, settings, seconds, warmup_calls, observer):
        self.log.append(("turn", settings))
        if (error := self.fails("turn", settings)) is not None:
            self.kept.clear()  # its process has ended with all of them
            raise error
        call_ns = round(self.call_s(settings) / self.pace(self.now_s) * 1e9)
        calls = max(round(seconds * 1e9 / call_ns), 1)
        started = np.arange(calls, dtype=np.int64) * call_ns
        rows = {
            "scheduled_ns": started,
            "started_ns": started,
            "finished_ns": started + call_ns,
            "caller": np.zeros(calls, np.int32),
            "input": np.zeros(calls, np.int32),
            "error": np.full(calls, -1, np.int32),
        }
        self.kept[settings].append(rows)
        self.now_s += seconds
        ones = np.ones(calls, np.int64)
        return Slice.of(0, rows["caller"], ones, started, rows["finished_ns"])

    def warmed(self, observer):
        self.kept = {one: [] for one in self.kept}

    def close_turns(self, observer):
        found = {one: whole_of_slices(own, [1], 1) for one, own in self.kept.items() if own}
        self.kept.clear()
        return found


@pytest.fixture(scope="module")
def spec():
    return il.run(lambda x: x, [torch.zeros(1)], calls=10).spec


def swept(machine, callers=(1, 2, 4), blocks=3, done=None, keep=lambda _: None, **options):
    given = RunOptions(**{"duration_s": 2.0, **options}).checked()
    plan = SweepPlan(
        target="m.py", asked={}, options=given, axes={"callers": callers}, blocks=blocks
    )
    return run_sweep(
        plan,
        SimpleNamespace(run=lambda *_: pytest.fail("no whole runs were to be made")),
        Told(),
        turns=machine,
        done=done,
        keep=keep,
        clock=machine.clock,
    )


def rates(sweep):
    return [one.throughput_calls_per_s.value for one in sweep.points]


def test_what_the_machine_does_meanwhile_is_no_difference_between_points(spec):
    # it has half of its pace in every other two seconds: as long as a whole run of a point
    machine = Machine(spec, lambda _: 0.001, lambda now_s: 1.0 if int(now_s / 2) % 2 else 0.5)
    found = swept(machine)
    assert max(rates(found)) / min(rates(found)) < 1.15
    assert found.slice_s == pytest.approx(0.1)
    assert found.why_runs is None


def test_points_that_differ_are_told_apart(spec):
    found = swept(Machine(spec, lambda one: 0.001 * one.callers))
    assert rates(found) == pytest.approx([1000, 500, 250], rel=0.01)
    assert found.peak.settings == Settings(callers=1)
    assert [one.p50_ms.value for one in found.points] == pytest.approx([1, 2, 4], rel=0.01)
    assert all(one.runs == 3 for one in found.points)


def test_slices_of_each_point_are_spread_over_the_block():
    counts = {Settings(callers=n): 20 for n in (1, 2, 3)}
    order = in_turn(counts, np.random.default_rng(0))
    for begin in range(0, 60, 15):  # five of each in every quarter, but for those at its ends
        assert all(3 <= n <= 7 for n in Counter(order[begin : begin + 15]).values())
    assert order != in_turn(counts, np.random.default_rng(1))


def test_slow_calls_have_longer_slices_and_four_of_them_at_least(spec):
    machine = Machine(spec, lambda one: 0.9 if one.callers == 2 else 0.001)
    found = swept(machine, callers=(1, 2), blocks=1)
    turns = Counter(one for word, one in machine.log if word == "turn")
    assert turns[Settings(callers=2)] == 1 + 4  # one to warm up, or two
    assert turns[Settings(callers=1)] == 2 + 20
    assert rates(found) == pytest.approx([1000, 1 / 0.9], rel=0.01)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("open", PlanError("there is no such form")),
        ("open", InferloadError("it crashed")),
        ("turn", InferloadError("it raised")),
    ],
)
def test_a_point_that_fails_leaves_the_others(spec, where, error):
    def fails(at, settings):
        return error if at == where and settings.callers == 2 else None

    found = swept(Machine(spec, lambda _: 0.001, fails=fails))
    assert [one.failure for one in found.points] == [None, str(error), None]
    assert [one.runs for one in found.points] == [3, 0, 3]
    assert "failed-runs" in [one.code for one in found.warnings]


def test_where_all_fail_the_first_failure_is_raised(spec):
    machine = Machine(spec, lambda _: 0.001, fails=lambda *_: InferloadError("worn out"))
    with pytest.raises(InferloadError, match="worn out"):
        swept(machine)


def test_a_sweep_that_was_interrupted_goes_on_with_its_next_block(spec):
    class Stops(Machine):
        def open_turn(self, settings, turn, observer):
            if self.now_s > 6:  # in the second block
                raise KeyboardInterrupt
            return super().open_turn(settings, turn, observer)

    with pytest.raises(StudyInterrupted, match="interrupted after 3 of 9 runs") as ended:
        swept(Stops(spec, lambda _: 0.001))
    half = ended.value.study
    machine = Machine(spec, lambda _: 0.001)
    found = swept(machine, done=half)
    assert found.runs[:3] == half.runs
    assert [one.block for one in found.runs] == [0] * 3 + [1] * 3 + [2] * 3
    assert sum(word == "open" for word, _ in machine.log) == 6


@pytest.mark.parametrize(
    ("options", "callers", "why"),
    [
        ({"calls": 10, "duration_s": None}, (1, 2), "runs that end by --calls or --precision"),
        ({"load": il.OpenLoop.poisson(10)}, (1, 2), "calls of an open loop are due"),
        ({}, range(1, 40), "more than 32 settings at once have no room"),
    ],
)
def test_where_there_are_no_slices_each_point_is_a_whole_run(spec, options, callers, why):
    result = il.run(lambda x: x, [torch.zeros(1)], calls=10)
    given = RunOptions(**{"duration_s": 2.0, **options}).checked()
    axes = {"callers": tuple(callers)}
    plan = SweepPlan(target="m.py", asked={}, options=given, axes=axes, blocks=1)
    machine = Machine(spec, lambda _: 0.001)
    bench = SimpleNamespace(run=lambda *_: result)
    found = run_sweep(plan, bench, Told(), turns=machine)
    assert found.why_runs.startswith(why)
    assert machine.log == []
    assert len(found.runs) == len(axes["callers"])
