"""The Universal Scalability Law: recovered where it holds, not told where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from inferload.studies.usl import fitted_usl, usl


def measured(counts, law, noise=0.02, repeats=3, seed=0):
    callers = np.repeat(np.asarray(counts), repeats)
    drawn = np.random.default_rng(seed).standard_normal(len(callers))
    return callers.tolist(), (usl(callers.astype(float), *law) * (1 + noise * drawn)).tolist()


def test_the_law_is_what_gunther_wrote():
    assert usl(np.array([1.0, 4.0]), 100, 0.1, 0.01).tolist() == pytest.approx(
        [100, 100 * 4 / (1 + 0.1 * 3 + 0.01 * 4 * 3)]
    )


@pytest.mark.slow
def test_its_numbers_and_its_peak_are_recovered_where_the_sweep_goes_beyond_it():
    inside = 0
    for seed in range(10):
        found = fitted_usl(*measured(range(1, 49, 3), (100, 0.05, 0.002), seed=seed))
        peak = found.peak_callers
        assert peak.value == pytest.approx((0.95 / 0.002) ** 0.5, rel=0.08)
        inside += peak.low <= (0.95 / 0.002) ** 0.5 <= peak.high
    assert inside >= 7  # of 10 intervals of 95 %, 7 or more cover in 99.9 % of cases
    assert found.error_fraction == pytest.approx(0.02, rel=0.4)


@pytest.mark.slow
def test_a_peak_that_the_sweep_did_not_reach_is_not_told():
    # the true one lies at 44, and of 16 callers it comes back as anything
    for seed in range(10):
        law = (100, 0.02, 0.98 / 44**2)
        found = fitted_usl(*measured(range(1, 17), law, seed=seed))
        assert found.peak_callers is None
        assert "do not show a peak" in found.no_peak or "not go far enough" in found.no_peak


def test_a_law_without_a_peak_says_so():
    found = fitted_usl(*measured(range(1, 17), (100, 0.2, 0.0), noise=0.0))
    assert "do not show a peak: throughput levels off" in found.no_peak
    assert found.contention.value == pytest.approx(0.2, rel=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_throughput_that_is_flat_over_callers_has_no_peak(noise):
    # as of a model that holds the GIL: contention 1, coherency 0
    found = fitted_usl(*measured(range(1, 7), (100, 1.0, 0.0), noise=noise))
    assert found.peak_callers is None
    for one in (found.rate_of_one_per_s, found.contention, found.coherency):
        assert one.low - 1e-6 <= one.value <= one.high + 1e-6


@pytest.mark.parametrize(
    ("callers", "rates", "says"),
    [
        ([1, 2, 3, 4, 5], [1.0, 2, 3, 4, 5], "needs 6 numbers of callers, and there are 5"),
        ([1, 2, 3, 4, 5, 6], [1.0, 2, 3, 0, 5, 6], "needs rates above 0"),
        ([1, 2, 3, 4, 5, 6], [100.0, 40, 90, 20, 110, 30], "does not describe these rates"),
    ],
)
def test_what_it_cannot_describe_is_refused(callers, rates, says):
    found = fitted_usl(callers, rates)
    assert isinstance(found, str)
    assert says in found
