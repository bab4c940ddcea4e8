"""Comparisons by slices: pairs of processes, when they are enough, and what they come to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import inferload as il
from inferload.stats.slices.slice import Slice
from inferload.studies.differences import gate_from_text
from inferload.studies.records.files import load_study, save_study
from inferload.studies.slices.compare import run_slices
from inferload.studies.slices.plan import SlicePlan
from support.sliced_sides import OPTIONS, Machine, Side, Told, compared, figures


@pytest.fixture(scope="module")
def spec():
    return il.run(lambda x: x, [torch.zeros(1)], calls=10).spec


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


@pytest.mark.parametrize(
    ("failed", "verdict"), [({"a": 0, "b": 1}, "cannot tell"), ({"a": 3, "b": 3}, "kept")]
)
def test_a_gate_is_not_kept_by_a_side_that_fails_more(spec, failed, verdict):
    seen = []

    class Failing(Side):
        def slice(self, *more):
            found = super().slice(*more)
            seen.append(self._name)
            first = self._name == "b" and seen.count("b") == 1
            return Slice(
                began_ns=found.began_ns,
                items_per_s=found.items_per_s,
                calls=found.calls,
                failed=failed[self._name] + first,  # one more in all may be chance
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
        "a": Failing(machine, "a", lambda _: 0.001, spec),
        "b": Failing(machine, "b", lambda _: 0.0009, spec),
    }
    found = run_slices(plan, benches, Told(), outputs=lambda: (True, "x"), clock=machine.clock)
    assert [what for _, what in found.gates] == [verdict]
    assert found.fails_more == (verdict == "cannot tell")


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
