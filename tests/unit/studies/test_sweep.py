"""What a sweep runs, in which order, and what it makes of what comes back."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

import inferload as il
from inferload.plan.options import RunOptions
from inferload.records.distribution import Estimate
from inferload.report.text.studies.sweeps import study_report
from inferload.studies.keeping import StudyKeeper
from inferload.studies.records.files import load_study, save_study
from inferload.studies.records.settings import Settings
from inferload.studies.sweep.plan import SweepPlan
from inferload.studies.sweep.points import middle
from inferload.studies.sweep.sweeper import run_sweep

ASKED = {"model": "m.py"}


class Heard:
    """An observer who remembers."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.said: list[str] = []

    def stage(self, text: str) -> None:
        pass

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        pass

    def begins(self, text: str) -> None:
        self.begun.append(text)

    def found(self, text: str) -> None:
        self.said.append(text)


class Bench:
    """Makes results out of one real one; ``fails`` says what to raise for settings."""

    def __init__(self, result: il.RunResult, rates, fails=lambda _: None) -> None:
        self.result, self.rates, self.fails = result, rates, fails
        self.made: list[Settings] = []

    def run(self, settings, options, observer) -> il.RunResult:
        self.made.append(settings)
        if (error := self.fails(settings)) is not None:
            raise error
        value = self.rates(settings, len(self.made))
        rate = Estimate(value=value, low=0.9 * value, high=1.1 * value, method="made up")
        spec = replace(
            self.result.spec,
            callers=settings.callers or 1,
            threads_per_call=settings.threads_per_call or 1,
        )
        summary = replace(
            self.result.summary, throughput_calls_per_s=rate, throughput_items_per_s=rate
        )
        environment = self.result.environment | {"usable_cores": 2}
        return replace(self.result, spec=spec, summary=summary, environment=environment)


@pytest.fixture(scope="module")
def result() -> il.RunResult:
    import torch

    return il.run(lambda x: x, [torch.zeros(1)], calls=1000)


def plan(axes=None, **options) -> SweepPlan:
    axes = {"callers": (1, 2, 4)} if axes is None else axes
    given = {"blocks": 3, "options": RunOptions(calls=10)} | options
    return SweepPlan(target="m.py", asked=ASKED, axes=axes, **given)


