"""What is left of tuning is called by slices in turn with the default, where that can be."""

from __future__ import annotations

import pytest
import torch

import inferload as il
from inferload.errors import InferloadError
from inferload.records.figures import SetUp
from inferload.stats.limits.limit import Limit
from inferload.studies.records.endings import StudyInterrupted
from support.sliced_sides import Machine, Side
from support.tune_bench import Bench, drawn, plan, rate, tuned


@pytest.fixture(scope="module")
def spec():
    return il.run(lambda x: x, [torch.zeros(1)], calls=10).spec


class Sides:
    """What makes slices: calls of the default take 10 ms, and of what is left 8 ms."""

    def __init__(self, spec, other_s=0.008, side=Side):
        self.machine, self.spec, self.side = Machine(), spec, side
        self.call_s = {"a": 0.010, "b": other_s}

    def __call__(self):
        return {
            side: self.side(self.machine, side, lambda _, s=call_s: s, self.spec)
            for side, call_s in self.call_s.items()
        }


def tuned_by(sides, made=None, bench=None, **more):
    bench = bench or Bench(rate)
    clock = lambda: bench.now + sides.machine.now_s  # noqa: E731 - both make time pass
    return tuned(made or plan(), bench, sliced=sides, clock=clock, **more)


def test_the_margin_comes_from_pairs_of_fresh_processes(spec):
    sides = Sides(spec)
    found = tuned_by(sides)
    assert len(found.margin.slices) >= 6
    assert sides.machine.log.count("open b") == len(found.margin.slices)
    throughput = found.margin.differences[0]
    assert throughput.ratio == pytest.approx(10 / 8, rel=0.01)
    assert throughput.verdict == "faster"
    assert found.best == found.confirmations[0].settings
    assert "pairs of fresh processes, called by slices in turn" in drawn(found)


def test_what_makes_no_more_by_slices_is_not_the_best(spec):
    found = tuned_by(Sides(spec, other_s=0.010))
    assert found.best == found.default
    assert "nothing that was tried makes more beyond noise" in found.reason


def slow_to_start(result, _):
    result.set_up = SetUp(
        prepare_s=60.0, open_s=0.1, first_call_ms=1.0, first_ten_ms=(), log_bytes=0
    )
    return result


class Full(Side):
    def opened(self, observer):
        raise InferloadError("there is no room")


@pytest.mark.parametrize(
    ("more", "dressed", "side", "said"),
    [
        (
            {"limits": (Limit.from_text("p99<=1s"),)},
            None,
            Side,
            "whether limits are kept is seen in whole runs",
        ),
        ({}, slow_to_start, Side, "its form takes 60.0 s to make, in each fresh process"),
        ({}, None, Full, "slices failed: A, default (1 caller): there is no room"),
    ],
)
def test_where_there_are_no_slices_whole_runs_are_made_and_the_report_says_why(
    spec, more, dressed, side, said
):
    bench = Bench(rate)
    bench.dressed = dressed or bench.dressed
    found = tuned_by(Sides(spec, side=side), plan(**more), bench)
    assert found.margin.slices == ()
    assert found.margin.why_runs == said
    assert said in drawn(found)
    assert found.margin.differences[0].pairs == 10


def test_slices_that_were_interrupted_go_on(spec):
    class Stops(Side):
        def slice(self, seconds, warmup_calls, observer):
            if self.started == 3:
                raise KeyboardInterrupt
            return super().slice(seconds, warmup_calls, observer)

    with pytest.raises(StudyInterrupted) as interrupt:
        tuned_by(Sides(spec, side=Stops))
    half = interrupt.value.study
    assert len(half.confirmations[0].margin.slices) == 2
    sides = Sides(spec)
    found = tuned_by(sides, done=half)
    assert found.margin.slices[:2] == half.confirmations[0].margin.slices
    assert sides.machine.log.count("open b") == len(found.margin.slices) - 2
