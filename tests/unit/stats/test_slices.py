"""Figures of slices: quantiles, ratios of pairs of processes, and all of them judged together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inferload.stats.slices.judging import ERROR, holm, judged_together
from inferload.stats.slices.looks import OF_STUDENT, levels_of_looks
from inferload.stats.slices.ratios import middle, pair_figures
from inferload.stats.slices.slice import Slice, fewest_calls, quantile_ns
from inferload.stats.slices.states import state_s


def of_times(times_ns, began_ns=0, items=1, callers=1) -> Slice:
    """Calls of so many callers in turn, one after another each."""
    times = np.asarray(times_ns, np.int64)
    caller = np.arange(len(times)) % callers
    started = np.zeros(len(times), np.int64)
    for one in range(callers):
        own = caller == one
        started[own] = began_ns + np.cumsum(times[own]) - times[own]
    return Slice.of(
        began_ns, caller, np.full(len(times), items, np.int64), started, started + times
    )


def test_throughput_is_that_of_each_caller_until_its_own_last_call():
    # two calls of 10 ms beside three of 8 ms: 200/s and 125/s, whoever waits for whom at the end
    times = [10_000_000, 8_000_000, 10_000_000, 8_000_000, 8_000_000]
    caller = np.array([0, 1, 0, 1, 1])
    started = np.array([0, 0, 10, 8, 16]) * 1_000_000
    found = Slice.of(0, caller, np.full(5, 4), started, started + np.array(times))
    assert found.items_per_s == pytest.approx(4 * (100 + 125))
    assert found.calls == 5
    assert found.mean_s == pytest.approx(np.mean(times) / 1e9, rel=1e-3)


@pytest.mark.parametrize("scale", [40, 5_000, 3_000_000])
def test_quantiles_of_slices_together_are_those_of_all_their_times(scale):
    rng = np.random.default_rng(7)
    times = [rng.gamma(4.0, scale, 2_000).astype(np.int64) for _ in range(5)]
    slices = [of_times(one) for one in times]
    together = np.concatenate(times)
    for q in (0.5, 0.9, 0.99):
        # within a bucket, or half a nanosecond
        assert quantile_ns(slices, q) == pytest.approx(np.quantile(together, q), rel=2e-3, abs=1)


def test_medians_of_quick_calls_are_no_whole_numbers():
    """Of 60 ns and 61 ns in other shares: whole numbers would differ by 0 or by 1.6 %."""
    first = of_times([60] * 600 + [61] * 400)
    second = of_times([60] * 500 + [61] * 500)
    assert 60 < quantile_ns([first], 0.5) < quantile_ns([second], 0.5) <= 61
    assert quantile_ns([second], 0.5) / quantile_ns([first], 0.5) < 1.005


def test_a_pair_of_processes_tells_what_it_has_calls_for():
    assert [fewest_calls(q) for q in (0.5, 0.9, 0.99, 0.999)] == [20, 100, 1000, 10_000]
    a = [of_times([1_000_000] * 30) for _ in range(8)]
    b = [of_times([1_100_000] * 27) for _ in range(8)]
    found = {one.figure: one for one in pair_figures(a, b)}
    assert set(found) == {"throughput", "p50", "p90", "p95"}
    assert found["throughput"].groups == found["p50"].groups == 8
    assert found["p90"].groups == 2  # 4 slices of B have 108 calls
    assert found["p95"].groups == 1
    assert math.exp(found["throughput"].log_ratio) == pytest.approx(1 / 1.1)
    assert math.exp(found["p90"].log_ratio) == pytest.approx(1.1, rel=1e-3)
    assert found["p50"].a == pytest.approx(1.0, rel=1e-3)
    with pytest.raises(ValueError, match="8 and 7 slices are no pairs"):
        pair_figures(a, b[:7])


def test_what_a_neighbour_does_to_a_slice_is_left_out():
    values = np.zeros(20)
    values[3] = 5.0
    assert middle(values) == 0.0
    assert middle(np.array([1.0, 2.0, 6.0])) == 3.0  # of few, nothing is


def test_holm_goes_on_as_long_as_it_rejects():
    assert holm({"a": 0.01, "b": 0.02, "c": 0.05}) == {"a", "b", "c"}
    assert holm({"a": 0.02, "b": 0.021, "c": 0.022}) == set()
    assert holm({"a": 0.001, "b": 0.03, "c": 0.9}) == {"a"}


@pytest.mark.parametrize(
    ("looks", "bounds"),
    [  # Lan and DeMets in the manner of O'Brien and Fleming, as in tables of Jennison and Turnbull
        (2, [2.963, 1.969]),
        (4, [4.333, 2.963, 2.359, 2.014]),
        (5, [4.877, 3.357, 2.680, 2.290, 2.031]),
    ],
)
def test_bounds_of_looks_are_those_of_the_tables(looks, bounds):
    from scipy import stats

    levels = levels_of_looks([(one + 1) / looks for one in range(looks)])
    found = [float(stats.norm.isf(level / 2)) for level in levels]
    assert found == pytest.approx(bounds, abs=0.006)


def test_looks_that_do_not_ascend_are_refused():
    for wrong in ([], [0.5], [1.0, 1.0], [0.8, 0.4, 1.0]):
        with pytest.raises(ValueError, match="do not ascend to 1"):
            levels_of_looks(wrong)


def draws(count, pairs, figures, rng):
    """Log ratios between equals, heavy-tailed, figures of a pair alike."""
    common = rng.standard_t(4, (count, pairs, 1))
    return 0.02 * (0.7 * common + 0.7 * rng.standard_t(4, (count, pairs, figures)))


def test_of_equals_something_is_claimed_in_five_of_a_hundred_at_most():
    rng = np.random.default_rng(11)
    values = draws(3000, 8, 5, rng)
    claims = [
        any(
            one.claimed
            for one in judged_together({str(n): own[:, n].tolist() for n in range(5)}).values()
        )
        for own in values
    ]
    assert np.mean(claims) <= ERROR + 0.01
    assert np.mean(claims) > 0.005  # it is no test that never claims


@pytest.mark.parametrize("looks", [(6, 12), (6, 8, 10, 12), tuple(range(6, 21, 2))])
def test_looks_keep_the_error_that_one_look_has(looks):
    from scipy import stats

    rng = np.random.default_rng(12)
    levels = levels_of_looks([one / looks[-1] for one in looks], OF_STUDENT * ERROR)
    values = rng.standard_normal((40_000, looks[-1]))
    rejected = np.zeros(len(values), bool)
    for place, count in enumerate(looks):
        own = values[:, :count]
        t = own.mean(1) / own.std(1, ddof=1) * math.sqrt(count)
        rejected |= 2 * stats.t.sf(np.abs(t), count - 1) <= levels[place]
    assert 0.042 < rejected.mean() < 0.053  # 0.05, and three standard errors


def test_a_difference_is_found_with_its_interval_and_what_could_have_been():
    rng = np.random.default_rng(13)
    logs = {"throughput": (-0.05 + 0.01 * rng.standard_normal(10)).tolist()}
    found = judged_together(logs)["throughput"]
    assert found.claimed
    assert found.low < math.exp(-0.05) < found.high < 1
    assert found.pairs == 10
    assert 0.005 < found.detectable_log < 0.03
    same = judged_together({"p50": [0.0] * 6})["p50"]
    assert (same.value, same.low, same.high, same.p, same.claimed) == (1, 1, 1, 1, False)


def test_less_than_a_percent_is_no_claim_however_certain():
    found = judged_together({"p50": [0.005 + 1e-5 * n for n in range(6)]})["p50"]
    assert found.low > 1
    assert not found.claimed


def test_a_machine_keeps_its_pace_for_as_long_as_slices_are_alike():
    rng = np.random.default_rng(5)
    each_ns = 50_000_000

    def slices(lasts):
        pace = np.repeat(rng.choice([1.0, 0.6], 60 // lasts + 1), lasts)[:60]
        return {
            side: [
                of_times([int(1e6 / pace[n])] * 20, began_ns=n * each_ns) for n in range(s, 60, 2)
            ]
            for s, side in enumerate("ab")
        }

    assert state_s(slices(20)) > 0.15
    assert state_s(slices(1)) is None  # neighbours are not alike
    assert state_s({"a": [of_times([1000])], "b": []}) is None  # too few
