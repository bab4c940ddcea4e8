"""What a server counted, in a table."""

from __future__ import annotations

from types import SimpleNamespace

import inferload as il
from inferload.report.text.run import plain_text
from inferload.report.text.servers import said_tables

TIMES = {"p50": 2.0, "p90": 7.0, "p99": None, "smallest": 5.0, "largest": 1000.0}


def told(*said: il.ServerSaid) -> list[str]:
    specs = [
        il.ServerSpec(url=f"http://h/{n}", protocol="p", http="1", connections="kept")
        for n in range(len(said))
    ]
    result = SimpleNamespace(
        servers=[il.ServerFigures(said=one) for one in said],
        spec=SimpleNamespace(servers=specs, ranks=1),
    )
    return [" ".join(plain_text(one).split()) for one in said_tables(result)]


def metric(name: str, kind: str, value: float, **more) -> il.SaidMetric:
    return il.SaidMetric(name=name, kind=kind, value=value, **more)


def test_quantiles_are_told_no_finer_than_the_buckets_are():
    one = metric("wait_seconds", "histogram", 9, unit="ms", mean=1.25, **TIMES)
    (text,) = told(il.ServerSaid(metrics=(one,)))
    assert "wait_seconds 9 1.25 ms <=5.00 ms 7.00 ms >1.00 s" in text
    assert "estimates by buckets" in text


def test_counters_and_gauges_have_their_units():
    metrics = (
        metric("sent_bytes_total", "counter", 4096, unit="B", labels=(("to", "a"),)),
        metric("busy_seconds_total", "counter", 1500, unit="ms", mean=3.0),
        metric("depth", "gauge", 0.25),
    )
    (text,) = told(il.ServerSaid(metrics=metrics, metrics_left=2))
    assert "sent_bytes_total (to=a) 4.0 KiB" in text
    assert "busy_seconds_total 1.50 s 3.00 ms" in text
    assert "depth, at last 0.25" in text
    assert "2 more metrics moved" in text
    assert "buckets" not in text


def test_batches_are_told_with_their_shares():
    statistics = il.ModelStatistics(
        inferences=50,
        executions=20,
        success=il.SaidTime(count=50, total_ns=100_000_000),
        queue=il.SaidTime(count=50, total_ns=25_000_000),
        batches=((1, 5), (3, 15)),
    )
    (text,) = told(il.ServerSaid(statistics=statistics))
    assert "requests answered 50 2.00 ms waiting in the queue 50 500 us" in text
    assert "executions, samples in each 20 2.50 batches of 3 15 75.0% batches of 1 5 25.0%" in text


def test_what_models_of_one_server_share_is_told_once_and_each_by_its_name():
    shared = metric("a_total", "counter", 3)
    first, second = told(
        il.ServerSaid(metrics=(shared,)),
        il.ServerSaid(metrics=(shared, metric("b_total", "counter", 4))),
    )
    assert "http://h/0 says" in first
    assert "a_total 3" in first
    assert "a_total" not in second
    assert "b_total 4" in second
