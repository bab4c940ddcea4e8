"""How throughput grows with callers: Gunther's Universal Scalability Law, fitted with intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inferload.records.distribution import Estimate
from inferload.studies.records.sweep import UslFit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from inferload.log.arrays import Floats

FEWEST_POINTS = 6
# A law that misses the measured rates by more, in the root mean square, says nothing about them.
FITS = 0.1
# Coherency is told from none at all where the lower end of its interval is above this.
LEAST_COHERENCY = 1e-5
# A peak whose interval reaches over more than this factor is not told.
WIDEST = 3
#: The peak of the law is only told where the sweep went so far beyond it: fitted to 16 callers, a
#: true peak at 44 comes back as anything from 26 to 31,059.
BEYOND_PEAK = 1.2
RESAMPLES = 200


def usl(callers: Floats, rate_of_one: float, contention: float, coherency: float) -> Floats:
    """X(N) = rate_of_one N / (1 + contention (N - 1) + coherency N (N - 1)).

    Gunther, Guerrilla Capacity Planning, 2007, ch. 4.
    """
    waiting = contention * (callers - 1) + coherency * callers * (callers - 1)
    return np.asarray(rate_of_one * callers / (1 + waiting), np.float64)


def fitted_usl(
    callers: Sequence[int], rates_per_s: Sequence[float], *, seed: int = 0
) -> UslFit | str:
    """Fit the law to measured rates, one or more for each number of callers; or say why not.

    Least squares of the relative residuals, contention within 0..1 and coherency from 0 on. The
    intervals are percentiles of 200 fits to residuals drawn again (bootstrap), which take the law
    for true: they say how well its numbers are known, not whether it holds.
    """
    counts = np.asarray(callers, np.float64)
    rates = np.asarray(rates_per_s, np.float64)
    points = len(np.unique(counts))
    if points < FEWEST_POINTS:
        return (
            f"the Universal Scalability Law needs {FEWEST_POINTS} numbers of callers, and there "
            f"are {points}"
        )
    if not (rates > 0).all():
        return "the Universal Scalability Law needs rates above 0 at every number of callers"
    best = _fit(counts, rates)
    model = usl(counts, *best)
    residuals = rates / model - 1
    missed = float(np.sqrt(np.mean(residuals**2)))
    if missed > FITS:
        return (
            "the Universal Scalability Law does not describe these rates: it misses them by "
            f"{missed:.0%} (rms)"
        )
    # what three parameters took from the residuals is given back
    spread = math.sqrt(len(rates) / max(len(rates) - 3, 1))
    drawn = np.random.default_rng(seed)
    again = np.array(
        [
            _fit(counts, model * np.maximum(1 + spread * drawn.choice(residuals, len(rates)), 1e-3))
            for _ in range(RESAMPLES)
        ]
    )
    peaks = np.array([_peak(*one) for one in again])
    peak, reached = _peak(*best), float(counts.max())
    told: Estimate | None = None
    why: str | None = None
    if not math.isfinite(peak) or float(np.quantile(again[:, 2], 0.025)) < LEAST_COHERENCY:
        why = "these rates do not show a peak: throughput levels off, as far as can be seen"
    elif reached < BEYOND_PEAK * peak:
        why = "where throughput is highest is not told: the sweep does not go far enough beyond it"
    else:
        told = _estimate(peak, peaks)
        if not told.low or told.high is None or told.high > WIDEST * told.low:
            told, why = (
                None,
                "where throughput is highest cannot be told: the rates scatter too much",
            )
    return UslFit(
        rate_of_one_per_s=_estimate(best[0], again[:, 0]),
        contention=_estimate(best[1], again[:, 1]),
        coherency=_estimate(best[2], again[:, 2]),
        peak_callers=told,
        no_peak=why,
        error_fraction=missed,
    )


def _fit(counts: Floats, rates: Floats) -> tuple[float, float, float]:
    from scipy import optimize

    def residuals(parameters: NDArray[np.float64]) -> Floats:
        return np.asarray(usl(counts, *parameters) / rates - 1, np.float64)

    first = max(float((rates / counts).max()), 1e-12)
    # from inside and from where callers only wait for each other, as the optimum may lie there
    fits = [
        optimize.least_squares(
            residuals,
            x0=[first, *start],
            bounds=([0.0, 0.0, 0.0], [np.inf, 1.0, np.inf]),
            x_scale=[first, 0.1, 0.01],
            ftol=1e-12,
            xtol=1e-12,
            gtol=1e-12,
        )
        for start in ((0.1, 1e-3), (0.999, 1e-6))
    ]
    found = min(fits, key=lambda one: float(one.cost))
    rate, contention, coherency = (float(one) for one in found.x)
    return rate, contention, coherency


def _peak(rate: float, contention: float, coherency: float) -> float:
    """Where the law is highest: sqrt((1 - contention) / coherency)."""
    del rate
    if coherency < 1e-9:
        return math.inf
    return math.sqrt(max(1 - contention, 0.0) / coherency)


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")  # some may be infinite
    return Estimate(
        value=value,
        low=float(low),
        high=float(high) if math.isfinite(high) else None,
        confidence=0.95,
        method=f"bootstrap of residuals, {RESAMPLES} fits",
    )
