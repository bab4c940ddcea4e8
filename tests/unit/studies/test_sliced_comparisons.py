"""Comparisons by slices: pairs of processes, when they are enough, and what they come to."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import inferload as il
from inferload.plan.options import RunOptions
from inferload.stats.slices.slice import Slice
from inferload.studies.comparing import How, Sides, compare_sides
from inferload.studies.differences import gate_from_text
from inferload.studies.records.files import load_study, save_study
from inferload.studies.slices.compare import run_slices
from inferload.studies.slices.cores import cores_of
from inferload.studies.slices.plan import SlicePlan, looks_at, timed, why_not

OPTIONS = RunOptions(duration_s=0.1, threads_per_call=1, warmup="fixed").checked()


@pytest.fixture(scope="module")
def spec():
    return il.run(lambda x: x, [torch.zeros(1)], calls=10).spec


class Machine:
    """Where time passes by slices alone; ``pace(s)`` is how fast it is then."""

    def __init__(self, pace=lambda _: 1.0, start_s=3.0):
        self.now_s = 0.0
        self.pace, self.start_s = pace, start_s
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now_s


class Side:
    """A bench of slices; ``call_s`` of each process that is started."""

    def __init__(self, machine: Machine, name: str, call_s, spec):
        self._machine, self._name, self._call_s, self._spec = machine, name, call_s, spec
        self._own_s = 0.0
        self.started = 0

    def begin_opening(self, settings, options, cpus, observer):
        self._machine.log.append(f"open {self._name}")
        self._own_s = self._call_s(self.started)
        self.started += 1

    def opened(self, observer):
        self._machine.now_s += self._machine.start_s / 2
        return SimpleNamespace(spec=self._spec, environment={"cpu": "x"}, warnings=())

    def slice(self, seconds, warmup_calls, observer):
        self._machine.log.append(self._name)
        call_s = self._own_s / self._machine.pace(self._machine.now_s)
        calls = max(round(seconds / call_s), 1)
        started = (np.arange(calls) * call_s * 1e9).astype(np.int64)
        found = Slice.of(
            int(self._machine.now_s * 1e9),
            np.zeros(calls, np.int64),
            np.ones(calls, np.int64),
            started,
            started + int(call_s * 1e9),
        )
        self._machine.now_s += calls * call_s
        return found

    def close(self):
        self._machine.log.append(f"close {self._name}")


class Told:
    def __init__(self):
        self.texts: list[str] = []

    def stage(self, text):
        self.texts.append(text)

    def progress(self, calls, elapsed_s):
        pass

    begins = found = stage


def compared(spec, a_s, b_s, machine=None, done=None, keep=lambda _: None, **plan):
    machine = machine or Machine()
    benches = {
        side: Side(machine, side, call_s if callable(call_s) else lambda _, s=call_s: s, spec)
        for side, call_s in (("a", a_s), ("b", b_s))
    }
    given = {"a": "A", "b": "B", "asked": {}, "options": {"a": OPTIONS, "b": OPTIONS}} | plan
    found = run_slices(
        SlicePlan(**given),
        benches,
        Told(),
        outputs=lambda: (True, "the same on 1 input"),
        done=done,
        keep=keep,
        clock=machine.clock,
    )
    return found, machine


def figures(found):
    return {one.figure: one for one in found.differences}


def test_slices_find_what_a_side_takes_whatever_the_machine_does(spec):
    """It is at 0.6 of its pace for seconds at a time, which whole runs would meet by chance."""
    states = np.random.default_rng(3).choice([1.0, 0.6], 100)
    machine = Machine(lambda now_s: states[int(now_s / 2.3) % 100])
    found, _ = compared(spec, 0.001, 0.00105, machine)
    rate = figures(found)["throughput"]
    assert rate.ratio == pytest.approx(1 / 1.05, rel=0.002)
    assert rate.verdict == "slower"
    assert rate.high - rate.low < 0.01
    assert figures(found)["p50"].ratio == pytest.approx(1.05, rel=0.002)
    assert found.status == "complete"
    assert found.outputs == "the same on 1 input"


def test_sides_are_called_in_random_order_within_each_pair_of_slices(spec):
    found, machine = compared(spec, 0.001, 0.001)
    for pair in found.slices:
        assert set(pair.order) == {"a", "b"}
    calls = [one for one in machine.log if one in {"a", "b"}]
    pairs = list(zip(calls[::2], calls[1::2], strict=True))
    assert all(set(pair) == {"a", "b"} for pair in pairs)
    assert machine.log.count("open a") == machine.log.count("close a") == len(found.slices)
    assert len({pair.order for pair in found.slices}) > 1


def test_equals_are_not_told_apart(spec):
    found, _ = compared(spec, 0.001, 0.001)
    assert {one.verdict for one in found.differences} == {"no difference found"}


def test_what_processes_differ_by_is_in_the_interval(spec):
    """One layout in memory is 3 % slower than another: slices within a process do not see it."""
    rng = np.random.default_rng(8)
    found, _ = compared(
        spec,
        lambda _: 0.001 * math.exp(0.03 * rng.standard_normal()),
        lambda _: 0.001 * math.exp(0.03 * rng.standard_normal()),
    )
    rate = figures(found)["throughput"]
    assert rate.high / rate.low > 1.02
    assert rate.verdict == "no difference found"


def test_a_comparison_takes_its_time_and_no_more(spec):
    found, machine = compared(spec, 0.001, 0.001, time_limit_s=60.0)
    assert 50 < machine.now_s < 63
    assert len(found.slices) >= 6
    assert sum(pair.took_s for pair in found.slices) == pytest.approx(machine.now_s)
    few, _ = compared(spec, 0.001, 0.001, process_pairs=7)
    assert len(few.slices) == 7


@pytest.mark.parametrize(("call_s", "calls"), [(0.001, 100), (0.02, 20), (3.0, 1)])
def test_slices_are_as_long_as_twenty_calls_where_that_is_possible(spec, call_s, calls):
    found, _ = compared(spec, call_s, call_s)
    pair = found.slices[0]
    assert pair.slice_s / call_s >= calls * 0.999
    assert len(pair.order) >= 4


def test_enough_is_enough(spec):
    found, machine = compared(spec, 0.001, 0.00102, precision=0.02, time_limit_s=300.0)
    assert len(found.slices) == 6
    assert machine.now_s < 250
    assert found.ended.startswith("throughput is known to ±")


@pytest.mark.parametrize(
    ("b_s", "gate", "what"),
    [
        (0.00110, "p50 +5%", "crossed"),
        (0.00101, "p50 +5%", "kept"),
        (0.00105, "p50 +5%", "cannot tell"),
        (0.00110, "throughput -5%", "crossed"),
        (0.00102, "throughput -5%", "kept"),
        (0.00110, "p9999 +5%", "cannot tell"),
    ],
)
def test_gates_are_crossed_kept_or_not_told(spec, b_s, gate, what):
    rng = np.random.default_rng(2)
    found, _ = compared(
        spec,
        lambda _: 0.001 * math.exp(0.005 * rng.standard_normal()),
        b_s,
        gates=(gate_from_text(gate),),
    )
    assert [judged for _, judged in found.gates] == [what]
    assert found.untold == ((gate_from_text(gate),) if what == "cannot tell" else ())
    if what != "cannot tell":
        assert found.ended == "every gate was decided"
        assert len(found.slices) == 6
    elif gate.startswith("p50"):
        assert found.needs_s > sum(pair.took_s for pair in found.slices)


def test_a_gate_is_not_kept_by_a_side_that_fails_more(spec):
    class Failing(Side):
        def slice(self, *more):
            found = super().slice(*more)
            return Slice(
                began_ns=found.began_ns,
                items_per_s=found.items_per_s,
                calls=found.calls,
                failed=1,
                buckets=found.buckets,
                counts=found.counts,
            )

    machine = Machine()
    plan = SlicePlan(
        a="A",
        b="B",
        asked={},
        options={"a": OPTIONS, "b": OPTIONS},
        gates=(gate_from_text("p50 +5%"),),
    )
    benches = {
        "a": Side(machine, "a", lambda _: 0.001, spec),
        "b": Failing(machine, "b", lambda _: 0.0009, spec),
    }
    found = run_slices(plan, benches, Told(), outputs=lambda: (True, "x"), clock=machine.clock)
    assert [what for _, what in found.gates] == ["cannot tell"]
    assert found.fails_more


def test_an_interrupted_comparison_goes_on(spec, tmp_path):
    kept = []

    def interrupted(study):
        kept.append(study)
        if len(kept) == 3:
            raise KeyboardInterrupt

    with pytest.raises(il.StudyInterrupted, match="after 3 pairs of processes") as caught:
        compared(spec, 0.001, 0.00105, keep=interrupted)
    save_study(caught.value.study, tmp_path / "c.json")
    done = load_study(tmp_path / "c.json")
    assert done.status == "interrupted"
    assert not done.differences
    found, machine = compared(spec, 0.001, 0.00105, done=done)
    assert found.slices[:3] == done.slices
    assert machine.log.count("open a") == len(found.slices) - 3
    assert figures(found)["p50"].verdict == "slower"


def test_a_side_that_fails_says_which_and_leaves_no_process(spec):
    class Broken(Side):
        def slice(self, *_):
            raise il.CallError("it raised")

    machine = Machine()
    plan = SlicePlan(a="one", b="two", asked={}, options={"a": OPTIONS, "b": OPTIONS})
    benches = {
        "a": Side(machine, "a", lambda _: 0.001, spec),
        "b": Broken(machine, "b", lambda _: 0.001, spec),
    }
    with pytest.raises(il.CallError, match="B, two: it raised"):
        run_slices(plan, benches, Told(), outputs=lambda: (True, "x"), clock=machine.clock)
    assert machine.log[-2:] == ["close a", "close b"]


def test_looks_and_time_are_planned_by_what_starting_takes():
    assert looks_at(6) == (6,)
    assert looks_at(13) == (6, 8, 10, 13)
    plan = SlicePlan(a="A", b="B", asked={}, options={}, precision=0.01, time_limit_s=120.0)
    quick, slow = timed(plan, 1.0, 0.001, None), timed(plan, 10.0, 0.001, None)
    assert quick.pairs > slow.pairs >= 6
    assert quick.looks[-1] == quick.pairs
    assert timed(plan, 1.0, 0.001, 0.08).slice_s == pytest.approx(0.04)
    assert timed(plan, 1.0, 0.001, 10.0).slice_s == 0.1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, None),
        ({"load": il.ClosedLoop(callers=4)}, None),
        ({"processes": 1}, None),
        ({"processes": 2}, "several processes"),
        ({"load": il.OpenLoop.constant(100)}, "open loop"),
        ({"load": il.ClosedLoop(callers=2, clients=4)}, "queue"),
        ({"batching": il.Batching(max_batch=4)}, "queue"),
        ({"verify": True}, "verified"),
        ({"of_server": True}, "server"),
    ],
)
def test_calls_that_have_no_slices_are_made_in_whole_runs(options, why):
    found = why_not([RunOptions(duration_s=1.0, **options)])
    assert found is None if why is None else why in found


def test_both_sides_are_held_to_the_same_cores_where_these_are_known(monkeypatch):
    from inferload.plan.cores import Cpu

    cpus = [Cpu(node=0, core=(0, n // 2), number=n) for n in range(8)]
    monkeypatch.setattr("inferload.studies.slices.cores.usable_cpus", lambda: cpus)
    rng = np.random.default_rng(1)

    def of(callers, threads, **more):
        one = RunOptions(
            calls=1, threads_per_call=threads, load=il.ClosedLoop(callers=callers), **more
        )
        return cores_of(one, one, rng)

    assert {of(1, 1) for _ in range(40)} == {((n, n + 1),) for n in (0, 2, 4, 6)}
    assert of(4, 1) == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert of(1, 4) == (tuple(range(8)),)
    assert of(5, 1) == of(1, None) == of(1, 1, pin="numa") == ()


@pytest.mark.parametrize(
    "error",
    [
        il.PlanError("B: CUDA out of memory. Tried to allocate 40 GiB"),
        il.TargetCrashed("the process of the run was ended by SIGKILL (Killed)"),
    ],
)
def test_models_that_have_no_room_at_once_are_compared_by_whole_runs(spec, error):
    class TooLarge(Side):
        def opened(self, observer):
            raise error

    class Runs:
        def run(self, settings, options, observer):
            return il.run(lambda x: x, [torch.zeros(1)], calls=50, warmup_calls=1)

    machine = Machine()
    sides = Sides(names={"a": "A", "b": "B"}, options={"a": OPTIONS, "b": OPTIONS}, asked={})
    found = compare_sides(
        sides,
        How(time_limit_s=60.0),
        Told(),
        benches=lambda: {"a": Runs(), "b": Runs()},
        sliced=lambda: {
            "a": Side(machine, "a", lambda _: 0.001, spec),
            "b": TooLarge(machine, "b", lambda _: 0.001, spec),
        },
        outputs=lambda: (True, "the same"),
    )
    assert not found.slices
    assert len(found.runs) == 20
    assert found.why_runs == "both models at once have no room in memory"


def test_a_model_that_fails_for_another_reason_fails(spec):
    class Broken(Side):
        def opened(self, observer):
            raise il.PlanError("there is no such thing")

    machine = Machine()
    sides = Sides(names={"a": "A", "b": "B"}, options={"a": OPTIONS, "b": OPTIONS}, asked={})
    benches = {side: Broken(machine, side, lambda _: 0.001, spec) for side in "ab"}
    with pytest.raises(il.PlanError, match="A, A: there is no such thing"):
        compare_sides(
            sides,
            How(),
            Told(),
            benches=dict,
            sliced=lambda: benches,
            outputs=lambda: (True, "the same"),
        )
