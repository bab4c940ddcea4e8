"""What is claimed of two sides, gates, and what cannot be compared."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

import inferload as il
from inferload.plan.options import RunOptions
from inferload.records.distribution import Estimate
from inferload.report.text.studies.sweeps import study_report
from inferload.studies.compare import ComparePlan, run_pairs
from inferload.studies.differences import gate_from_text, judged_gate, of_estimates
from inferload.studies.keeping import StudyKeeper
from inferload.studies.records.comparison import Difference
from inferload.studies.records.files import load_study, save_study


def estimate(value: float, half: float | None = 0.02) -> Estimate:
    if half is None:
        return Estimate(value=value, method="")
    return Estimate(value=value, low=value * (1 - half), high=value * (1 + half), method="")


def difference(figure: str, ratio: float, half: float = 0.02) -> Difference:
    return Difference(
        figure=figure, a=1.0, b=ratio, ratio=ratio, low=ratio - half, high=ratio + half,
        detectable_fraction=half,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "figure", "fraction", "shown"),
    [
        ("p99 +5%", "p99", 0.05, "p99 +5%"),
        ("throughput -3%", "throughput", -0.03, "throughput -3%"),
        ("p99.9+0.5", "p999", 0.5, "p99.9 +50%"),
        ("p50 +2.5%", "p50", 0.025, "p50 +2.5%"),
        ("throughput -0%", "throughput", 0.0, "throughput -0%"),
    ],
)
def test_gates_are_read_and_written(text, figure, fraction, shown):
    gate = gate_from_text(text)
    assert (gate.figure, gate.fraction, str(gate)) == (figure, fraction, shown)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("p99", "write for example"),
        ("p98 +5%", "write for example"),
        ("mean +5%", "write for example"),
        ("p99 -5%", r"about getting better: give how much worse p99 may become, such as p99 \+5%"),
        ("throughput +3%", "such as throughput -3%"),
        ("throughput -100%", "allows any throughput"),
        ("p99 +5", r"allows 500%: write for example p99 \+5%"),
        ("p99 +x", "fraction 'x' is not understood"),
    ],
)
def test_what_is_no_gate_is_refused_with_an_example(text, says):
    with pytest.raises(il.PlanError, match=says):
        gate_from_text(text)


@pytest.mark.parametrize(
    ("text", "figure", "ratio", "outcome"),
    [
        ("p99 +5%", "p99", 1.10, "crossed"),
        ("p99 +5%", "p99", 1.06, "cannot tell"),
        ("p99 +5%", "p99", 1.04, "cannot tell"),
        ("p99 +5%", "p99", 1.02, "kept"),
        ("throughput -3%", "throughput", 0.90, "crossed"),
        ("throughput -3%", "throughput", 0.96, "cannot tell"),
        ("throughput -3%", "throughput", 1.00, "kept"),
        ("p99 +5%", "p50", 2.00, "cannot tell"),  # p99 was not quoted
        ("p99 +0%", "p99", 1.03, "crossed"),
        ("p99 +0%", "p99", 0.97, "kept"),
        ("throughput -0%", "throughput", 0.97, "crossed"),
        ("throughput -0%", "throughput", 1.03, "kept"),
    ],
)
def test_a_gate_is_crossed_with_the_whole_interval(text, figure, ratio, outcome):
    assert judged_gate(gate_from_text(text), [difference(figure, ratio)]) == outcome


def test_a_claim_needs_an_interval_that_excludes_equality_and_more_than_a_percent():
    assert difference("p99", 1.03).verdict == "slower"
    assert difference("p99", 0.97).verdict == "faster"
    assert difference("throughput", 1.03).verdict == "faster"
    assert difference("throughput", 0.97).verdict == "slower"
    assert difference("p99", 1.015).verdict == "no difference found"
    assert difference("p99", 1.008, half=0.001).verdict == "no difference found"


def test_the_interval_of_a_ratio_comes_from_those_of_both():
    found = of_estimates("p99", estimate(10.0, 0.03), estimate(11.0, 0.04))
    assert found.ratio == pytest.approx(1.1)
    assert found.high / found.ratio == pytest.approx(1.0513, rel=1e-3)  # hypot(3 %, 4 %) of logs
    assert of_estimates("p99", None, estimate(1.0)) is None
    unknown = of_estimates("p99", estimate(10.0, None), estimate(20.0))
    assert (unknown.low, unknown.verdict) == (None, "no difference found")


def test_what_is_detectable_is_a_change_for_the_worse_that_would_be_claimed():
    quiet = of_estimates("p99", estimate(10.0, 1e-6), estimate(10.0, 1e-6))
    assert quiet.detectable_fraction == pytest.approx(0.01, rel=1e-3)  # within 1 % is no claim
    half = np.log(1.1)
    wide = Estimate(value=10.0, low=10.0 / 1.1, high=11.0, method="")
    exact = Estimate(value=10.0, low=10.0, high=10.0, method="")
    factor = np.exp(half * (1 + 0.8416 / 1.96))
    assert of_estimates("p99", wide, exact).detectable_fraction == pytest.approx(factor - 1)
    assert of_estimates("throughput", wide, exact).detectable_fraction == pytest.approx(
        1 - 1 / factor
    )


@pytest.fixture(scope="module")
def result() -> il.RunResult:
    return il.run(lambda x: x, [torch.zeros(1)], calls=1000)


def another(result: il.RunResult, **changes) -> il.RunResult:
    return replace(result, run_id="another", **changes)


def test_results_of_different_models_inputs_or_loads_are_refused(result):
    spec = result.spec
    for change, says in (
        ({"target": "Other"}, "results of different models cannot be compared"),
        ({"inputs": ("5:float32",)}, "their inputs differ"),
        ({"drain_s": 30.0, "rate_per_s": 5.0}, "their kind of load differ"),
    ):
        other = another(result, spec=replace(spec, **change))
        with pytest.raises(il.PlanError, match=says):
            il.compare(result, other)
    open_loop = replace(result, spec=replace(spec, drain_s=30.0, rate_per_s=5.0))
    faster = another(result, spec=replace(spec, drain_s=30.0, rate_per_s=6.0))
    with pytest.raises(il.PlanError, match=r"their rate differ \(5.0 and 6.0\)"):
        il.compare(open_loop, faster)
    with pytest.raises(il.PlanError, match="B is a run that interrupted: run it again"):
        il.compare(result, another(result, status="interrupted"))
    with pytest.raises(il.PlanError, match="A and B are one and the same run"):
        il.compare(result, result)
    with pytest.raises(il.PlanError, match="A is compared with one thing"):
        il.compare(result)
    with pytest.raises(il.PlanError, match="a result and a model"):
        il.compare(result, lambda x: x)
    with pytest.raises(il.PlanError, match="leave them out"):
        il.compare(result, result, [torch.zeros(1)])


def test_what_else_differs_is_told_first(result):
    environment = result.environment | {"cpu": "Another CPU", "torch": "2.6.0"}
    other = another(result, environment=environment, spec=replace(result.spec, threads_per_call=7))
    found = il.compare(result, other, gates=["p50 +5%", "throughput -3%"])
    assert found.unlike[0].endswith("-> Another CPU")
    assert any(one.endswith("-> 2.6.0") for one in found.unlike)
    assert found.unlike[-1] == f"threads per call: {result.spec.threads_per_call} -> 7"
    assert {one.verdict for one in found.differences} == {"no difference found"}
    assert found.differences[0].ratio == 1
    text = drawn(found)
    assert text.index("What else is different") < text.index("detectable")
    assert "What the machine did between the two runs is in no interval" in text


def test_a_summary_that_is_slower_crosses_its_gate(result, tmp_path):
    response = result.summary.response_ms
    slower = replace(response, p50=estimate(response.p50.value * 1.5))
    base = replace(response, p50=estimate(response.p50.value))
    sides = [
        replace(result, run_id=name, summary=replace(result.summary, response_ms=one))
        for name, one in (("a", base), ("b", slower))
    ]
    found = il.compare(*sides, gates="p50 +5%", save=tmp_path / "c.json")
    assert [gate.figure for gate in found.crossed] == ["p50"]
    (p50,) = [one for one in found.differences if one.figure == "p50"]
    assert p50.verdict == "slower"
    assert load_study(tmp_path / "c.json").differences == found.differences
    assert "gate p50 +5%: crossed, by the two runs' own intervals" in drawn(found)


def test_a_gate_that_says_nothing_says_why(result):
    bare = replace(result.summary.response_ms, p9999=None)
    summary = replace(result.summary, response_ms=bare)
    found = il.compare(
        replace(result, summary=summary), another(result, summary=summary), gates=["p99.99 +5%"]
    )
    text = drawn(found)
    assert "gate p99.99 +5%: cannot tell: p99.99 was not quoted" in text
    assert "p99.99 is left out: quoted in 0 of 2 runs" in text


def test_calls_that_fail_make_nothing_faster(result):
    failing = replace(result.summary, completed_calls=100, failed_calls=900)
    found = il.compare(
        result, another(result, summary=failing), gates=["p50 +5%", "throughput -50%"]
    )
    assert found.failed_fractions == (0.0, 0.9)
    assert found.fails_more
    assert {what for _, what in found.gates} == {"cannot tell"}
    text = drawn(found)
    assert "failed 0.00% of A's calls and 90.00% of B's" in text
    assert "not kept: more of B's calls fail" in text


class Bench:
    """Always the same result, with a median of its own."""

    def __init__(self, result: il.RunResult, p50: float, noise) -> None:
        self.result, self.p50, self.noise, self.made = result, p50, noise, 0
        self.fails = lambda: None
        self.changes: dict = {}
        self.inputs: tuple[str, ...] = ()

    def run(self, settings, options, observer) -> il.RunResult:
        if (error := self.fails()) is not None:
            raise error
        self.made += 1
        response = replace(
            self.result.summary.response_ms, p50=estimate(self.p50 * self.noise(self.made))
        )
        summary = replace(self.result.summary, response_ms=response, **self.changes)
        spec = replace(self.result.spec, inputs=self.inputs or self.result.spec.inputs)
        return replace(self.result, summary=summary, spec=spec)


class Quiet:
    def stage(self, text):
        pass

    progress = begins = found = stage


def plan(**options) -> ComparePlan:
    return ComparePlan(a="A", b="B", asked={"a": 1}, options=RunOptions(calls=10), **options)


def test_sides_alternate_and_the_machine_s_drift_is_no_difference(result):
    made = plan()
    assert made.order[:8] == list("abbaabba")
    # the machine is 3 % slower with every run; B takes 10 % longer
    drift = iter(1.03**n for n in range(100))
    a, b = Bench(result, 1.0, lambda _: next(drift)), Bench(result, 1.1, lambda _: next(drift))
    found = run_pairs(made, {"a": a, "b": b}, Quiet(), outputs=lambda: (False, "differ"))
    (p50,) = [one for one in found.differences if one.figure == "p50"]
    assert (p50.pairs, p50.verdict) == (10, "slower")
    assert p50.low < 1.1 < p50.high
    assert (found.outputs, found.outputs_alike) == ("differ", False)
    assert (a.made, b.made) == (10, 10)
    text = drawn(found)
    assert "outputs differ" in text
    assert "B is slower: p50 +10.0%" in text


def test_a_side_that_cannot_be_compared_ends_it_by_name(result):
    a, b = (Bench(result, 1.0, lambda _: 1.0) for _ in range(2))
    b.inputs = ("7:float32",)
    with pytest.raises(il.PlanError, match=r"called with different inputs \(.*; 7:float32\)"):
        run_pairs(plan(), {"a": a, "b": b}, Quiet(), outputs=lambda: (True, "same"))
    b.inputs, b.changes = (), {"completed_calls": 0, "failed_calls": 10}
    with pytest.raises(il.InferloadError, match="B, B: every call failed"):
        run_pairs(plan(), {"a": a, "b": b}, Quiet(), outputs=lambda: (True, "same"))
    b.fails = lambda: il.CallError("worn out")
    with pytest.raises(il.CallError, match="B, B: worn out"):
        run_pairs(plan(), {"a": a, "b": b}, Quiet(), outputs=lambda: (True, "same"))


def test_one_disturbed_run_widens_the_interval_and_signed_ranks_say_so(result):
    a = Bench(result, 1.0, lambda n: 3.0 if n == 3 else 1.0 + 0.001 * n)
    b = Bench(result, 1.1, lambda n: 1.0 + 0.0013 * n)
    found = run_pairs(plan(pairs=20), {"a": a, "b": b}, Quiet(), outputs=lambda: (True, "same"))
    (p50,) = [one for one in found.differences if one.figure == "p50"]
    assert p50.verdict == "no difference found"
    assert p50.p_signed_rank < 0.05
    assert "p50: by signed ranks (Wilcoxon, p = 0.0" in drawn(found)
    assert "there may be a difference" in drawn(found)


def test_warnings_of_the_runs_are_told_once_with_how_many(result):
    a, b = (Bench(result, 1.0, lambda _: 1.0) for _ in range(2))
    warning = il.RunWarning(code="steal", message="stolen", hint="another machine")
    a.result = replace(result, warnings=(warning,))
    b.result = replace(result, warnings=())
    found = run_pairs(plan(), {"a": a, "b": b}, Quiet(), outputs=lambda: (True, "same"))
    assert "in 10 of 20 runs: stolen [steal]" in drawn(found)


def test_fewer_than_ten_pairs_are_refused():
    with pytest.raises(il.PlanError, match="pairs is 9"):
        plan(pairs=9)


def test_a_comparison_that_was_interrupted_goes_on(result, tmp_path):
    path = tmp_path / "c.json"
    a, b = Bench(result, 1.0, lambda _: 1.0), Bench(result, 1.0, lambda _: 1.0)
    a.fails = lambda: KeyboardInterrupt() if a.made == 5 else None
    keeper = StudyKeeper(path, il.Comparison, {"a": 1})
    with pytest.raises(il.StudyInterrupted, match="after 11 of 20 runs"):
        run_pairs(
            plan(), {"a": a, "b": b}, Quiet(), outputs=lambda: (True, "the same"), keep=keeper.keep
        )
    assert "no figures to compare yet" in drawn(load_study(path))
    keeper = StudyKeeper(path, il.Comparison, {"a": 1})
    a.fails = lambda: None
    found = run_pairs(
        plan(), {"a": a, "b": b}, Quiet(), outputs=lambda: 1 / 0, done=keeper.done, keep=keeper.keep
    )
    assert (a.made, b.made) == (10, 10)
    assert (found.status, found.outputs) == ("complete", "the same")
    save_study(found, path)
    assert drawn(load_study(path)) == drawn(found)


def drawn(study) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(study_report(study))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())
