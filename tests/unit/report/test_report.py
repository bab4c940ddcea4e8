from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from conftest import result_of
from rich.console import Console

import inferload as il
from inferload.cli.progress import Progress
from inferload.log.calls import CallLog
from inferload.report.text.run import plain_report
from inferload.stats.summary import judged, summarize
from support.virtual_time import replayed, simulated

GOLDEN = Path(__file__).parents[2] / "golden"


def fixed_result() -> il.RunResult:
    """A result in which no figure depends on the machine."""
    response = np.concatenate(
        [
            np.linspace(900_000, 1_500_000, 380, dtype=np.int64),
            np.linspace(2_000_000, 9_000_000, 20, dtype=np.int64),
        ]
    )
    started = np.arange(400, dtype=np.int64) * 2_500_000
    log = CallLog(
        scheduled_ns=started,
        started_ns=started,
        finished_ns=started + response,
        caller=np.zeros(400, np.int32),
        input=np.zeros(400, np.int32),
        error=np.array([-1] * 399 + [0], np.int32),
        errors=(il.CallFailure(type="ValueError", message="no"),),
    )
    spec = il.RunSpec(
        target="Ranker",
        form="aoti",
        executor="native",
        load="closed loop",
        callers=4,
        calls=400,
        duration_s=None,
        warmup_calls=10,
        threads_per_call=1,
        inputs=("8x128:int64, mask=8x128:bool", "8x64:int64, mask=8x64:bool"),
        items_per_input=(8, 8),
        share_inputs=False,
        seed=0,
        on_error="record",
        grad_mode="inference",
        autocast="off",
    )
    return il.RunResult(
        run_id="0",
        created_at="2026-01-01T00:00:00+00:00",
        status="interrupted",
        spec=spec,
        environment={
            "cpu": "Example CPU 3000",
            "cores": 8,
            "usable_cores": 4.0,
            "devices": [],
            "torch": "2.13.0+cpu",
            "python": "3.11.7",
            "cpu_capability": "AVX2",
        },
        set_up=il.SetUp(
            prepare_s=0.3,
            open_s=0.05,
            first_call_ms=120.0,
            first_ten_ms=(120.0, 4.0, 2.0),
            log_bytes=36_864,
            floor_ms=3e-5,
        ),
        summary=summarize(log, spec.items_per_input, callers=4),
        steady=judged(log),
        verification=il.Verification(compared=256, differing=3, caller=2, input=1, difference=0.25),
        warnings=(il.RunWarning(code="oversubscribed", message="8 on 4", hint="--callers 4"),),
        log=log,
    )


def fixed_open_result() -> il.RunResult:
    """An open loop by precision, of which some calls never began and the start was cut off."""
    generator = np.random.default_rng(0)
    service = generator.gamma(20.0, 5e4, 4000).astype(np.int64)
    service[:400] *= 3
    scheduled = np.arange(4000, dtype=np.int64) * 1_600_000
    started = replayed(scheduled, service, 2) + 300
    log = CallLog(
        scheduled_ns=scheduled,
        started_ns=started,
        finished_ns=started + service,
        caller=np.zeros(4000, np.int32),
        input=np.zeros(4000, np.int32),
        error=np.full(4000, -1, np.int32),
        open_loop=True,
    )
    before, steady = fixed_result(), judged(log)
    spec = replace(
        before.spec,
        load="open loop, constant 625/s",
        rate_per_s=625.0,
        drain_s=30.0,
        callers=2,
        calls=None,
        precision=0.02,
        time_limit_s=60.0,
        warmup="auto",
    )
    return replace(
        before,
        status="complete",
        spec=spec,
        summary=summarize(
            log, (8, 8), callers=2, from_s=steady.cut_s, unfinished=2, in_flight=(0.63, 0.05)
        ),
        steady=steady,
        verification=il.Verification(compared=128, differing=0),
        log=log,
    )


def fixed_processes_result() -> il.RunResult:
    """Two pinned processes, of which one was killed and the other's memory grows."""
    whole = fixed_result()
    memory = il.MemoryUse(
        times_s=(0.0, 1.0),
        rss_bytes=(200 * 2**20, 220 * 2**20),
        peak_rss_bytes=230 * 2**20,
        pss_times_s=(0.0,),
        pss_bytes=(120 * 2**20,),
        peak_pss_bytes=120 * 2**20,
        growth_bytes_per_1000_calls=1e6,
        growth_bytes=10**7,
        growth_p=1e-5,
    )
    common = {"callers": 1, "failed_calls": 0, "throughput_calls_per_s": 150.0, "memory": memory}
    ending = il.Ending(
        how="was killed by SIGKILL, which somebody sent",
        signal="SIGKILL",
        after_s=1.25,
        in_flight=((0, 1),),
    )
    return replace(
        whole,
        status="crashed",
        spec=replace(whole.spec, callers=2, processes=2, isolated=True, pin="cores"),
        set_up=replace(
            whole.set_up, load_s=0.1, convert_s=0.15, process_s=2.0, nursery_pss_bytes=2**26
        ),
        processes=(
            il.ProcessFigures(
                process=0,
                pid=1,
                completed_calls=300,
                p50_ms=1.25,
                p99_ms=9.5,
                start_late_ms=0.25,
                cpus=((0, 2),),
                threads=(1,),
                **common,
            ),
            il.ProcessFigures(
                process=1,
                pid=2,
                completed_calls=0,
                p50_ms=None,
                p99_ms=None,
                cpus=((1, 3),),
                threads=(1,),
                ending=ending,
                **common,
            ),
        ),
    )


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("make", [fixed_result, fixed_open_result, fixed_processes_result])
def test_the_report_is_the_one_that_was_looked_at(make, width: int):
    """To accept a change: look at the new text, and write it into the golden file."""
    golden = GOLDEN / f"{make.__name__.removeprefix('fixed_')}_{width}.txt"
    assert plain_report(make(), width) + "\n" == golden.read_text()


