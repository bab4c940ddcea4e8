"""Quantiles of parts of a run (devices, processes, ranks, models): quoted by one rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import result_of

from inferload.log.calls import CallLog
from inferload.log.merge import counted
from inferload.records.devices import DeviceFigures, DeviceInfo, StageFigures
from inferload.records.distribution import QUOTED_QUANTILES, Distribution
from inferload.records.figures import RankFigures
from inferload.records.spec import ModelShare
from inferload.report.text.batches import BatchLine, batches_table
from inferload.report.text.devices import devices_table, stages_table
from inferload.report.text.run import plain_text
from inferload.report.text.several import several_table
from inferload.report.text.tables import models_table, processes_table, ranks_table
from inferload.runs.checks.ranks import rank_checks
from inferload.runs.result import result_of as result_of_execution
from inferload.stats.durations import RawDurations
from inferload.stats.process_calls import CallsOfLog, CountedCalls, part_figures
from inferload.stats.summary import distribution_ms, model_figures, summarize
from support.ranks import SPEC, execution_of, simulated_log


def alike_in_time(calls: int, *, stretches: int = 8) -> CallLog:
    """Calls of which every eighth stretch is slow: far fewer are independent of each other."""
    generator = np.random.default_rng(3)
    slow = (np.arange(calls) * stretches // calls) % 8 == 1
    response = (1e6 * generator.lognormal(0, 0.1, calls) * np.where(slow, 20, 1)).astype(np.int64)
    scheduled = np.arange(calls, dtype=np.int64) * 30_000_000
    return CallLog.of(
        {
            "scheduled_ns": scheduled,
            "started_ns": scheduled + 1000,
            "finished_ns": scheduled + 1000 + response,
            "caller": np.zeros(calls, np.int32),
            "input": (np.arange(calls) % 2).astype(np.int32),
            "error": np.full(calls, -1, np.int32),
        },
        open_loop=True,
    )


def independent(calls: int) -> CallLog:
    return simulated_log(0, calls)


def quoted(summary) -> tuple[float | None, float | None]:
    return tuple(
        None if one is None else one.value
        for one in (summary.response_ms.p50, summary.response_ms.p99)
    )


# 400 calls pass the bound of order statistics (368) and leave fewer than ten beyond p99
LOGS = {
    "few": independent(15),
    "enough for p50": independent(300),
    "enough to bound p99, not to quote it": independent(500),
    "many": independent(5_000),
    "many that are alike": alike_in_time(5_000),
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_a_part_that_is_all_of_a_run_is_quoted_as_the_run_is(log):
    summary = summarize(log, SPEC.items_per_input, callers=2)
    for calls in (CallsOfLog(log), CountedCalls.of(counted_log(log))):
        found = part_figures(calls, summary).quantiles
        assert (found.p50_ms, found.p99_ms) == quoted(summary)
        more = summary.response_ms.more_calls
        assert found.more_calls == {name: more[name] for name in ("p50", "p99") if name in more}
        assert found.median_ms == pytest.approx(summary.response_ms.quantile(0.5), rel=1e-3)


def counted_log(log: CallLog) -> CallLog:
    return counted(log, 2)


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_raw_and_counted_parts_of_a_larger_run_follow_the_rule_of_a_summary(log):
    alone = summarize(log, SPEC.items_per_input, callers=2)
    whole = summarize(independent(50_000), SPEC.items_per_input, callers=2)
    raw = part_figures(CallsOfLog(log), whole).quantiles
    assert (raw.p50_ms, raw.p99_ms) == quoted(alone)
    few = part_figures(CountedCalls.of(counted_log(log)), whole).quantiles
    # of counts the batches are stretches of time, so their number of independent calls differs
    again = summarize(counted_log(log), SPEC.items_per_input, callers=2)
    assert (few.p50_ms, few.p99_ms) == quoted(again)


def test_the_calls_alike_in_time_are_what_the_bound_alone_would_quote():
    log = LOGS["many that are alike"]
    found = CallsOfLog(log).figures(0.0).quantiles
    assert found.p99_ms is None
    assert found.more_calls["p99"] > 3_000


def test_where_calls_never_finished_no_part_is_quoted_but_one_that_is_the_whole():
    log = independent(5_000)
    first, second = log.rows(log.caller == 0), log.rows(log.caller == 1)
    summary = summarize(log, SPEC.items_per_input, callers=2, unfinished=20)
    assert summary.response_ms.p50 is not None
    for own in (first, second):
        found = part_figures(CallsOfLog(own), summary).quantiles
        assert (found.p50_ms, found.p99_ms, found.more_calls) == (None, None, {})
        assert found.median_ms is not None
    whole = part_figures(CallsOfLog(log), summary).quantiles
    assert (whole.p50_ms, whole.p99_ms) == quoted(summary)
    most = summarize(log, SPEC.items_per_input, callers=2, unfinished=6_000)
    whole = part_figures(CallsOfLog(log), most).quantiles
    assert (whole.p50_ms, whole.p99_ms) == (None, None)


def test_models_of_a_mix_are_quoted_by_the_rule_and_not_where_calls_never_finished():
    log = alike_in_time(5_000)
    shares = [
        ModelShare(name=f"m{at}", target="M", form="eager", weight=0.5, first_input=at, inputs=1)
        for at in range(2)
    ]
    summary = summarize(log, (1, 1), callers=1)
    for share in shares:
        alone = summarize(log.rows(log.input == share.first_input), (1, 1), callers=1)
        assert model_figures(log, share, 0, summary).response_ms == alone.response_ms
    late = summarize(log, (1, 1), callers=1, unfinished=2)
    for share in shares:
        found = model_figures(log, share, 0, late).response_ms
        assert [getattr(found, name) for name in QUOTED_QUANTILES] == [None] * 6


def test_a_model_of_a_counted_run_needs_so_many_calls_of_the_run_not_of_its_sample():
    log = counted_log(alike_in_time(5_000))
    thin = replace(log, tally=replace(log.tally, sampled_one_in=4)).rows(np.arange(0, 5_000, 4))
    thin = replace(thin, tally=replace(log.tally, sampled_one_in=4))
    share = ModelShare(name="m", target="M", form="eager", weight=0.5, first_input=0, inputs=1)
    found = model_figures(thin, share, 0, summarize(log, (1, 1), callers=1)).response_ms
    plain = distribution_ms(RawDurations.of(thin.response_ns[thin.input == 0]))
    assert found.more_calls["p99"] == 4 * plain.more_calls["p99"]


def test_a_device_says_of_its_calls_what_the_summary_says():
    log = LOGS["enough to bound p99, not to quote it"]
    done = execution_of(log)
    (process,) = done.processes
    info = DeviceInfo(device="cuda:0", name="made up", uuid=None)
    process = replace(process, ready=replace(process.ready, devices=(info,)))
    result = result_of_execution(replace(done, processes=[process]))
    (device,) = result.devices
    assert result.summary.response_ms.p99 is None
    assert (device.p50_ms, device.p99_ms) == quoted(result.summary)
    text = plain_text(devices_table(result), 110)
    assert f"more calls needed: p99 {result.summary.response_ms.more_calls['p99']}" in text


def test_a_straggler_of_few_calls_is_found_by_its_median_which_is_marked():
    fields = {"host": "h", "processes": 1, "callers": 1}
    ranks = [
        RankFigures(rank=at, p50_ms=one[0], median_ms=one[1], **fields)
        for at, one in enumerate([(1.0, 1.0), (1.0, 1.0), (None, 2.0)])
    ]
    ((code, said, _),) = rank_checks(ranks)
    assert code == "straggler"
    assert "rank 2 (h) has a median ~+100% to that of a typical rank, ~1.00 ms" in said
    ranks[2] = replace(ranks[2], p50_ms=2.0)
    ((_, said, _),) = rank_checks(ranks)
    assert "a median +100%" in said


def few_calls(calls: int = 15) -> Distribution:
    return summarize(independent(calls), SPEC.items_per_input, callers=2).response_ms


def test_no_table_has_a_quantile_that_its_calls_do_not_carry():
    """Every line of every table of one run is of 15 calls, so each quantile is a dash."""
    result, few = result_of(), few_calls()
    summary = replace(
        result.summary,
        response_ms=few,
        stages=StageFigures(issue_ms=few, wait_ms=few, device_ms=few),
    )
    parts = part_figures(CallsOfLog(independent(15)), summary).quantiles
    own = {"p50_ms": parts.p50_ms, "p99_ms": parts.p99_ms, "more_calls": few.more_calls}
    rank = RankFigures(rank=0, host="h", processes=1, callers=1, **own)
    device = DeviceFigures(device="cuda:0", name="a", **own)
    share = ModelShare(name="m", target="M", form="eager", weight=1.0, first_input=0, inputs=3)
    model = model_figures(independent(15), share, 0, summary)
    result = replace(
        result,
        summary=summary,
        devices=(device,),
        models=(model,),
        spec=replace(result.spec, models=(share,)),
        processes=tuple(replace(one, **own) for one in result.processes),
    )
    tables = [
        stages_table(result),
        devices_table(result),
        models_table(result),
        ranks_table([rank]),
        processes_table(result.processes),
        batches_table([BatchLine(size=1, result=result)]),
        several_table({"a": result}),
    ]
    for table in tables:
        heads = [str(column.header) for column in table.columns]
        for name in ("p50", "p99", *["device"] * (heads[0] == "batch")):
            assert set(table.columns[heads.index(name)].cells) == {"-"}, name
        assert "p99" in str(table.caption)
        assert "more calls needed" in str(table.caption)
