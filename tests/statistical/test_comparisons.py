"""How often a comparison finds what is not there, and what is."""

from __future__ import annotations

import numpy as np
import pytest

from inferload.stats.pairs import paired_ratio
from inferload.studies.differences import of_pairs, of_summaries
from support.queueing import result_of, simulated_queue


def summary(seed, factor: float = 1.0, calls: int = 20_000):
    """One run of M/M/1 at half load, in virtual time."""
    drawn = np.random.default_rng(seed)
    due_s = np.cumsum(drawn.exponential(1 / 50, calls))
    log = simulated_queue(due_s, factor * drawn.exponential(0.01, calls), 1)
    return result_of(log).summary


def verdict(differences, figure: str) -> str:
    (found,) = [one.verdict for one in differences if one.figure == figure]
    return found


def test_two_runs_of_the_same_differ_in_five_of_a_hundred():
    found = [
        verdict(of_summaries(summary([1, n]), summary([2, n])), "p50") != "no difference found"
        for n in range(200)
    ]
    assert 0.03 <= np.mean(found) <= 0.07


def noisy(summary, generator, noise: float, factor: float = 1.0):
    """The summary of a run whose machine was off by chance."""
    from dataclasses import replace

    value = factor * float(np.exp(noise * generator.standard_normal()))
    response = summary.response_ms
    p50 = replace(response.p50, value=response.p50.value * value)
    return replace(summary, response_ms=replace(response, p50=p50))


@pytest.fixture(scope="module")
def one_run():
    return summary([0, 0])


@pytest.mark.parametrize(
    ("factor", "pairs", "noise", "least", "most"),
    [
        (1.0, 10, 0.02, 0.03, 0.07),  # the same target twice
        (1.0, 20, 0.02, 0.03, 0.07),
        (1.03, 20, 0.02, 0.90, 1.0),  # 3 % slower, 2 % noise in every run
    ],
)
def test_pairs_find_what_is_there_and_rarely_what_is_not(
    one_run, factor, pairs, noise, least, most
):
    generator = np.random.default_rng(5)
    found = []
    for _ in range(1000 if factor == 1 else 200):
        drift = np.exp(0.02 * np.cumsum(generator.standard_normal(pairs)))  # both sides share it
        a = [noisy(one_run, generator, noise, one) for one in drift]
        b = [noisy(one_run, generator, noise, factor * one) for one in drift]
        found.append(verdict(of_pairs(a, b), "p50") != "no difference found")
    assert least <= np.mean(found) <= most


def test_intervals_that_exclude_a_percent_would_miss_more():
    generator = np.random.default_rng(0)
    strict, claimed = 0, 0
    for _ in range(1000):
        a, b = np.exp(0.02 * generator.standard_normal((2, 20)))
        found = paired_ratio(a, 1.03 * b)
        strict += found.differs
        claimed += not found.low <= 1 <= found.high and abs(found.value - 1) > 0.01
    assert strict < 870
    assert claimed > 970
