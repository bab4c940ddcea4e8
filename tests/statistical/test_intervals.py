"""How often intervals cover the truth, and how often rules raise a false alarm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferload.stats.durations import RawDurations
from inferload.stats.intervals import calls_to_certify, interval_ranks, mean_interval
from inferload.stats.limits.certificates import certificate_of
from inferload.stats.pairs import paired_ratio
from inferload.stats.steadiness.steady_state import kendall_p, steady_state, theil_sen_slope
from support import rates


def test_the_p99_interval_of_a_queue_at_80_percent_load_covers_the_truth():
    batch_means, independent = rates.covered_by_p99_intervals()
    # 93 % of 300 with a standard error of 1.5 %; taken for independent it is far below
    assert batch_means == pytest.approx(0.93, abs=0.045)
    assert independent < 0.3


def test_the_interval_of_independent_values_covers_as_often_as_it_says():
    assert interval_ranks(10_000, 0.99, 1.0) == (9880, 9920)
    # .956, standard error .0046
    assert rates.covered_of_independent_values() == pytest.approx(0.956, abs=0.014)


def test_the_interval_of_a_mean_covers_as_often_as_it_says():
    generator = np.random.default_rng(3)
    found = [mean_interval(generator.exponential(1.0, 40)) for _ in range(2000)]
    # exponential batches are skewed: a little under 95 %, standard error 0.5 %
    assert np.mean([low <= 1 <= high for low, high in found]) == pytest.approx(0.945, abs=0.02)


def test_steady_runs_are_rarely_flagged_and_unsteady_ones_always():
    assert rates.flagged(rates.noisy) <= 0.02
    assert rates.flagged(rates.with_outlier) <= 0.03
    assert rates.flagged(rates.drifting) == 1.0
    assert rates.flagged(rates.stepping) == 1.0
    assert rates.flagged(rates.correlated) <= 0.12


def test_trends_are_judged_as_scipy_judges_them():
    from scipy import stats

    generator = np.random.default_rng(9)
    for _ in range(50):
        values = np.round(generator.normal(0, 1, 40) + np.arange(40) * 0.02, 1)
        expected = stats.kendalltau(np.arange(40), values, method="asymptotic").pvalue
        assert kendall_p(values) == pytest.approx(expected, rel=1e-6)
        assert theil_sen_slope(values) == pytest.approx(stats.theilslopes(values).slope)


def test_a_stall_in_the_first_half_is_not_taken_for_warm_up():
    generator = np.random.default_rng(10)
    medians = 100 + generator.normal(0, 0.5, 60)
    medians[15:19] = 5000
    found = steady_state(medians, np.arange(60.0))
    assert (found.cut_windows, found.cut_s) == (0, 0.0)
    warming_up = 100 + generator.normal(0, 0.5, 60)
    warming_up[:7] += 50
    assert steady_state(warming_up, np.arange(60.0)).cut_windows == 7


def test_a_run_that_settles_after_its_middle_is_unsteady():
    # no trend: the first 36 windows jump up and down around where the rest lie
    medians = np.full(60, 100.0)
    medians[:36] += np.tile([5.0, -5.0], 18)
    found = steady_state(medians, np.arange(60.0))
    assert (found.cut_windows, found.steady) == (30, False)
    medians[24:36] = 100.0
    assert steady_state(medians, np.arange(60.0)).steady


def test_a_flat_run_is_not_cut():
    assert steady_state(np.full(60, 5.0), np.arange(60.0)).cut_windows == 0


def test_comparing_a_target_with_itself_is_rejected_as_often_as_it_says():
    found = rates.with_itself()
    # .05 of 1,000: standard error .7 %, so 3.6 to 6.4 %
    assert 0.036 <= np.mean([one.p_t < 0.05 for one in found]) <= 0.064
    assert 0.025 <= np.mean([one.p_wilcoxon < 0.05 for one in found]) <= 0.064
    assert np.mean([one.differs for one in found]) < 0.064


def test_a_difference_between_pairs_is_found_and_a_drift_they_share_is_not():
    generator = np.random.default_rng(7)
    drift = np.linspace(1, 1.5, 12)
    noise = generator.normal(1, 0.005, (2, 12))
    found = paired_ratio(drift * noise[0], 1.05 * drift * noise[1])
    assert found.differs
    assert found.low < 1.05 < found.high
    assert not paired_ratio(drift * noise[0], drift * noise[1]).differs
    assert paired_ratio([1.0] * 10, [1.0] * 10).p_t == 1.0


@pytest.mark.parametrize("noise", [0.05, 0.005])  # with little of it the rule of 1 % decides
def test_the_detectable_difference_is_claimed_in_four_of_five_cases(noise):
    generator = np.random.default_rng(8)
    first, second = np.exp(generator.normal(0, noise, (2, 1000, 10)))
    typical = np.median(
        [paired_ratio(a, b).detectable_log for a, b in zip(first, second, strict=True)]
    )
    found = [paired_ratio(a, b * np.exp(typical)) for a, b in zip(first, second, strict=True)]
    assert np.mean([one.low > 1 and one.value > 1.01 for one in found]) == pytest.approx(
        0.8, abs=0.06
    )


@pytest.mark.parametrize(
    ("a", "b"), [([1.0] * 9, [1.0] * 9), ([1.0] * 10, [1.0] * 11), ([0.0] * 10, [1.0] * 10)]
)
def test_figures_that_cannot_be_compared_are_refused(a, b):
    with pytest.raises(ValueError, match=r"pairs|positive"):
        paired_ratio(a, b)


@pytest.mark.parametrize(("calls", "rho"), [(500, 0), (2000, 0.5), (2000, 0.8), (10_000, 0.8)])
def test_a_certificate_of_calls_that_queue_is_wrong_no_more_often(calls, rho):
    # 1 % of 300 has a standard error of .6 %; taken for independent it is 3 to 70 %
    assert rates.wrongly_certified(calls, rho) <= 0.03


def test_a_certificate_counts_calls_that_were_lost_as_over_the_limit():
    durations = RawDurations.of(np.tile(np.arange(1, 11), 60) * 1_000_000)
    found = certificate_of(durations, 0.99, 100.0)
    assert (found.calls, found.over, found.needed_calls, found.certified) == (600, 0, 459, True)
    lost = certificate_of(durations, 0.99, 100.0, lost=1)
    assert (lost.calls, lost.over, lost.needed_calls, lost.certified) == (601, 1, 662, False)
    over = certificate_of(durations, 0.99, 9.0)
    assert (over.over, over.certified) == (60, False)


@settings(max_examples=50)
@given(over=st.integers(0, 40), q=st.sampled_from([0.9, 0.95, 0.99]))
def test_a_certificate_is_wrong_at_most_once_in_a_hundred(over, q):
    from scipy import stats

    calls = calls_to_certify(q, over)
    # with the quantile exactly at the limit, so few calls over it are that rare
    assert stats.binom.cdf(over, calls, 1 - q) <= 0.01
    assert stats.binom.cdf(over, calls - 1, 1 - q) > 0.01
