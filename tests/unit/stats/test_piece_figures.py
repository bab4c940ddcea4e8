"""Figures of answers in pieces, and what limits of them say, from logs whose pieces are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import inferload as il
from inferload.log.merge import LogPlace, counted, merged
from inferload.log.piece_times import joined
from inferload.stats.limits.judging import judged_limits
from inferload.stats.limits.limit import Limit, limits_from_texts
from inferload.stats.pieces import piece_figures
from inferload.stats.summary import summarize
from support.streams import MS, log_of_streams


def figures(log: il.CallLog, from_s: float = 0.0) -> il.PieceFigures:
    found = piece_figures(log, summarize(log, (1, 1), from_s=from_s))
    assert found is not None
    return found


def test_figures_are_those_of_the_pieces():
    found = figures(log_of_streams(1000, tokens_a_piece=3))
    assert (found.calls, found.pieces, found.tokens, found.mean_pieces) == (1000, 5000, 15000, 5)
    assert found.pieces_per_s.value == pytest.approx(5000 / 99.945, rel=1e-3)
    assert found.tokens_per_s.value == pytest.approx(3 * found.pieces_per_s.value)
    assert found.first_response_ms.p50.value == 24
    assert found.first_ms.p99.value == 20
    assert (found.gap_ms.count, found.gap_ms.mean) == (4000, 5)
    assert found.call_gap_ms.mean == pytest.approx(20 / 14)


def test_failed_calls_and_those_before_the_cut_do_not_count():
    log = log_of_streams(1000, failed=100)
    assert figures(log).pieces == 4500
    assert (figures(log).broken_calls, figures(log).broken_pieces) == (100, 500)
    assert figures(log, from_s=50.0).calls == 400
    assert figures(log, from_s=50.0).gap_ms.count == 1600


def test_answers_that_are_whole_are_in_no_figure_of_pieces():
    found = figures(log_of_streams(1000, whole=400))
    assert (found.calls, found.empty_calls, found.first_ms.count) == (600, 0, 600)
    log = log_of_streams(10, whole=10)
    assert piece_figures(log, summarize(log, (1, 1))) is None


def test_counted_logs_give_what_raw_ones_do():
    log = log_of_streams(2000, failed=20)
    raw, count = figures(log), figures(counted(log, 2))
    for name in ("first_response_ms", "first_ms", "gap_ms", "call_gap_ms"):
        one, other = getattr(raw, name), getattr(count, name)
        assert (one.count, one.p99.value) == (other.count, pytest.approx(other.p99.value, rel=2e-3))
    assert raw.pieces == count.pieces


def test_a_share_of_the_calls_says_how_many_more_calls_gaps_need():
    found = figures(log_of_streams(40, share=0.5))
    needed = found.gap_ms.more_calls["p9999"]
    kept = found.gap_ms.count / (40 * 4)
    assert needed == pytest.approx((100_000 - found.gap_ms.count) / 4 / kept, rel=0.3)


def test_of_several_logs_the_same_share_of_each_is_kept():
    whole, half = log_of_streams(500), log_of_streams(500, share=0.25)
    places = [LogPlace(callers=2), LogPlace(callers=2, first_caller=2)]
    times = merged(
        list(zip([whole, half], places, strict=True)), (2,), open_loop=True, inputs=2
    ).piece_times
    assert times.share == 0.25
    assert (times.calls["drawn"] < 0.25).all()
    assert set(times.calls["caller"].tolist()) == {0, 1, 2, 3}
    small = joined([whole.piece_times, half.piece_times], most=500)
    assert len(small.times_ns) <= 500
    assert (small.gaps_ns() == 5 * MS).all()


def test_gaps_are_ordered_by_when_they_ended():
    times = log_of_streams(4).piece_times
    of_call = times.times_ns.reshape(-1, 5) + np.arange(4)[:, None] * np.arange(5) * MS
    order = np.array([2, 0, 3, 1])
    shuffled = replace(times, calls=times.calls[order], times_ns=of_call[order].ravel())
    assert (shuffled.gaps_ns() == np.repeat([5, 6, 7, 8], 4) * MS).all()
    assert (shuffled.gaps_ns(from_ns=224 * MS) == np.repeat([7, 8], 4) * MS).all()


@pytest.mark.parametrize(
    ("text", "figure", "of", "shown"),
    [
        ("first p99<=200ms", "first p99", "first", "first p99 <= 200 ms"),
        ("gap  p99.9 <= 5ms", "gap p999", "gap", "gap p99.9 <= 5.00 ms"),
        ("goodput>=20/s", "goodput", "response", "goodput >= 20.0/s"),
    ],
)
def test_limits_of_pieces_are_read_and_written(text, figure, of, shown):
    limit = Limit.from_text(text)
    assert (limit.figure, limit.of, str(limit)) == (figure, of, shown)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("first<=200ms", "write for example p99<=20ms, first p99<=200ms"),
        ("first errors<=1%", "is not understood"),
        ("gap p99>=5ms", "points the wrong way: gap p99 is to be at most"),
        ("goodput<=20/s", "points the wrong way: goodput is to be at least"),
        ("goodput>=20/s", "goodput counts the calls that keep the limits of durations: give one"),
        ("goodput>=20/s,errors<=1%", "give one beside it, such as p99<=200ms"),
    ],
)
def test_limits_of_pieces_that_are_none_are_refused(text, says):
    with pytest.raises(il.PlanError, match=says):
        limits_from_texts([text])


def verdicts(log: il.CallLog, *texts: str, **options: float) -> dict[str, tuple[str, float | None]]:
    found = judged_limits(log, limits_from_texts(texts), **options)
    return {one.limit.name: (one.verdict, one.value) for one in found}


def test_first_piece_and_gap_are_judged_by_their_own_durations():
    log = log_of_streams(2000)
    found = verdicts(log, "first p99<=30ms", "gap p99<=4ms", "p50<=45ms")
    assert found == {
        "first p99": ("kept", 24.0), "gap p99": ("broken", 5.0), "p50": ("kept", 45.0)
    }  # fmt: skip


def test_calls_that_failed_break_limits_of_first_pieces_and_gaps():
    found = verdicts(log_of_streams(2000, failed=200), "first p90<=30ms", "gap p50<=6ms")
    assert found["first p90"][0] == "open"
    assert found["gap p50"] == ("kept", 5.0)
    assert verdicts(log_of_streams(2000, failed=400), "first p90<=30ms")["first p90"] == (
        "broken", None,
    )  # fmt: skip
    assert verdicts(log_of_streams(2000, failed=1200), "gap p50<=6ms")["gap p50"] == (
        "broken", None,
    )  # fmt: skip


def test_goodput_counts_calls_that_keep_every_limit_by_themselves():
    log = log_of_streams(1000)
    slow = log.stages["first_piece_ns"]
    slow[::4] = 60 * MS  # of a quarter the first piece is late
    log.stages["last_piece_ns"][1::4] = 220 * MS  # of another the gaps are long
    found = verdicts(log, "first p50<=30ms", "gap p50<=6ms", "goodput>=4/s", duration_s=100.0)
    assert found["goodput"] == ("kept", 5.0)
    found = verdicts(log, "first p50<=30ms", "gap p50<=6ms", "goodput>=6/s", duration_s=100.0)
    assert found["goodput"] == ("broken", 5.0)


def test_limits_of_pieces_are_refused_where_answers_are_whole():
    log = log_of_streams(100)
    whole = replace(log, answers={}, stages={}, piece_times=None)
    with pytest.raises(il.PlanError, match=r"first p99 <= 30\.0 ms is of answers in pieces"):
        judged_limits(whole, limits_from_texts(["first p99<=30ms"]))