@pytest.mark.parametrize("calls", [1, 5, 400])
def test_no_line_of_a_report_is_wider_than_80_and_nothing_is_cut(calls: int):
    text = str(result_of(calls=calls))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_what_looks_like_markup_is_shown_as_it_is():
    result = fixed_result()
    text = str(replace(result, spec=replace(result.spec, inputs=("[2:float32, [/x]]",))))
    assert "[2:float32, [/x]]" in text


def narrow_result() -> il.RunResult:
    """Calls that all take nearly as long: 10.08 to 10.15 ms."""
    whole = fixed_result()
    took = np.linspace(10_080_000, 10_150_000, 400, dtype=np.int64)
    log = replace(whole.log, finished_ns=whole.log.started_ns + took)
    return replace(whole, log=log, summary=summarize(log, (8, 8), callers=4))


def test_no_two_lines_of_a_histogram_have_the_same_label():
    lines = re.findall(r"^ *(\S+ ms) - (\S+ ms) ", plain_report(narrow_result()), re.MULTILINE)
    assert len(lines) == 10
    assert all(low != high for low, high in lines)
    assert [high for _, high in lines[:-1]] == [low for low, _ in lines[1:]]
    assert (lines[0][0], lines[-1][1]) == ("10.080 ms", "10.150 ms")


def calls_line(load: il.OpenLoop, **options: object) -> str:
    result = simulated(2_000_000, load, **options)
    return next(line for line in str(result).splitlines() if line.startswith("calls"))


def test_a_draw_of_times_that_is_not_the_rate_is_told_where_calls_are_counted():
    load = il.OpenLoop.poisson(80)
    due = load.schedule(None, 6.0).calls
    assert calls_line(load, duration_s=6.0) == (
        f"calls       {due} in 6.00 s; {due / 6:.1f}/s were due by the draw, 80/s on average"
    )
    bursts = il.OpenLoop.gamma(80, burstiness=0.5)
    assert "/s were due by the draw, 80/s on average" in calls_line(bursts, calls=100)


@pytest.mark.parametrize(
    ("load", "options"),
    [
        (il.OpenLoop.constant(80), {"duration_s": 6.0}),
        (il.OpenLoop.constant(80), {"calls": 40}),
        # what of a replay is due in its first second is no draw
        (il.OpenLoop.replay([*np.arange(0, 1, 0.05), *np.arange(1, 6, 0.01)]), {"duration_s": 1.0}),
        (il.OpenLoop.poisson(5000), {"calls": 20_000}),
        (il.OpenLoop.poisson(1), {"duration_s": 6.0}),  # too few for a rate
    ],
)
def test_a_load_that_is_as_asked_is_not_told(load: il.OpenLoop, options: dict[str, object]):
    assert "due" not in calls_line(load, **options)


def test_how_much_was_due_of_a_run_that_ended_early_is_told_if_it_is_known():
    whole = simulated(2_000_000, il.OpenLoop.poisson(80), duration_s=6.0)
    early = replace(whole, status="interrupted", spec=replace(whole.spec, duration_s=300.0))
    last_s = whole.log.scheduled_ns.max() / 1e9
    expected = f"{(len(whole.log) - 1) / last_s:.1f}/s were due by the draw"
    assert expected in str(early)
    given_up = replace(early, summary=replace(early.summary, unfinished_calls=3))
    for one in (given_up, replace(early, status="crashed")):
        assert "by the draw" not in str(one)


def test_a_result_without_calls_has_a_report():
    result = fixed_result()
    empty = {
        name: getattr(result.log, name)[:0]
        for name in ("scheduled_ns", "started_ns", "finished_ns", "caller", "input", "error")
    }
    log = CallLog(**empty)
    text = str(replace(result, log=log, summary=summarize(log, (8, 8))))
    assert "0.00 calls/s" in text


def test_progress_shows_calls_rate_and_time_left():
    progress = Progress(Console(file=StringIO()), calls=1000, duration_s=None)
    line = progress.line(250, 2.0)
    assert "25%" in line
    assert "250 calls" in line
    assert "125/s" in line
    assert "6.00 s left" in line
    by_time = Progress(Console(file=StringIO()), calls=None, duration_s=10.0)
    assert "7.50 s left" in by_time.line(10, 2.5)


def test_progress_is_plain_lines_where_there_is_no_terminal():
    out = StringIO()
    progress = Progress(Console(file=out, width=80), calls=1000, duration_s=None)
    progress.stage("warming up")
    for elapsed in (0.1, 6.0):
        progress._next_s = 0
        progress.progress(100, elapsed)
    progress.close()
    assert out.getvalue().count("\n") == 2
    assert "\x1b" not in out.getvalue()


def test_progress_is_one_line_that_vanishes_on_a_terminal():
    out = StringIO()
    progress = Progress(Console(file=out, width=80, force_terminal=True), 1000, None)
    progress.stage("warming up")
    progress.progress(100, 1.0)
    progress.close()
    assert "100 calls" in out.getvalue()
    assert out.getvalue().endswith("\x1b[1A\x1b[2K")
