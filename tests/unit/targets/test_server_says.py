"""What two readings of a server's counts differ by."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferload.records.server import ModelStatistics, SaidTime
from inferload.targets.remote.said.histograms import quantile_of
from inferload.targets.remote.said.prometheus import MOST, moved, read
from inferload.targets.remote.said.statistics import counted_between, statistics_of


def one_of(text: str, before: str = "", model: str | None = None):
    (found,) = moved(read(before), read(text), model).metrics
    return found


@pytest.mark.parametrize(
    ("q", "value"),
    [(0.25, 5.0), (0.5, 10.0), (0.7, 14.0), (0.75, 15.0), (0.95, None)],
)
def test_quantiles_lie_within_their_bucket_as_its_share_says(q, value):
    buckets = {10.0: 50, 20.0: 100, 40.0: 100, math.inf: 100}
    if value is None:
        buckets[math.inf] = 200
    assert quantile_of(buckets, q) == (None if value is None else pytest.approx(value))


def test_a_histogram_without_observations_has_no_quantiles():
    assert quantile_of({}, 0.5) is None
    assert quantile_of({1.0: 0, math.inf: 0}, 0.5) is None
    assert quantile_of({1.0: 3}, 0.5) is None


def test_a_bucket_that_was_read_before_the_one_below_it_does_no_harm():
    assert quantile_of({1.0: 60, 2.0: 50, 4.0: 100, math.inf: 100}, 0.5) == pytest.approx(50 / 60)


@given(
    st.lists(st.floats(0.001, 99), min_size=1, max_size=200),
    st.sets(st.floats(0.01, 100), min_size=1, max_size=12),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_an_estimate_lies_in_the_bucket_of_the_value_itself(values, edges, q):
    buckets = {edge: sum(one <= edge for one in values) for edge in edges}
    buckets[math.inf] = len(values)
    exact = np.quantile(values, q, method="inverted_cdf")
    above = min(edge for edge in buckets if edge >= exact)
    below = max((edge for edge in buckets if edge < exact), default=0.0)
    found = quantile_of(buckets, q)
    if above == math.inf:
        assert found is None
    else:
        assert found is not None
        assert below <= found * (1 + 1e-9)
        assert found <= above * (1 + 1e-9)


HISTOGRAM = """
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_bucket{{engine="0",le="0.1"}} {0}
vllm:request_queue_time_seconds_bucket{{engine="0",le="0.2"}} {1}
vllm:request_queue_time_seconds_bucket{{engine="0",le="+Inf"}} {2}
vllm:request_queue_time_seconds_count{{engine="0"}} {2}
vllm:request_queue_time_seconds_sum{{engine="0"}} {3}
"""


def test_of_a_histogram_what_was_observed_in_between_is_told_in_milliseconds():
    found = one_of(HISTOGRAM.format(60, 110, 110, 14.0), HISTOGRAM.format(10, 10, 10, 1.0))
    assert (found.kind, found.value, found.unit) == ("histogram", 100, "ms")
    assert found.words == "waiting in the queue"
    assert found.mean == pytest.approx(130)
    assert found.p50 == pytest.approx(100)
    assert found.p90 == pytest.approx(180)
    assert (found.smallest, found.largest) == pytest.approx((100, 200))


def test_what_lies_beyond_the_last_edge_is_not_estimated():
    found = one_of(HISTOGRAM.format(60, 60, 100, 40.0))
    assert found.p50 == pytest.approx(100 * 50 / 60)
    assert (found.p90, found.p99) == (None, None)


def test_a_histogram_of_numbers_stays_one_of_numbers():
    found = one_of(HISTOGRAM.replace("queue_time_seconds", "prompt_tokens").format(5, 9, 9, 3.0))
    assert found.unit == ""
    assert found.mean == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("name", "unit", "value"),
    [
        ("x_total", "", 7.0),
        ("x", "", 7.0),
        ("busy_seconds_total", "ms", 7000.0),
        ("busy_us", "ms", 0.007),
        ("sent_bytes_total", "B", 7.0),
    ],
)
def test_a_counter_keeps_the_name_that_the_server_gave_it(name, unit, value):
    text = f"# TYPE {name} counter\n{name} %s\n"
    found = one_of(text % 10, text % 3)
    assert (found.name, found.kind, found.unit) == (name, "counter", unit)
    assert found.value == pytest.approx(value)


def test_what_did_not_move_and_what_is_of_the_program_is_left_out():
    text = """
