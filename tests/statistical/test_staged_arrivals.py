"""Arrivals at a rate that changes: held against their integral, and against thinning by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import inferload as il

STAGES = (
    il.Stage(rate_per_s=20, to_per_s=200, duration_s=6),
    il.Stage(rate_per_s=0, duration_s=1),
    il.Stage(rate_per_s=150, duration_s=2),
    il.Stage(rate_per_s=150, to_per_s=0, duration_s=3),
)
LENGTH_S, CALLS = 12.0, 660 + 300 + 225
SEEDS = range(400)


def drawn_s(seed: int) -> np.ndarray:
    return il.OpenLoop.staged(STAGES, seed=seed).schedule(None, None).times_ns / 1e9


def rate_at(times_s: np.ndarray) -> np.ndarray:
    """The rate over time, of the corners of its line."""
    corners_s = [0, 6, 6, 7, 7, 9, 9, 12]
    return np.interp(times_s, corners_s, [20, 200, 0, 0, 150, 150, 150, 0])


def thinned_s(seed: int) -> np.ndarray:
    """Lewis & Shedler: points at the highest rate, each kept with the share of the rate there."""
    generator = np.random.default_rng([seed, 1])
    points = np.sort(generator.uniform(0, LENGTH_S, generator.poisson(200 * LENGTH_S)))
    return points[generator.uniform(0, 200, len(points)) < rate_at(points)]


@pytest.mark.parametrize("draw", [drawn_s, thinned_s])
def test_numbers_of_calls_are_poisson_with_the_integral_as_their_mean(draw):
    counts = np.array([len(draw(seed)) for seed in SEEDS])
    # of 400 runs the mean is within 4 standard errors, and the sum of squares is chi-squared
    assert abs(counts.mean() - CALLS) < 4 * (CALLS / len(SEEDS)) ** 0.5
    dispersion = ((counts - counts.mean()) ** 2).sum() / CALLS
    low, high = scipy.stats.chi2.ppf([1e-4, 1 - 1e-4], len(SEEDS) - 1)
    assert low < dispersion < high


def test_windows_of_one_run_do_not_go_with_each_other():
    edges = np.arange(0, LENGTH_S + 0.5, 0.5)
    counts = np.array([np.histogram(drawn_s(seed), edges)[0] for seed in SEEDS])
    used = counts[:, counts.any(axis=0)]
    found = np.corrcoef(used.T)[np.triu_indices(used.shape[1], 1)]
    # of 400 independent pairs a correlation has a standard deviation of 1 / 20: of 231 of them
    # none is beyond 4.5 times that but by a chance of 0.2 %
    assert len(found) == 231
    assert np.abs(found).max() < 4.5 / len(SEEDS) ** 0.5


def test_times_have_the_distribution_of_thinning():
    ours, theirs = (np.concatenate([draw(n) for n in SEEDS]) for draw in (drawn_s, thinned_s))
    # given their number, times are independent draws from the rate: at p = 1e-4 one seed in 10,000
    assert scipy.stats.ks_2samp(ours, theirs).pvalue > 1e-4
    grid = np.linspace(0, LENGTH_S, 120_001)
    share = np.concatenate([[0], np.cumsum(rate_at((grid[1:] + grid[:-1]) / 2))])
    assert scipy.stats.kstest(np.interp(ours, grid, share / share[-1]), "uniform").pvalue > 1e-4
