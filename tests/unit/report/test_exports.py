from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import result_of
from hdrh.histogram import HdrHistogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from test_report import fixed_result

import inferload as il
from inferload.log.buckets import highest_ns
from inferload.log.calls import CallLog
from inferload.log.tally import Tally
from inferload.report.export import perfetto
from inferload.stats.summary import summarize
from support.traces import slices_of
from support.virtual_time import simulated


def queued_result() -> il.RunResult:
    """Two callers, an open loop in which calls queue, one call failed."""
    rng = np.random.default_rng(0)
    due = np.sort(rng.integers(0, 3_000_000_000, 4000))
    started = due + rng.integers(0, 2_000_000, 4000) * (rng.random(4000) < 0.5)
    caller = np.arange(4000) % 2
    finished = started + rng.integers(100_000, 900_000, 4000)
    error = np.full(4000, -1, np.int32)
    error[7] = 0
    log = CallLog(
        scheduled_ns=due,
        started_ns=started,
        finished_ns=finished,
        caller=caller.astype(np.int32),
        input=rng.integers(0, 2, 4000).astype(np.int32),
        error=error,
        errors=(il.CallFailure(type="ValueError", message="no, not this"),),
        callers_by_lane=(2,),
        open_loop=True,
    )
    plain = fixed_result()
    return replace(plain, log=log, summary=summarize(log, (8, 8), callers=2))


def test_a_csv_has_every_call_with_its_exception(tmp_path):
    result = queued_result()
    assert il.export(result, tmp_path / "a.csv") is None
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4000
    assert rows[7]["exception"] == "ValueError: no, not this"
    assert rows[8]["exception"] == ""
    assert [int(one["response_ns"]) for one in rows] == result.log.response_ns.tolist()
    assert [int(one["caller"]) for one in rows] == result.log.caller.tolist()


