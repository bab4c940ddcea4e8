"""Loads whose rate changes: their words, when their calls are due, and what they cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import inferload as il
from inferload.cli.request.asked import Asked
from inferload.cli.request.run_file import read_run_file
from inferload.plan.arrivals.load_words import load_from_text
from inferload.plan.arrivals.stages import rate_from_text
from inferload.plan.options import RunOptions

RAMP = (
    il.Stage(rate_per_s=50, duration_s=10),
    il.Stage(rate_per_s=50, to_per_s=500, duration_s=60),
    il.Stage(rate_per_s=0, duration_s=5),
    il.Stage(rate_per_s=500, to_per_s=100, duration_s=30),
)


def integral(stages: tuple[il.Stage, ...], times_s: np.ndarray) -> np.ndarray:
    """How many calls are due until each time, in the mean: sums of trapezoids."""
    found = np.zeros(len(times_s))
    begun_s = 0.0
    for one in stages:
        within = np.clip(times_s - begun_s, 0, one.duration_s)
        rate = one.rate_per_s + (one.end_per_s - one.rate_per_s) * within / one.duration_s
        found += (one.rate_per_s + rate) / 2 * within
        begun_s += one.duration_s
    return found


def times_s(load: il.OpenLoop) -> np.ndarray:
    return load.schedule(None, None).times_ns / 1e9


SOME_STAGES = st.lists(
    st.builds(
        il.Stage,
        rate_per_s=st.sampled_from([0, 0.1, 33.3, 700]),
        to_per_s=st.sampled_from([None, 0, 12.5, 500]),
        duration_s=st.sampled_from([0.1, 1 / 3, 2]),
    ),
    min_size=1,
    max_size=6,
).filter(lambda stages: sum(one.calls for one in stages) > 20)


@given(stages=SOME_STAGES)
def test_a_constant_call_is_due_when_the_integral_of_the_rate_reaches_its_number(stages):
    due = times_s(il.OpenLoop.staged(stages, arrivals="constant"))
    total = sum(one.calls for one in stages)
    assert len(due) == math.ceil(round(total, 6))
    assert (np.diff(due) >= 0).all()
    assert due[-1] < sum(one.duration_s for one in stages)
    # times are whole nanoseconds, of at most 700 calls a second
    assert np.abs(integral(tuple(stages), due) - np.arange(len(due))).max() < 1e-5


def test_no_call_is_due_in_a_pause():
    pause = [il.Stage(rate_per_s=rate, duration_s=1) for rate in (0, 10, 0, 10, 0)]
    due = times_s(il.OpenLoop.staged(pause, arrivals="constant"))
    assert due.tolist() == pytest.approx(
        [1 + k / 10 for k in range(10)] + [3 + k / 10 for k in range(10)]
    )
    due = times_s(il.OpenLoop.staged(pause, seed=1))
    assert ((due // 1).astype(int) % 2 == 1).all()


def test_counts_of_a_poisson_ramp_are_those_of_the_integral_and_independent():
    edges = np.linspace(0, 105, 106)
    expected = np.diff(integral(RAMP, edges))
    loads = [il.OpenLoop.staged(RAMP, seed=seed) for seed in range(100)]
    counts = np.array([np.histogram(times_s(load), edges)[0] for load in loads])
    scaled = (counts - expected) / np.sqrt(np.maximum(expected, 1))
    used = scaled[:, expected > 0]
    assert len(used[0]) == 100
    assert (counts[:, expected == 0] == 0).all()
    # the sum of squares of 10,000 independent deviations: 10,000 +- 4.5 standard deviations of
    # sqrt(20,000), which a Poisson count of 50 and more adds less than 1 % to
    assert abs((used**2).sum() - used.size) < 4.5 * math.sqrt(2.02 * used.size)
    # neighbours do not go with each other: the mean product of 9,900 pairs
    products = used[:, 1:] * used[:, :-1]
    assert abs(products.mean()) < 4.5 / math.sqrt(products.size)
    # nor is one second of all runs high or low: 100 means, each of a standard deviation of 0.1
    assert np.abs(used.mean(axis=0)).max() < 0.45


def test_one_stage_of_one_rate_is_the_plain_load():
    stage = il.Stage(rate_per_s=200, duration_s=5)
    for plain in (il.OpenLoop.constant(200), il.OpenLoop.poisson(200, seed=4)):
        load = il.OpenLoop.staged([stage], arrivals=plain.arrivals, seed=4)
        staged = load.schedule(None, None)
        whole = plain.schedule(None, 5.0)
        assert np.abs(staged.times_ns - whole.times_ns).max() <= 1
        assert staged.span_ns == whole.span_ns == 5 * 10**9


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_a_shorter_run_has_the_same_first_calls(arrivals):
    load = il.OpenLoop.staged(RAMP, arrivals=arrivals, seed=3)
    whole = load.schedule(None, None)
    by_time, by_count = load.schedule(None, 30.0), load.schedule(400, None)
    assert np.array_equal(by_time.times_ns, whole.times_ns[: by_time.calls])
    assert by_time.end_ns < 30e9 == by_time.span_ns <= whole.times_ns[by_time.calls]
    assert np.array_equal(by_count.times_ns, whole.times_ns[:400])
    assert by_count.span_ns == whole.times_ns[400]  # when the next one would be due
    assert load.schedule(whole.calls, None).span_ns == whole.span_ns == 105 * 10**9


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_processes_have_all_calls_between_them(arrivals):
    whole = il.OpenLoop.staged(RAMP, arrivals=arrivals).schedule(None, None)
    parts = whole.dealt(4, seed=1)
    assert np.array_equal(np.sort(np.concatenate([one.times_ns for one in parts])), whole.times_ns)
    if arrivals == "constant":  # each of them has every fourth, so that its distances are regular
        for first, one in enumerate(parts):
            numbers = integral(RAMP, one.times_ns / 1e9)
            assert np.abs(numbers - np.arange(first, whole.calls, 4)).max() < 1e-5


def test_stages_in_words_are_read_and_written():
    load = load_from_text(None, "50/10s, 50..500/1m,0/500ms", 2, 7)
    assert load.stages == (*RAMP[:2], il.Stage(rate_per_s=0, duration_s=0.5))
    assert (load.arrivals, load.callers, load.seed) == ("poisson", 2, 7)
    assert str(load) == "open loop, poisson in stages: 50/10s, 50..500/60s, 0/0.5s"
    assert load_from_text("constant", "0.5..1.5/2s", 1, 0).stages[0].end_per_s == 1.5
    many = load_from_text("constant", ",".join(["5/1s"] * 9), 1, 0)
    assert str(many) == "open loop, constant in stages: 5/1s, 5/1s, 5/1s and 6 more"
    assert rate_from_text("1e3") == 1000.0


@pytest.mark.parametrize(
    ("rate", "arrivals", "words"),
    [
        ("fast", None, "rate 'fast' is not understood: write 200, or stages as 50/10s"),
        ("50..500", None, r"'50..500' .* does not say how long it lasts: write 50..500/60s"),
        ("200,300/5s", None, "the stage '200' of rate"),
        ("50../3s", None, "not understood"),
        ("50..5..9/3s", None, "not understood"),
        ("50/soon", None, "duration 'soon' is not understood"),
        ("50/0s", None, "duration '0s' is not understood"),
        ("50..-3/3s", None, "to_per_s of a stage is -3"),
        ("nan..5/3s", None, "rate_per_s of a stage is nan"),
        ("0/3s,0..0/2s", None, "the rate of every stage is 0"),
        ("1e7/1h", None, "the stages have 36,000,000,000 calls, .* ask for 10,000,000 at most"),
        ("50/3s", "gamma:0.5", "arrivals 'gamma' have no rate that changes: choose constant or"),
        ("50/3s", "replay:t.csv", "rate of its file"),
    ],
)
def test_words_that_are_no_stages_are_refused(rate, arrivals, words):
    with pytest.raises(il.PlanError, match=words):
        load_from_text(arrivals, rate, 1, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: il.Stage(rate_per_s=True, duration_s=1), "rate_per_s of a stage is True"),
        (lambda: il.Stage(rate_per_s=1, duration_s=0), "duration_s of a stage is 0"),
        (lambda: il.OpenLoop.staged([]), "there are no stages"),
        (lambda: il.OpenLoop.staged([50]), "a stage is 50: give il.Stage"),
        (lambda: il.OpenLoop.staged(RAMP, arrivals="even"), "arrivals 'even'"),
        (lambda: il.OpenLoop.staged(RAMP[:1] * 1001), "1 to 1,000 stages, and there are 1,001"),
        (
            lambda: il.OpenLoop.staged(RAMP[:1], arrivals="constant").schedule(501, None),
            "501 calls were asked for, and the stages have 500",
        ),
        (lambda: il.OpenLoop.staged(RAMP[2:]).schedule(None, 4.0), "no call is due within 4 s"),
        (lambda: il.OpenLoop.staged(RAMP).at_rate(20, 0), "stages have their own rate"),
    ],
)  # fmt: skip
def test_stages_that_cannot_be_are_refused_with_the_value(make, words):
    with pytest.raises(il.PlanError, match=words):
        make()


def asked(**options: object) -> RunOptions:
    return RunOptions(load=il.OpenLoop.staged(RAMP), **options).checked()


def test_a_run_lasts_as_long_as_its_stages_or_less_and_nothing_of_it_is_cut():
    assert (asked().calls, asked().duration_s, asked().warmup) == (None, 105.0, "fixed")
    assert (asked(calls=9).calls, asked(calls=9).duration_s) == (9, None)
    assert asked(duration_s=30.0).duration_s == 30.0
    assert asked(duration_s=30.0).warmup == "fixed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"duration_s": 120.0}, r"120 s is longer than the stages, .* 105 s: .* as 100/15s"),
        ({"precision": 0.05}, "precision=0.05 is of the figures of one rate"),
        ({"warmup": "auto"}, "warmup 'auto' cuts off"),
    ],
)
def test_what_is_of_one_rate_is_refused(options, words):
    with pytest.raises(il.PlanError, match=words):
        asked(**options)


def test_a_search_sets_the_rate_itself():
    with pytest.raises(il.PlanError, match="a search sets the rate itself, and stages have"):
        il.find_max_rate(torch.neg, [torch.zeros(1)], "p99<=20ms", load=il.OpenLoop.staged(RAMP))


FILE = 'model = "m.py"\n'
TABLES = '[[stages]]\nrate = 50\nduration = 10\n\n[[stages]]\nrate = "50..500"\nduration = "1m"\n'


def test_a_run_file_has_stages_as_tables_and_the_command_line_the_last_word(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(FILE + 'arrivals = "constant"\n' + TABLES)
    words = read_run_file(path).options()
    assert Asked(model="m.py", words=words).options().load.stages == RAMP[:2]
    path.write_text(FILE + "rate = 20\n")
    assert Asked(model="m.py", words=read_run_file(path).options()).options().load.rate_per_s == 20
    path.write_text(FILE + 'rate = "5/1s"\n')
    words = read_run_file(path).options()
    assert Asked(model="m.py", words=words).options().load.stages[0].duration_s == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FILE + "rate = 5\n" + TABLES, r"has rate = ..., and \[\[stages\]\] with rates of their"),
        (FILE + TABLES.replace('duration = "1m"', "time = 3"), "line 8: stages.1.time: there is"),
        (FILE + TABLES + "rats = 3\n", "line 9: stages.1.rats: there is no such key; rate may be"),
        (FILE + TABLES.replace("10", "[1]"), "line 4: stages.0.duration"),
    ],
)  # fmt: skip
def test_tables_that_are_no_stages_are_refused_with_their_line(tmp_path, text, words):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(il.PlanError, match=words):
        read_run_file(path)
