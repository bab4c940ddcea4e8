"""Stages of calls on a device: in logs, raw and counted, in figures, and what a report says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import result_of

import inferload as il
from inferload.callers.device_work import timed_one_in
from inferload.log import merge as merging
from inferload.log.calls import COLUMNS, NO_STAGE, CallLog
from inferload.log.calls import DEVICE_STAGES as STAGES
from inferload.log.merge import LogPlace
from inferload.log.ring import LogFile
from inferload.log.saved import read_log, write_log
from inferload.log.tally import Tally
from inferload.plan.model import FORMS
from inferload.records.devices import DeviceFigures, StageFigures
from inferload.report.text.devices import diagnosis, stages_table
from inferload.report.text.run import plain_text
from inferload.stats.summary import summarize

MS = 1_000_000


def log_of(calls: int = 1000, *, stages: tuple[str, ...] = STAGES) -> CallLog:
    """Calls one after another of 10 ms; issue 2, copy in 1, device 5, copy out 1 ms, and a bit."""
    number = np.arange(calls, dtype=np.int64)
    started = number * 11 * MS
    columns = {
        "scheduled_ns": started,
        "started_ns": started,
        "finished_ns": started + 10 * MS,
        "caller": number % 2,
        "input": number % 3,
        "error": np.full(calls, -1),
    }
    own = {"issue_ns": 2 * MS, "device_ns": 5 * MS, "copy_in_ns": MS, "copy_out_ns": MS}
    columns |= {name: own[name] + number for name in stages}
    dtypes = {**COLUMNS, **dict.fromkeys(STAGES, np.int64)}
    return CallLog.of(
        {name: column.astype(dtypes[name]) for name, column in columns.items()}, open_loop=False
    )


def test_the_figures_of_stages_are_those_of_their_columns():
    found = summarize(log_of(), (1, 1, 1)).stages
    assert found.issue_ms.p50.value == pytest.approx(2 + 499e-6)
    assert found.wait_ms.p50.value == pytest.approx(8 - 500e-6)
    assert found.issue_ms.mean + found.wait_ms.mean == pytest.approx(10)
    assert found.device_ms.max == pytest.approx(5 + 999e-6)
    assert found.copy_in_ms.min == pytest.approx(1)
    assert summarize(log_of(stages=STAGES[:2]), (1, 1, 1)).stages.copy_out_ms is None
    assert summarize(log_of(stages=()), (1, 1, 1)).stages is None


def test_stages_that_only_some_calls_have_are_figures_of_those_calls():
    log = log_of()
    untimed = np.arange(1000) % 10 != 0
    for name in STAGES[1:]:
        log.stages[name][untimed] = NO_STAGE
    log.finished_ns[~untimed] += 5 * MS  # the calls that were timed took longer
    tally = Tally(2, 3, open_loop=False)
    tally.add(0, log.columns())
    for found in (log, tally.handed_over(())):
        stages = summarize(found, (1, 1, 1)).stages
        assert (stages.issue_ms.count, stages.wait_ms.count) == (1000, 1000)
        assert {stages.device_ms.count, stages.copy_in_ms.count} == {100}
        assert stages.device_ms.mean == pytest.approx(5 + 495e-6)
        assert stages.copy_in_ms.min == pytest.approx(1)
    assert summarize(log, (1, 1, 1)).stages.timed_response_ms == pytest.approx(15)


def test_what_a_stage_takes_of_the_response_is_a_share_of_its_own_calls():
    result = result_with(issue=2, wait=8, device=6)
    stages = replace(result.summary.stages, timed_response_ms=12.0)
    table = plain_text(
        stages_table(replace(result, summary=replace(result.summary, stages=stages)))
    )
    lines = {line.strip().split("  ")[0]: line for line in table.splitlines()}
    assert lines["on the device"].endswith(" 50%")
    assert lines["wait for device"].endswith(" 80%")


@pytest.mark.parametrize(
    ("service_us", "callers", "one_in"),
    [
        (80, 1, 32),
        (2000, 16, 16),  # all callers together make a call in 125 us
        (3300, 16, 16),
        (8000, 4, 1),
        (2000, 1, 1),
        (1999, 1, 2),
        (1, 1, 32),
    ],
)
def test_the_faster_calls_are_the_fewer_of_them_are_timed(service_us, callers, one_in):
    slow_first = [9_000_000_000, *[service_us * 1000] * 9]
    assert timed_one_in([slow_first] * callers) == one_in


def test_where_no_call_was_made_before_the_start_every_call_is_timed():
    assert timed_one_in([[], []]) == 1


def test_a_device_without_timing_has_issue_and_wait_alone():
    log = log_of(stages=STAGES[:2])
    log.stages["device_ns"][:] = 0
    found = summarize(log, (1, 1, 1)).stages
    assert found.device_ms is None
    assert found.wait_ms is not None


def test_counted_stages_are_within_a_tenth_of_a_percent_of_the_raw_ones():
    log, tally = log_of(), Tally(2, 3, open_loop=False)
    tally.add(0, log.columns())
    counted = tally.handed_over(())
    raw, found = summarize(log, (1, 1, 1)).stages, summarize(counted, (1, 1, 1)).stages
    for name in ("issue_ms", "wait_ms", "device_ms", "copy_in_ms", "copy_out_ms"):
        one, other = getattr(raw, name), getattr(found, name)
        assert other.quantile(0.99) == pytest.approx(one.quantile(0.99), rel=1e-3)
        assert other.mean == pytest.approx(one.mean, rel=1e-9)
    assert set(counted.stages) == set(STAGES)  # the sample has them too


@pytest.mark.parametrize("most_rows", [None, 100])
def test_merging_logs_with_and_without_stages_keeps_them_apart(most_rows, monkeypatch):
    if most_rows is not None:
        monkeypatch.setattr(merging, "KEPT_CALLS", most_rows)
    logs = [(log_of(300), LogPlace(callers=2)), (log_of(200, stages=()), LogPlace(callers=2))]
    found = merging.merged(logs, [4], open_loop=False, inputs=3)
    stages = summarize(found, (1, 1, 1)).stages
    assert found.calls_made == 500
    if most_rows is None:
        assert (found.stages["device_ns"] > 0).sum() == 300
        assert (found.stages["issue_ns"] == -1).sum() == 200
    assert stages.device_ms.count == stages.wait_ms.count == 300  # the others have none
    assert stages.device_ms.mean == pytest.approx(5, rel=1e-3)
    again = summarize(merging.counted(found, 4), (1, 1, 1)).stages
    assert again.device_ms.count == 300


def test_a_log_with_stages_is_read_as_it_was_written(tmp_path: Path):
    tally = Tally(2, 3, open_loop=False)
    tally.add(0, log_of().columns())
    for log in (log_of(50), log_of(50, stages=STAGES[:2]), tally.handed_over(())):
        write_log(tmp_path / "r.calls", log, "run")
        found = read_log(tmp_path / "r.calls", "run", (), open_loop=False)
        assert set(found.columns()) == set(log.columns())
        for name, column in log.columns().items():
            assert np.array_equal(found.columns()[name], column)
        if log.tally is not None:
            assert set(found.tally.counts) == set(log.tally.counts)


def test_a_log_file_has_columns_for_stages_only_where_they_are_used():
    log = LogFile(2048)
    try:
        before = log.reserved_bytes
        assert "issue_ns" not in log.columns
        log.use(STAGES[:2])
        assert log.reserved_bytes == before + 2048 * 16
        log.columns["issue_ns"][:] = 7
        log.columns["finished_ns"][:5] = 1
        assert log.hand_over(0, 0, 5, ()).stages["issue_ns"].tolist() == [7] * 5
        assert log.columns["error"].sum() == 0  # no column lies on another
    finally:
        log.close()


def distribution(mean_ms: float):
    return replace(result_of().summary.service_ms, mean=mean_ms)


def result_with(*, issue: float, wait: float, queue: float = 0.0, device: float | None = None,
                copies: float = 0.0, busy: tuple[float | None, ...] = (None,),
                per_s: float = 1000.0, seconds: float = 2.0, code: str = "",
                command: bool = True, **spec: object) -> il.RunResult:  # fmt: skip
    """What made so many ms of each stage a call, of one device or of several."""
    found = result_of()
    stages = StageFigures(
        issue_ms=distribution(issue),
        wait_ms=distribution(wait),
        device_ms=None if device is None else distribution(device),
        copy_in_ms=distribution(copies / 2) if copies else None,
        copy_out_ms=distribution(copies / 2) if copies else None,
    )
    summary = replace(
        found.summary,
        duration_s=seconds,
        stages=stages,
        response_ms=distribution(issue + wait + queue),
        queue_ms=distribution(queue) if queue else None,
    )
    own = {"devices": ("cuda:0",), "streams": "per-caller", "completion": "sync", "callers": 4}
    own |= {"executor": "native", "form": "script", "may_become": ()}
    return replace(
        found,
        spec=replace(found.spec, **(own | spec)),
        summary=summary,
        devices=tuple(
            DeviceFigures(
                device=f"cuda:{at}", name="a", utilization_fraction=one,
                throughput_calls_per_s=per_s / len(busy),
            )
            for at, one in enumerate(busy)
        ),
        warnings=(il.RunWarning(code=code, message="", hint=""),) if code else (),
        made_by="inferload run m.py" if command else None,
    )  # fmt: skip


EAGER = {"executor": "threads", "form": "eager", "may_become": FORMS[1:]}
FULL = "bound by the device: some kernel ran for 97% of the run, so calls wait for it wherever they"
UNSURE = "no one bound is known: the device was busy for 80% of the run; issue 78%, waiting for the"
UNKNOWN = "no one bound is known: issue 78%, waiting for the device 22% of response; but how busy"
ISSUE = (
    "bound by the host: 78% of response passes there before a call returns (launching kernels, Py"
)
LAUNCHES = {"issue": 7.8, "wait": 2.2}
WAITS = {"issue": 1, "wait": 9}


@pytest.mark.parametrize(
    ("result", "says", "not_said"),
    [
        # ResNet-50 as a package, 16 callers: CUDA graphs made it slower
        (LAUNCHES | {"busy": (0.97,), "form": "aoti", "callers": 16}, FULL, "graph"),
        # a busy device is the bound whatever the stages are
        (LAUNCHES | EAGER | {"busy": (0.97,)}, FULL, "--form"),
        (WAITS | {"busy": (0.97,)}, FULL, "guess: other"),
        (WAITS | {"busy": (0.97,), "queue": 30}, FULL, "more callers, or"),
        (WAITS | {"busy": (0.97,), "device": 3, "copies": 6}, FULL, "copies"),
        (WAITS | {"busy": (0.97,), "streams": "shared"}, FULL, "--streams"),
        (WAITS | {"busy": (0.97,), "device": 1, "processes": 2}, FULL, "MPS"),
        # of several the least busy one counts
        (LAUNCHES | {"busy": (0.99, 0.97)}, "some kernel ran for 97% to 99% of", "graph"),
        (LAUNCHES | EAGER | {"busy": (0.99, 0.5)}, "the devices were busy for 50% to 99%", "graph"),
        (LAUNCHES | EAGER | {"busy": (0.99, None)}, UNKNOWN, "graph"),
        # in between nothing is named
        (LAUNCHES | EAGER | {"busy": (0.8,)}, UNSURE, "guess"),
        (LAUNCHES | {"busy": (0.61,)}, "no one bound is known: the device was busy for 61%", "gu"),
        (LAUNCHES | {"busy": (0.94,)}, "no one bound is known: the device was busy for 94%", "gu"),
        (WAITS | {"busy": (0.8,), "device": 9}, "no one bound is known: the device was", "guess"),
        (WAITS | {"busy": (0.8,), "queue": 30}, "waiting for a free caller 75%, issue", "guess"),
        # a device with time to spare: the stages name the bound
        (LAUNCHES | {"busy": (0.41,)}, ISSUE, "graph"),
        (LAUNCHES | {"busy": (0.41,)}, ".cpu(), or for each other), and the device was", "graph"),
        (LAUNCHES | {"busy": (0.41,), "callers": 1}, ISSUE, "each other"),
        # a model that sleeps, or computes in Python: an H200 was busy for 0 % of both
        (LAUNCHES | EAGER | {"busy": (0.004,)}, "had work for 0% of the run: not launches", "gu"),
        (LAUNCHES | EAGER | {"busy": (0.41,)},
         "a guess: CUDA graphs (--form cudagraph), or larger batches, or --form aoti, whose call",
         "have a GIL each"),
        (LAUNCHES | {"busy": (0.4,), "form": "cudagraph"}, "a guess: larger batches; in", "graphs"),
        (LAUNCHES | {"busy": (0.4,), "form": "callable", "executor": "threads",
                     "may_become": ("cudagraph",)},
         "larger batches, or processes, with a GIL each (--processes 4 --callers 1)", "aoti"),
        (WAITS | {"busy": (0.4,), "device": 3, "copies": 6}, "bound by copies: 90% of", "more"),
        (WAITS | {"busy": (0.4,), "device": 6, "streams": "shared"}, "the shared stream: 90", "MP"),
        (WAITS | {"busy": (0.4,), "device": 1, "processes": 2}, "share it (NVIDIA MPS)", "batches"),
        (WAITS | {"busy": (0.4,), "device": 1, "completion": "event"}, "(--completion sync)", "MP"),
        (WAITS | {"busy": (0.4,)}, "bound by waiting: 90% of response is waiting for", "batches"),
        (WAITS | {"busy": (0.4,), "device": 9}, "bound by what a call takes on the device", "bat"),
        (WAITS | {"busy": (0.4,), "queue": 30}, "its queue: 75% of response is waiting for", "--"),
        ({"issue": 4, "wait": 3, "queue": 3, "busy": (0.4,)}, "no one bound: waiting for", "gu"),
        # no telemetry: a full device holds launches up as well
        (LAUNCHES | EAGER, UNKNOWN, "graphs"),
        (LAUNCHES | EAGER | {"device": 7.7, "per_s": 2000}, UNKNOWN, "graphs"),
        (LAUNCHES | EAGER | {"device": 2, "per_s": 200}, "busy for at most 40% of the", "no one"),
        (LAUNCHES | EAGER | {"device": 2, "per_s": 200, "code": "other-streams"}, UNKNOWN, "gr"),
        (WAITS | {"device": 9}, "bound by the device: 90% of response is waiting for it", "kernel"),
        (WAITS | {"queue": 30, "device": 9}, "bound by its queue: 75% of response", "kernel"),
        # NVML's figure is of up to a second
        (LAUNCHES | {"busy": (0.97,), "seconds": 0.3}, UNKNOWN, "kernel ran"),
        (LAUNCHES | EAGER | {"busy": (0.2,), "seconds": 0.3}, UNKNOWN, "graphs"),
    ],
)  # fmt: skip
def test_one_sentence_says_what_bounds_the_calls_as_far_as_the_figures_carry(
    result: dict, says: str, not_said: str
):
    sentence = diagnosis(result_with(**result))
    assert says in sentence
    assert not_said not in sentence
    # what is advised was not tried
    for way in ("larger batches", "--form", "lower precision", "--completion"):
        assert way not in sentence or "a guess: " in sentence.partition(way)[0]


def test_those_who_called_python_are_told_of_its_arguments():
    said = diagnosis(result_with(**LAUNCHES, **EAGER, busy=(0.4,), command=False))
    assert 'CUDA graphs (form="cudagraph"), or larger batches, or form="aoti", whose' in said
    assert "--" not in said
    said = diagnosis(result_with(**LAUNCHES, busy=(0.8,), command=False))
    assert "(il.sweep with callers in load)" in said
    said = diagnosis(result_with(**LAUNCHES, busy=(0.02,), command=False))
    assert said.endswith("or for each other; il.explain tells which")


def test_of_calls_on_the_cpu_there_is_nothing_to_say():
    assert diagnosis(result_of()) is None
