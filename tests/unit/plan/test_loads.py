from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import inferload as il
from inferload.plan.arrivals import loads
from inferload.plan.arrivals.load_words import load_from_text

DRAWN = [
    il.OpenLoop.constant(300.0),
    il.OpenLoop.poisson(300.0, seed=3),
    il.OpenLoop.gamma(300.0, burstiness=0.2, seed=3),
]


@pytest.mark.parametrize("load", DRAWN, ids=str)
@given(calls=st.integers(1, 3000), more=st.integers(0, 3000))
def test_a_schedule_ascends_and_a_longer_one_begins_the_same(load, calls, more):
    short, longer = load.schedule(calls, None), load.schedule(calls + more, None)
    assert short.calls == len(short.times_ns) == calls
    assert short.times_ns[0] >= 0
    assert (np.diff(longer.times_ns) >= 0).all()
    assert np.array_equal(short.times_ns, longer.times_ns[:calls])


@pytest.mark.parametrize("load", DRAWN, ids=str)
def test_a_schedule_by_duration_has_every_call_due_before_it(load):
    by_time = load.schedule(None, 4.0)
    by_count = load.schedule(by_time.calls + 1, None)
    assert by_time.end_ns < 4e9 <= by_count.end_ns
    assert np.array_equal(by_time.times_ns, by_count.times_ns[:-1])


@pytest.mark.parametrize(("load", "cv"), list(zip(DRAWN, [0, 1, 1 / math.sqrt(0.2)], strict=True)))
def test_arrivals_have_the_rate_and_the_burstiness_asked_for(load, cv):
    between = np.diff(load.schedule(200_000, None).times_ns)
    # the standard error of the mean is cv / sqrt(200,000), at most 0.5 %
    assert between.mean() == pytest.approx(1e9 / 300, rel=0.02)
    assert between.std() / between.mean() == pytest.approx(cv, abs=0.05)


def test_seeds_draw_other_times_and_a_seed_the_same():
    times = [il.OpenLoop.poisson(100, seed=seed).schedule(50, None).times_ns for seed in (1, 1, 2)]
    assert np.array_equal(times[0], times[1])
    assert not np.array_equal(times[0], times[2])


@pytest.mark.parametrize("load", DRAWN, ids=str)
@given(rows=st.integers(1, 2000), time=st.integers(-10, 8 * 10**9))
def test_a_schedule_longer_than_what_is_drawn_goes_on_ascending(load, rows, time):
    before = loads.DRAWN_ARRIVALS
    loads.DRAWN_ARRIVALS = 100
    try:
        found = load.schedule(rows, None)
    finally:
        loads.DRAWN_ARRIVALS = before
    assert len(found.times_ns) <= 100
    due = [found.due_ns(row) for row in range(rows)]
    assert due == sorted(due)
    assert found.due_by(time) == sum(one <= time for one in due)
    # the mean rate goes on as well: constant to the nanosecond, the others as the first 100 have it
    if load.arrivals == "constant":
        assert due[-1] == pytest.approx((rows - 1) * 1e9 / 300, abs=rows / 50 + 1)


def test_times_that_were_recorded_are_replayed_from_the_first_with_a_speed():
    load = il.OpenLoop.replay([5.0, 5.5, 7.0], callers=2, speed=2.0)
    assert load.schedule(None, None).times_ns.tolist() == [0, 250_000_000, 1_000_000_000]
    assert load.schedule(2, None).calls == 2
    assert load.schedule(None, 0.5).calls == 2
    assert load.rate_per_s == pytest.approx(2.0)
    assert str(il.OpenLoop.replay([3.0])) == "open loop, replay"


