"""How comparisons by slices spend their time, on which cores, and what has no slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inferload as il
from inferload.plan.cores import Cpu
from inferload.plan.options import RunOptions
from inferload.stats.slices.judging import judged_together
from inferload.studies.differences import gate_from_text
from inferload.studies.slices.compare import run_slices
from inferload.studies.slices.cores import cores_of
from inferload.studies.slices.gates import judged_gates, pairs_needed
from inferload.studies.slices.plan import Known, SlicePlan, looks_at, timed, why_not
from inferload.studies.slices.sides import How, Sides, compare_sides
from support.sliced_sides import OPTIONS, Machine, Side, Told


@pytest.fixture(scope="module")
def spec():
    return il.run(lambda x: x, [torch.zeros(1)], calls=10).spec


def test_looks_and_time_are_planned_by_what_starting_takes():
    assert looks_at(6) == (6,)
    assert looks_at(13) == (6, 8, 10, 13)
    plan = SlicePlan(a="A", b="B", asked={}, options={}, precision=0.01, time_limit_s=120.0)
    quick, slow = (timed(plan, Known(start_s=one, call_s=0.001)) for one in (1.0, 10.0))
    assert quick.pairs > slow.pairs >= 6
    assert quick.looks[-1] == quick.pairs
    for state_s, slice_s in ((0.08, 0.04), (10.0, 0.1)):
        known = Known(start_s=1.0, call_s=0.001, state_s=state_s)
        assert timed(plan, known).slice_s == pytest.approx(slice_s)


def test_time_is_planned_anew_where_the_first_start_took_longer_than_those_after_it(spec):
    """It may have compiled what the others find; of a minute nothing else would be left."""
    machine = Machine()

    class Compiling(Side):
        def opened(self, observer):
            machine.now_s += 30.0 if self.started == 1 else 0.0
            return super().opened(observer)

    benches = {
        "a": Compiling(machine, "a", lambda _: 0.001, spec),
        "b": Side(machine, "b", lambda _: 0.001, spec),
    }
    plan = SlicePlan(a="A", b="B", asked={}, options={"a": OPTIONS, "b": OPTIONS})
    found = run_slices(plan, benches, Told(), outputs=lambda: (True, "x"), clock=machine.clock)
    assert len(found.slices) >= 8  # by the first start it would be 6
    assert len(found.slices[1].order) > len(found.slices[0].order)
    assert machine.now_s < 125


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


class Runs:
    """A bench of whole runs."""

    def __init__(self):
        self.made = 0

    def run(self, settings, options, observer):
        self.made += 1
        if self.made == 3:
            raise KeyboardInterrupt
        return il.run(lambda x: x, [torch.zeros(1)], calls=50, warmup_calls=1)


def test_whole_runs_for_want_of_room_go_on_where_they_were_interrupted(spec):
    class TooLarge(Side):
        def opened(self, observer):
            raise il.PlanError("CUDA out of memory")

    machine = Machine()
    sides = Sides(names={"a": "A", "b": "B"}, options={"a": OPTIONS, "b": OPTIONS}, asked={})
    runs, opened = Runs(), []

    def again(done):
        opened.append(done)
        return compare_sides(
            sides,
            How(pairs=12),
            Told(),
            benches=lambda: {"a": runs, "b": runs},
            sliced=lambda: {s: TooLarge(machine, s, lambda _: 0.001, spec) for s in "ab"},
            outputs=lambda: (True, "the same"),
            done=done,
        )

    with pytest.raises(il.StudyInterrupted, match="after 2 of 24 runs") as caught:
        again(None)
    found = again(caught.value.study)
    assert runs.made == 25  # one of them was interrupted
    assert len(found.runs) == 24
    assert machine.log.count("open a") == 1  # that there is no room is known


def test_how_many_pairs_a_gate_needs_is_by_the_level_that_it_is_judged_at():
    gates = [gate_from_text(one) for one in ("p50 +5%", "p90 +0%", "p99 +0%")]
    logs = {"p50": [0.0700, 0.0740, 0.1010, 0.0500, 0.0850, 0.1000]}
    ratio = judged_together(logs)["p50"]
    assert ratio.low > 1.05
    (first, what), *others = judged_gates(gates[:1] + gates[1:], {"p50": ratio})
    alone = judged_gates(gates[:1], {"p50": ratio})
    assert (alone[0][1], what) == ("crossed", "crossed")
    assert [one for _, one in others] == ["cannot tell"] * 2
    assert pairs_needed(first, ratio, 0.05) <= 6 < pairs_needed(first, ratio, 0.0005)
    assert pairs_needed(gates[1], None, 0.05) is None


def test_slow_models_are_planned_with_what_their_calls_take():
    plan = SlicePlan(a="A", b="B", asked={}, options={}, time_limit_s=60.0)
    slow = timed(plan, Known(start_s=4.0, call_s=2.0))
    assert (slow.slices, slow.pairs) == (4, 6)
    assert slow.slice_s == 2.0
    middling = timed(plan, Known(start_s=2.0, call_s=0.1))
    each_s = 2 * (middling.slice_s + 0.05)
    assert 6 * (2.0 + middling.slices * each_s) < 70