def test_every_block_has_each_point_once_in_an_order_of_its_own():
    made = plan({"callers": tuple(range(1, 9))}, blocks=4)
    orders = [[s.callers for b, s in made.order if b == block] for block in range(4)]
    assert all(sorted(order) == list(range(1, 9)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert made.order == plan({"callers": tuple(range(1, 9))}, blocks=4).order  # seeded


def test_two_axes_give_every_combination():
    made = plan({"callers": (1, 2), "form": ("eager", "script"), "threads_per_call": (1,)})
    assert [str(one) for one in made.points] == [
        "1 caller, 1 thread a call, form eager",
        "1 caller, 1 thread a call, form script",
        "2 callers, 1 thread a call, form eager",
        "2 callers, 1 thread a call, form script",
    ]


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"callers": (3,)}, "needs two points or more"),
        ({}, "needs two points or more"),
        ({"callers": (1, 2), "processes": (1, 2), "form": ("eager", "script")}, "one thing or two"),
        ({"callers": (1, 1)}, "callers 1, 1 name a value twice"),
        ({"callers": (0, 1)}, "callers is 0"),
        ({"threads_per_call": (1, 5000)}, "threads_per_call is 5000"),
        ({"callers": tuple(range(1, 41)), "processes": tuple(range(1, 41))}, "1,600 points"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_runs(axes, says):
    with pytest.raises(il.PlanError, match=says):
        plan(axes)


def test_points_are_medians_of_blocks_with_the_range_of_their_intervals(result):
    # the third run of a point is far off, as on a machine with neighbours
    seen: dict[int, int] = {}

    def rates(settings, _):
        seen[settings.callers] = seen.get(settings.callers, 0) + 1
        return 100.0 * settings.callers * (1, 1.02, 5)[seen[settings.callers] - 1]

    observer = Heard()
    study = run_sweep(plan(), Bench(result, rates), observer)
    assert study.status == "complete"
    assert [one.throughput_calls_per_s.value for one in study.points] == [102, 204, 408]
    first = study.points[0].throughput_calls_per_s
    assert (first.low, first.high) == (90, 550)
    assert [one.cores for one in study.points] == [1, 2, 2]
    assert [one.efficiency_fraction for one in study.points] == pytest.approx([0.5, 0.5, 1])
    assert study.peak.settings.callers == 4
    assert study.drift_fraction == pytest.approx(4)
    assert [one.code for one in study.warnings] == ["drift"]
    assert observer.begun[0].startswith("run 1 of 9: ")
    assert "left: " in observer.begun[1]
    assert len(observer.said) == 9


def test_runs_that_failed_before_an_interruption_are_made_again(result):
    def fails(settings):
        return il.CallError("typo") if settings.callers == 2 else None

    broken = run_sweep(plan(), Bench(result, lambda *_: 100.0, fails), Heard())
    mended = Bench(result, lambda *_: 200.0)
    study = run_sweep(plan(), mended, Heard(), done=replace(broken, status="interrupted"))
    assert [one.callers for one in mended.made] == [2, 2, 2]
    assert [one.runs for one in study.points] == [3, 3, 3]
    assert [one.block for one in study.runs] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert not study.warnings


def test_a_law_of_open_loops_is_not_fitted(result):
    axes = {"callers": (1, 2, 3, 4, 5, 6), "rate_per_s": (100.0,)}
    study = run_sweep(plan(axes), Bench(result, lambda *_: 100.0), Heard())
    assert (study.usl, study.no_usl) == (None, None)


def test_a_file_that_cannot_be_written_loses_no_study(result, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    keeper = StudyKeeper(folder / "s.json", il.Sweep, ASKED)
    folder.rmdir()
    study = run_sweep(plan(), Bench(result, lambda *_: 1.0), Heard(), keep=keeper.keep)
    assert study.status == "complete"
    why = "the folder does not exist; make it"
    assert keeper.trouble == f"{folder / 's.json'} could not be written: {why}"


def test_large_figures_and_two_axes_fit_the_width(result):
    axes = {"callers": (1, 12), "batch_size": (1, 1024)}
    response = replace(
        result.summary.response_ms,
        p50=Estimate(value=0.000123, method=""),
        p99=Estimate(value=123.4, method=""),
    )
    result = replace(result, summary=replace(result.summary, response_ms=response))
    study = run_sweep(plan(axes), Bench(result, lambda *_: 12_345_678.0), Heard())
    text = drawn(study)
    assert "12,345,678" in text
    assert "…" not in text


def test_the_median_of_an_even_number_is_one_that_was_measured():
    values = [Estimate(value=v, method="") for v in (4.0, 1.0, 3.0, 2.0)]
    assert middle(values).value == 2
    assert middle([*values, None]) is None
    assert middle([]) is None
    assert middle(values[:1]) is values[0]


def test_a_point_that_fails_leaves_the_others(result):
    def fails(settings):
        return il.CallError("negative input") if settings.callers == 2 else None

    observer = Heard()
    study = run_sweep(plan(), Bench(result, lambda *_: 100.0, fails), observer)
    points = {one.settings.callers: one for one in study.points}
    assert points[2].throughput_calls_per_s is None
    assert (points[2].runs, points[2].tried, points[2].failure) == (0, 3, "negative input")
    assert points[1].runs == 3
    (warning,) = study.warnings
    assert warning.message == "3 of 9 runs failed; first 2 callers: negative input"
    shown = drawn(study)
    assert "a point that failed: negative input" in shown


def test_where_no_point_can_be_run_the_first_error_ends_the_sweep(result):
    bench = Bench(result, lambda *_: 1.0, lambda _: il.PlanError("there is no model file"))
    with pytest.raises(il.PlanError, match="there is no model file"):
        run_sweep(plan(), bench, Heard())
    assert len(bench.made) == 3  # one of each point


def test_a_sweep_that_was_interrupted_goes_on_where_it_ended(result, tmp_path):
    path = tmp_path / "s.json"
    made = plan()

    def fails(_):
        return KeyboardInterrupt() if len(bench.made) == 5 else None

    bench = Bench(result, lambda s, _: 100.0 * s.callers, fails)
    keeper = StudyKeeper(path, il.Sweep, ASKED)
    with pytest.raises(il.StudyInterrupted, match="after 4 of 9 runs") as caught:
        run_sweep(made, bench, Heard(), done=keeper.done, keep=keeper.keep)
    assert len(caught.value.study.runs) == 4
    assert "interrupted after 4 runs" in drawn(il.load_study(path))

    keeper = StudyKeeper(path, il.Sweep, ASKED)
    rest = Bench(result, lambda s, _: 100.0 * s.callers)
    study = run_sweep(made, rest, Heard(), done=keeper.done, keep=keeper.keep)
    assert rest.made == [settings for _, settings in made.order[4:]]
    assert [one.runs for one in study.points] == [3, 3, 3]
    assert il.load_study(path).status == "complete"
    # one that is complete is made anew
    assert StudyKeeper(path, il.Sweep, ASKED).done is None


def test_an_interrupted_study_of_something_else_is_not_written_over(result, tmp_path):
    path = tmp_path / "s.json"
    study = run_sweep(plan(), Bench(result, lambda *_: 1.0), Heard())
    save_study(replace(study, status="interrupted"), path)
    for asked in ({"model": "other.py"}, {"model": "m.py", "callers": 3}):
        with pytest.raises(il.PlanError, match="interrupted study of something else"):
            StudyKeeper(path, il.Sweep, asked)
    with pytest.raises(il.PlanError, match="a study of another kind"):
        StudyKeeper(path, il.MaxRate, ASKED)


def drawn(study) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(study_report(study))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())


def test_a_study_is_the_same_when_it_is_read_again(result, tmp_path):
    axes = {"callers": (1, 2, 3, 4, 5, 6)}
    study = run_sweep(plan(axes), Bench(result, lambda s, n: 90.0 * s.callers + n), Heard())
    assert study.usl is not None
    path = tmp_path / "s.json"
    save_study(study, path)
    again = load_study(path)
    assert again.points == study.points
    assert again.usl == study.usl
    assert drawn(again) == drawn(study)
    assert "Universal Scalability Law: one makes" in drawn(study)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[:100], "is not JSON, or it is truncated"),
        (
            lambda text: text.replace("inferload sweep", "something"),
            "no sweep, search, tuning, comparison, forecast or explanation",
        ),
        (lambda text: text.replace('"schema_version":5', '"schema_version":9'), "version 9"),
        (lambda text: text.replace('"blocks":3', '"blocks":"x"'), r"damaged: study\.blocks"),
        (lambda text: text.replace('"blocks":3', '"blocks":NaN'), "is not JSON"),
    ],
)
def test_a_damaged_study_is_refused_with_a_reason(result, tmp_path, change, says):
    path = tmp_path / "s.json"
    save_study(run_sweep(plan(), Bench(result, lambda *_: 1.0), Heard()), path)
    text = path.read_text().replace('": ', '":')
    path.write_text(change(text))
    with pytest.raises(il.ResultFormatError, match=says):
        load_study(path)
    with pytest.raises(il.ResultFormatError, match="cannot be read"):
        load_study(tmp_path / "none.json")
