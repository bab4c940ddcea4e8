"""How often intervals cover the truth, and how often rules raise a false alarm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferload.intervals import (
    calls_per_independent_one,
    calls_to_certify,
    interval_ranks,
    mean_interval,
)
from inferload.pairs import paired_ratio
from inferload.samples import RawDurations
from inferload.steady_state import kendall_p, steady_state, theil_sen_slope


def waits(generator: np.random.Generator, runs: int, calls: int, rho: float) -> np.ndarray:
    """Response times of M/M/1 queues with mean service 1, begun in their steady state."""
    service = generator.exponential(1.0, (calls, runs))
    between = generator.exponential(1 / rho, (calls, runs))
    # the wait of an arrival is 0 with probability 1 - rho, else exponential (Kleinrock, 5.117)
    wait = generator.exponential(1 / (1 - rho), runs) * (generator.random(runs) < rho)
    response = np.empty((calls, runs))
    for k in range(calls):
        response[k] = wait + service[k]
        wait = np.maximum(response[k] - between[k], 0)
    return response


def test_the_p99_interval_of_a_queue_at_80_percent_load_covers_the_truth():
    response = waits(np.random.default_rng(1), 300, 40_000, 0.8) * 1e6
    truth = -np.log(0.01) / 0.2
    covered, naive = [], []
    for run in range(300):
        values = response[:, run].astype(np.int64)
        durations = RawDurations(values)
        over, sizes = durations.exceeding(durations.value_of_rank_ms(39_600))
        tau = calls_per_independent_one(over, sizes, 0.99)
        for worth, hits in ((tau, covered), (1.0, naive)):
            low, high = interval_ranks(40_000, 0.99, worth)
            hits.append(
                durations.value_of_rank_ms(low) <= truth <= durations.value_of_rank_ms(high)
            )
    # 93 % of 300 with a standard error of 1.5 %; taken for independent it is far below
    assert np.mean(covered) == pytest.approx(0.93, abs=0.045)
    assert np.mean(naive) < 0.3


def test_the_interval_of_independent_values_covers_as_often_as_it_says():
    generator = np.random.default_rng(2)
    assert interval_ranks(10_000, 0.99, 1.0) == (9880, 9920)
    values = np.sort(generator.random((2000, 10_000)), axis=1)
    covered = (values[:, 9879] <= 0.99) & (values[:, 9919] >= 0.99)
    # .956, standard error .0046
    assert covered.mean() == pytest.approx(0.956, abs=0.014)


def test_the_interval_of_a_mean_covers_as_often_as_it_says():
    generator = np.random.default_rng(3)
    found = [mean_interval(generator.exponential(1.0, 40)) for _ in range(2000)]
    # exponential batches are skewed: a little under 95 %, standard error 0.5 %
    assert np.mean([low <= 1 <= high for low, high in found]) == pytest.approx(0.945, abs=0.02)


def flagged(make, times: int = 200) -> float:
    generator = np.random.default_rng(5)
    starts = np.arange(60.0)
    return float(np.mean([not steady_state(make(generator), starts).steady for _ in range(times)]))


def test_steady_runs_are_rarely_flagged_and_unsteady_ones_always():
    def noisy(generator: np.random.Generator) -> np.ndarray:
        return 100 + generator.normal(0, 0.5, 60)

    def outlier(generator: np.random.Generator) -> np.ndarray:
        medians = noisy(generator)
        medians[generator.integers(0, 60)] *= 1.02  # what one x50 outlier does to a median
        return medians

    def correlated(generator: np.random.Generator) -> np.ndarray:
        noise = np.zeros(60)
        for k in range(1, 60):
            noise[k] = 0.5 * noise[k - 1] + generator.normal(0, 1.0)
        return 100 + noise

    assert flagged(noisy) <= 0.02
    assert flagged(outlier) <= 0.03
    assert flagged(lambda g: noisy(g) * np.linspace(1, 1.05, 60)) == 1.0
    assert flagged(lambda g: noisy(g) * np.where(np.arange(60) < 40, 1, 1.1)) == 1.0
    assert flagged(correlated) <= 0.12


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


def test_a_flat_run_is_not_cut():
    assert steady_state(np.full(60, 5.0), np.arange(60.0)).cut_windows == 0


def test_comparing_a_target_with_itself_is_rejected_as_often_as_it_says():
    generator = np.random.default_rng(6)
    medians = np.median(waits(generator, 20_000, 400, 0.5), axis=0).reshape(1000, 20)
    found = [paired_ratio(row[:10], row[10:]) for row in medians]
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


def test_the_detectable_difference_is_found_in_four_of_five_cases():
    generator = np.random.default_rng(8)
    first = np.exp(generator.normal(0, 0.05, (1000, 10)))
    second = np.exp(generator.normal(0, 0.05, (1000, 10)))
    typical = np.median(
        [paired_ratio(a, b).detectable_fraction for a, b in zip(first, second, strict=True)]
    )
    hits = [
        paired_ratio(a, b * (1 + typical)).p_t < 0.05 for a, b in zip(first, second, strict=True)
    ]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(
    ("a", "b"), [([1.0] * 9, [1.0] * 9), ([1.0] * 10, [1.0] * 11), ([0.0] * 10, [1.0] * 10)]
)
def test_figures_that_cannot_be_compared_are_refused(a, b):
    with pytest.raises(ValueError, match=r"pairs|positive"):
        paired_ratio(a, b)


@settings(max_examples=50)
@given(over=st.integers(0, 40), q=st.sampled_from([0.9, 0.95, 0.99]))
def test_a_certificate_is_wrong_at_most_once_in_a_hundred(over, q):
    from scipy import stats

    calls = calls_to_certify(q, over)
    # with the quantile exactly at the limit, so few calls over it are that rare
    assert stats.binom.cdf(over, calls, 1 - q) <= 0.01
    assert stats.binom.cdf(over, calls - 1, 1 - q) > 0.01
