"""How often rules are right: intervals over the truth, flags of runs, comparisons with oneself.

Each function draws its cases from a seed and returns fractions of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.stats.durations import RawDurations
from inferload.stats.intervals import calls_per_independent_one, interval_ranks
from inferload.stats.limits.certificates import certificate_of
from inferload.stats.pairs import paired_ratio
from inferload.stats.steadiness.steady_state import steady_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.stats.pairs import Ratio

    Maker = Callable[[np.random.Generator], np.ndarray]


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


def covered_by_p99_intervals(runs: int = 300) -> tuple[float, float]:
    """Of p99 intervals of M/M/1 queues at 80 % load: by batch means, and as if independent."""
    response = waits(np.random.default_rng(1), runs, 40_000, 0.8) * 1e6
    truth = -np.log(0.01) / 0.2
    hits = np.zeros((2, runs), bool)
    for run in range(runs):
        durations = RawDurations.of(response[:, run].astype(np.int64))
        over, sizes = durations.exceeding(durations.value_of_rank_ms(39_600))
        tau = calls_per_independent_one(over, sizes, 0.99)
        for row, worth in enumerate((tau, 1.0)):
            low, high = interval_ranks(40_000, 0.99, worth)
            hits[row, run] = (
                durations.value_of_rank_ms(low) <= truth <= durations.value_of_rank_ms(high)
            )
    batch_means, independent = hits.mean(axis=1)
    return float(batch_means), float(independent)


def wrongly_certified(calls: int, rho: float, runs: int = 300) -> float:
    """Of runs of M/M/1 queues: p99 certified to be under its true value; 0: no queue, no waits."""
    generator = np.random.default_rng(4)
    if rho:
        response = waits(generator, runs, calls, rho)
    else:
        response = generator.exponential(1.0, (calls, runs))
    truth = -np.log(0.01) / (1 - rho)
    found = [
        certificate_of(RawDurations.of((column * 1e6).astype(np.int64)), 0.99, truth).certified
        for column in response.T
    ]
    return float(np.mean(found))


def covered_of_independent_values(runs: int = 2000) -> float:
    """Of p99 intervals of 10,000 independent values each."""
    values = np.sort(np.random.default_rng(2).random((runs, 10_000)), axis=1)
    low, high = interval_ranks(10_000, 0.99, 1.0)
    return float(((values[:, low - 1] <= 0.99) & (values[:, high - 1] >= 0.99)).mean())


def noisy(generator: np.random.Generator) -> np.ndarray:
    """A flat run: window medians with noise of 0.5 %."""
    return 100 + generator.normal(0, 0.5, 60)


def with_outlier(generator: np.random.Generator) -> np.ndarray:
    """What one call of 50 times the duration does to the median of its window."""
    medians = noisy(generator)
    medians[generator.integers(0, 60)] *= 1.02
    return medians


def drifting(generator: np.random.Generator) -> np.ndarray:
    """5 % over the run."""
    return noisy(generator) * np.linspace(1, 1.05, 60)


def stepping(generator: np.random.Generator) -> np.ndarray:
    """10 % from two thirds on."""
    return noisy(generator) * np.where(np.arange(60) < 40, 1, 1.1)


def correlated(generator: np.random.Generator) -> np.ndarray:
    """AR(1) noise of coefficient 0.5 and 1 %."""
    noise = np.zeros(60)
    for k in range(1, 60):
        noise[k] = 0.5 * noise[k - 1] + generator.normal(0, 1.0)
    return 100 + noise


def flagged(make: Maker, runs: int = 200) -> float:
    """Of runs with such window medians: flagged unsteady."""
    generator = np.random.default_rng(5)
    starts = np.arange(60.0)
    return float(np.mean([not steady_state(make(generator), starts).steady for _ in range(runs)]))


def with_itself(comparisons: int = 1000) -> list[Ratio]:
    """Ten pairs of medians of the same queue, so many times."""
    generator = np.random.default_rng(6)
    runs = 20 * comparisons
    medians = np.median(waits(generator, runs, 400, 0.5), axis=0).reshape(comparisons, 20)
    return [paired_ratio(row[:10], row[10:]) for row in medians]