# TYPE idle_total counter
idle_total 3
# TYPE depth gauge
depth 4
# TYPE python_gc_collections_total counter
python_gc_collections_total {0}
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total {0}
# TYPE x_created gauge
x_created {0}
# TYPE seen_total counter
seen_total{{handler="/metrics"}} {0}
"""
    assert moved(read(text.format(1)), read(text.format(9)), None).metrics == ()


def test_a_gauge_is_told_as_it_was_at_last():
    text = "# TYPE depth gauge\ndepth %s\n"
    found = one_of(text % 2, text % 5)
    assert (found.kind, found.value) == ("gauge", 2)


def test_labels_are_told_where_they_tell_series_apart():
    text = '# TYPE a counter\na{engine="0",why="stop"} 1\na{engine="0",why="length"} 2\n'
    found = moved({}, read(text), None).metrics
    assert {one.labels for one in found} == {(("why", "stop"),), (("why", "length"),)}


def test_many_series_of_a_name_are_added_up():
    text = "# TYPE a counter\n" + "".join(f'a{{path="/{n}"}} {n}\n' for n in range(1, 8))
    found = one_of(text)
    assert (found.labels, found.value) == ((), 28)


def test_series_of_other_models_are_left_out_where_the_own_one_is_named():
    text = (
        "# TYPE nv_inference_request_success counter\n"
        'nv_inference_request_success{model="a",version="1"} 5\n'
        'nv_inference_request_success{model="b",version="1"} 70\n'
        '# TYPE other counter\nother{model="b"} 3\n# TYPE whole counter\nwhole 1\n'
    )
    found = moved({}, read(text), "a")
    assert {one.name: one.value for one in found.metrics} == {
        "nv_inference_request_success": 5,
        "whole": 1,
    }
    assert (found.requests, found.counted_by) == (5, "nv_inference_request_success")
    assert moved({}, read(text), "unheard of").requests == 75


def test_a_counter_of_time_has_a_mean_for_each_request_that_was_counted():
    text = (
        "# TYPE nv_inference_request_success counter\nnv_inference_request_success 50\n"
        "# TYPE nv_inference_queue_duration_us counter\nnv_inference_queue_duration_us 100000\n"
    )
    requests, queue = moved({}, read(text), None).metrics
    assert (requests.mean, queue.value, queue.mean) == (None, 100.0, 2.0)


def test_known_metrics_come_first_and_no_more_than_a_bound_are_kept():
    text = "".join(f"# TYPE a{n} counter\na{n} 1\n" for n in range(MOST + 5))
    text += "# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total 9\n"
    found = moved({}, read(text), None)
    assert (len(found.metrics), found.left) == (MOST, 6)
    assert found.metrics[0].words == "tokens of prompts"


@pytest.mark.parametrize(
    "text",
    [
        "# TYPE a counter\na %s\n",
        "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %s\n",
    ],
)
def test_counters_of_another_process_are_no_counts_of_the_run(text):
    found = moved(read(text % 9), read(text % 3), None)
    assert found.other_process
    assert found.metrics == ()


@pytest.mark.parametrize("text", ['{"ok": true}', "<html>\n<p>x</p></html>"])
def test_what_is_no_text_of_metrics_is_told_apart(text):
    with pytest.raises(ValueError):
        read(text)


def stats(count: int, ns: int, batches=((1, 0),), executions: int = 0, version="1"):
    time = {"count": count, "ns": ns}
    return {
        "name": "m",
        "version": version,
        "inference_count": 2 * count,
        "execution_count": executions,
        "inference_stats": {"success": time, "queue": time, "compute_infer": time},
        "batch_stats": [{"batch_size": size, "compute_infer": {"count": n}} for size, n in batches],
    }


def test_statistics_are_the_difference_of_two_readings():
    before = statistics_of({"model_stats": [stats(10, 5, ((1, 10),), 10)]}, "m")
    after = statistics_of(
        {"model_stats": [stats(110, 200_000_005, ((1, 10), (4, 50)), 60), {"name": "other"}]}, "m"
    )
    found = counted_between(before, after)
    assert found is not None
    assert found.success == SaidTime(count=100, total_ns=200_000_000)
    assert found.queue.mean_ms == pytest.approx(2.0)
    assert found.mean_batch == pytest.approx(200 / 50)
    assert found.batches == ((4, 50),)
    assert counted_between(after, before) is None


def test_versions_are_added_up_and_numbers_may_be_texts():
    told = [stats(1, 2), stats(3, 4, version="2")]
    told[1]["inference_count"] = "6"  # as protobuf has it in JSON
    found = statistics_of({"model_stats": told}, "m")
    assert (found.inferences, found.success) == (8, SaidTime(count=4, total_ns=6))
    assert ModelStatistics().mean_batch is None


@pytest.mark.parametrize("found", [{}, [], {"model_stats": []}, {"model_stats": [{"name": "x"}]}])
def test_what_is_no_statistics_is_told_apart(found):
    with pytest.raises(ValueError):
        statistics_of(found, "m")