def test_a_parquet_has_the_same_table_and_says_what_was_run(tmp_path):
    result = replace(queued_result(), made_by="inferload run m.py")
    il.export(result, tmp_path / "a.csv")
    il.export(result, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("response_ns").to_numpy().tolist() == result.log.response_ns.tolist()
    assert table.column("exception").to_pylist()[6:9] == [None, "ValueError: no, not this", None]
    header = next(csv.reader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert table.column_names == header
    assert table.schema.metadata[b"inferload.made_by"] == b"inferload run m.py"


def test_calls_of_a_closed_loop_have_no_queue_to_export(tmp_path):
    with pytest.raises(il.PlanError, match="wait in no queue"):
        il.export(result_of(), tmp_path / "a.hgrm", duration="queue")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("duration", ["response", "service", "queue"])
def test_a_hgrm_has_the_values_that_hdrhistogram_finds_at_its_ticks(tmp_path, duration):
    result = queued_result()
    il.export(result, tmp_path / "a.hgrm", duration=duration)
    reference = HdrHistogram(1, 3_600_000_000_000, 3)
    log = result.log
    for value in log.duration_ns(f"{duration}_ns")[log.completed].tolist():
        reference.record_value(max(value, 1))
    lines = [line.split() for line in (tmp_path / "a.hgrm").read_text().splitlines()]
    lines = [line for line in lines if line and line[0][0].isdigit()]
    # five ticks to each half of what is left, as the original in Java has them
    levels = [float(line[1]) for line in lines]
    assert levels[:12] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.775]
    assert levels[-1] == 1
    values = np.sort(log.duration_ns(f"{duration}_ns")[log.completed])
    for line in lines:
        rank = max(int(np.ceil(round(float(line[1]) * len(values), 6))), 1)
        highest = reference.get_highest_equivalent_value(int(values[rank - 1]))
        assert float(line[0]) == pytest.approx(highest / 1e6, abs=1e-9)
        assert int(line[2]) == np.searchsorted(values, highest, side="right")
    assert int(lines[-1][2]) == reference.get_total_count()
    theirs = io.BytesIO()
    reference.output_percentile_distribution(theirs, 1e6)
    form = re.sub(r"\d+\.\d+|\d+", "N", theirs.getvalue().decode().splitlines()[5]).split()
    ours = (tmp_path / "a.hgrm").read_text().splitlines()[5]
    assert re.sub(r"\d+\.\d+|\d+", "N", ours).split() == form


def test_a_hgrm_of_a_counted_run_is_that_of_its_calls(tmp_path):
    result = queued_result()
    tally = Tally(2, 2, open_loop=True)
    tally.add(0, result.log.columns())
    counted = replace(result, log=tally.handed_over(result.log.errors))
    il.export(result, tmp_path / "raw.hgrm")
    il.export(counted, tmp_path / "counted.hgrm")
    raw, of_counts = ((tmp_path / f"{n}.hgrm").read_text() for n in ("raw", "counted"))
    assert raw.splitlines()[:-3] == of_counts.splitlines()[:-3]


def test_the_highest_value_of_a_bucket_is_the_last_that_falls_into_it():
    from inferload.log.buckets import bucket_of

    highest = highest_ns()
    for bucket in (0, 1, 2047, 2048, 3000, 20_000):
        assert bucket_of(highest[[bucket]])[0] == bucket
        assert bucket_of(highest[[bucket]] + 1)[0] == bucket + 1


def test_openmetrics_are_read_back_and_quote_what_the_summary_quotes(tmp_path):
    result = queued_result()
    il.export(result, tmp_path / "a.prom")
    text = (tmp_path / "a.prom").read_text()
    families = {one.name: one for one in text_string_to_metric_families(text)}
    calls = {s.labels["outcome"]: s.value for s in families["inferload_calls"].samples}
    assert calls == {"completed": 3999, "failed": 1, "unfinished": 0}
    found = families["inferload_response_seconds"].samples
    quantiles = {s.labels["quantile"]: s.value for s in found if "quantile" in s.labels}
    response = result.summary.response_ms
    assert quantiles["0.99"] == pytest.approx(response.p99.value / 1e3)
    assert "0.9999" not in quantiles  # it is not quoted
    bounds = families["inferload_response_quantile_bound_seconds"].samples
    low = next(s.value for s in bounds if s.labels == {"quantile": "0.99", "bound": "low"})
    assert low == pytest.approx(response.p99.low / 1e3)


def test_a_trace_has_a_track_for_each_caller_with_its_queue_and_its_calls(tmp_path):
    result = queued_result()
    il.export(result, tmp_path / "a.pftrace")
    tracks, events = slices_of(tmp_path / "a.pftrace")
    callers = {number: name for number, (name, parent) in tracks.items() if parent == 1}
    assert sorted(callers.values()) == ["caller 0", "caller 1"]
    log = result.log
    for number, name in callers.items():
        mine = log.caller == int(name[-1])
        below = {t: n for n, (t, parent) in tracks.items() if parent == number}
        assert set(below) == {"queue", "calls"}
        calls = sorted(events[below["calls"]], key=lambda one: one[0])
        begins = [time for time, event in calls if event.type == event.TYPE_SLICE_BEGIN]
        assert begins == np.sort(log.started_ns[mine]).tolist()
        queued = [e for _, e in events[below["queue"]] if e.type == e.TYPE_SLICE_BEGIN]
        assert [e.debug_annotations[0].int_value for e in queued] == [
            int(q) for q in log.queue_ns[mine][np.argsort(log.started_ns[mine])] if q > 0
        ]
    named = [e.name for _, own in events.items() for _, e in own if e.name]
    assert named.count("failed call") == 1


def test_slices_of_a_queue_track_do_not_overlap(tmp_path):
    # ten calls due at once, one caller: each waits for those before it
    due = np.zeros(10, np.int64)
    started = np.arange(10) * 1_000_000
    plain = fixed_result()
    log = CallLog(
        scheduled_ns=due,
        started_ns=started,
        finished_ns=started + 1_000_000,
        caller=np.zeros(10, np.int32),
        input=np.zeros(10, np.int32),
        error=np.full(10, -1, np.int32),
    )
    il.export(replace(plain, log=log), tmp_path / "a.pftrace")
    tracks, events = slices_of(tmp_path / "a.pftrace")
    queue = next(number for number, (name, _) in tracks.items() if name == "queue")
    times = [time for time, _ in events[queue]]
    assert times == sorted(times)
    longest = [e.debug_annotations[0].int_value for _, e in events[queue] if e.debug_annotations]
    assert max(longest) == 9_000_000


def test_stages_lie_within_their_call_and_the_device_has_a_track(tmp_path):
    rows = np.arange(3, dtype=np.int64) * 1_000_000
    stages = {
        "issue_ns": 100_000,
        "device_ns": 400_000,
        "copy_in_ns": 50_000,
        "copy_out_ns": 60_000,
    }
    log = CallLog(
        scheduled_ns=rows,
        started_ns=rows,
        finished_ns=rows + 800_000,
        caller=np.zeros(3, np.int32),
        input=np.zeros(3, np.int32),
        error=np.full(3, -1, np.int32),
        stages={name: np.full(3, value, np.int64) for name, value in stages.items()},
    )
    il.export(replace(fixed_result(), log=log), tmp_path / "a.pftrace")
    tracks, events = slices_of(tmp_path / "a.pftrace")
    number = {name: one for one, (name, _) in tracks.items()}
    begins = {event.name: time for time, event in events[number["calls"]][::-1] if event.name}
    assert begins == {"call": 0, "issue": 0, "wait": 100_000}
    device = {e.name: t for t, e in events[number["device"]][::-1] if e.name}
    assert device == {"copy in": 290_000, "device": 340_000, "copy out": 740_000}


def test_of_very_many_calls_a_trace_has_the_first_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(perfetto, "MOST_CALLS", 100)
    said = il.export(queued_result(), tmp_path / "a.pftrace")
    assert said == "the trace has the first 100 of 4,000 calls"


def test_an_ending_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(il.PlanError, match=r"\.parquet"):
        il.export(queued_result(), tmp_path / "a.xlsx")
    with pytest.raises(il.PlanError, match="queue"):
        il.export(queued_result(), tmp_path / "a.hgrm", duration="wait")


def test_openmetrics_have_stages_and_limits(tmp_path):
    stages = [il.Stage(rate_per_s=50, duration_s=2), il.Stage(rate_per_s=100, duration_s=1)]
    load = il.OpenLoop.staged(stages, arrivals="constant", callers=2)
    result = simulated(1_000_000, load, warmup=None, limit=["p50<=1us", "errors<=0"])
    il.export(result, tmp_path / "r.prom")
    told = (tmp_path / "r.prom").read_text()
    assert 'inferload_stage_due_calls{rate="50/2s",stage="1"} 100.0' in told
    assert 'inferload_limit_kept{limit="errors<=0%"} 1.0' in told
    assert 'inferload_limit_kept{limit="p50<=0.001ms"} 0.0' in told