@pytest.mark.parametrize(
    "text",
    [
        "0\n1\n3\n",
        "time,what\n0,a\n1,b\n3,c\n",
        "  10 \n\n11\n13",
        '"1e0","x"\n2,\n4,y',
        "\ufeff0\n1\n3\n",
        "# seconds\n0\n1\n3\n",
    ],
)
def test_files_of_times_are_read_one_a_line_or_as_csv(tmp_path: Path, text: str):
    path = tmp_path / "times.csv"
    path.write_text(text, encoding="utf-8")
    found = il.OpenLoop.replay(path).schedule(None, None)
    assert found.times_ns.tolist() == [0, 10**9, 3 * 10**9]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no arrival times"),
        ("time\n", "no arrival times"),
        ("0\n2\n1\n", r"must ascend: number 3 is 1 s after 2 s"),
        ("0\nnow\n", "entry 2 is 'now'"),
        ("0;5\n1\n2\n", "entry 1 is '0;5'"),
        ("-1e308\n1e308\n", "within 1e"),
        ("0\ninf\n", "must be finite"),
        ("0\nnan\n", "must be finite"),
    ],
)
def test_files_that_are_no_times_are_refused(tmp_path: Path, text: str, words: str):
    path = tmp_path / "times.csv"
    path.write_text(text)
    with pytest.raises(il.PlanError, match=words):
        il.OpenLoop.replay(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(il.PlanError, match="No such file"):
        il.OpenLoop.replay(tmp_path / "none.csv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(il.PlanError, match="cannot be read"):
        il.OpenLoop.replay(str(tmp_path / "binary"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: il.OpenLoop.poisson(0), "rate_per_s is 0"),
        (lambda: il.OpenLoop.poisson(float("nan")), "rate_per_s is nan"),
        (lambda: il.OpenLoop.poisson(True), "rate_per_s is True"),
        (lambda: il.OpenLoop.poisson(1e12), "at most 1e"),
        (lambda: il.OpenLoop.poisson(10, callers=0), "a whole number from 1 to 10,000"),
        (lambda: il.OpenLoop.poisson(10, seed=-1), "seed is -1"),
        (lambda: il.OpenLoop.gamma(10, burstiness=0), "burstiness is 0"),
        (lambda: il.OpenLoop.constant(10, drain_s=-1), "drain_s is -1"),
        (lambda: il.OpenLoop.replay([]), "no arrival times"),
        (lambda: il.OpenLoop.replay(["x"]), "must be numbers"),
        (lambda: il.OpenLoop.replay([0, 1], speed=0), "speed is 0"),
        (lambda: il.OpenLoop(arrivals="uniform", rate_per_s=1), "arrivals 'uniform'"),
        (lambda: il.OpenLoop.poisson(0.001).schedule(None, 0.001), "no call is due"),
        (lambda: il.OpenLoop.constant(1e-12).schedule(3, None), "more than 30 years"),
        (lambda: il.OpenLoop.poisson(1e-12).schedule(None, 10.0), "no call is due"),
        (lambda: il.OpenLoop.replay([0, 1e9], speed=1e-5), r"after 1e\+14 s"),
    ],
)
def test_loads_that_cannot_be_are_refused_with_the_value(make, words):
    with pytest.raises(il.PlanError, match=words):
        make()


def test_the_words_of_the_command_line_make_loads(tmp_path: Path):
    path = tmp_path / "a:b.csv"
    path.write_text("0\n2\n")
    assert isinstance(load_from_text(None, None, 3, 0), il.ClosedLoop)
    assert str(load_from_text(None, 500, 3, 0)) == "open loop, poisson 500/s"
    assert str(load_from_text("constant", 1e4, 3, 0)) == "open loop, constant 10,000/s"
    assert load_from_text("gamma:0.25", 500, 3, 0).burstiness == 0.25
    assert load_from_text(f"replay:{path}", None, 3, 0).times_s.tolist() == [0, 2]
    assert load_from_text(f"replay:{path}:4x", None, 3, 0).times_s.tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("arrivals", "rate", "words"),
    [
        ("poisson", None, "need a rate"),
        ("uniform", 10, "not understood"),
        ("gamma", 10, "need a shape"),
        ("gamma:much", 10, "need a shape"),
        ("poisson:2", 10, "not understood"),
        ("replay", None, "not understood"),
        ("replay:x.csv", 10, "rate of its file"),
    ],
)
def test_words_that_are_no_load_are_refused(arrivals, rate, words):
    with pytest.raises(il.PlanError, match=words):
        load_from_text(arrivals, rate, 1, 0)


@pytest.mark.parametrize("calls", [4, 1000, 50_000])
@pytest.mark.parametrize(
    "load",
    [il.OpenLoop.constant(1000), il.OpenLoop.poisson(1000), il.OpenLoop.replay([0, 1, 1, 2])],
)
def test_dealt_calls_are_together_the_calls_that_were_asked_for(load, calls, monkeypatch):
    monkeypatch.setattr(loads, "DRAWN_ARRIVALS", 7_001)  # longer schedules repeat
    whole = load.schedule(None if load.arrivals == "replay" else calls, None)
    parts = whole.dealt(4, seed=1)
    due = sorted(part.due_ns(row) for part in parts for row in range(part.calls))
    assert due == [whole.due_ns(row) for row in range(whole.calls)]
    for time_ns in (0, whole.end_ns // 3, whole.end_ns):
        assert sum(part.due_by(time_ns) for part in parts) == whole.due_by(time_ns)


def test_poisson_arrivals_stay_poisson_in_every_process():
    for part in il.OpenLoop.poisson(4000, seed=3).schedule(40_000, None).dealt(4, seed=0):
        between = np.diff(part.times_ns) / 1e9
        # exponential with the quarter of the rate; at p = 1e-4 a false alarm is one seed in 2,500
        assert scipy.stats.kstest(between, "expon", args=(0, 1 / 1000)).pvalue > 1e-4
        assert abs(np.corrcoef(between[:-1], between[1:])[0, 1]) < 4 / len(between) ** 0.5


def test_calls_at_even_distances_stay_so_in_every_process():
    for part in il.OpenLoop.constant(1000).schedule(1001, None).dealt(4, seed=0):
        assert set(np.diff(part.times_ns)) == {4_000_000}


def test_fewer_calls_than_processes_are_refused():
    with pytest.raises(il.PlanError, match="3 calls cannot be dealt to 4 processes"):
        il.OpenLoop.constant(1000).schedule(3, None).dealt(4, seed=0)
