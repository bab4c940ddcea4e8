"""Errors and power of comparisons by slices, from hours of them that a machine has made.

What is kept of each pair of processes, A and B the same model, are the log ratios of its figures
and the rates of its slices. Simulated noise is as wide as it is told to be, for ever: this is not.
"""

from __future__ import annotations

import numpy as np
import pytest

from inferload.stats.slices.judging import ERROR
from support.recorded_noise import KINDS, claims, compared, detectable, drawn, looked_at, recorded

DRAWS = 1000
# As many pairs as there are in two minutes.
PAIRS = {"mlp": 18, "script": 18, "minilm": 8}


@pytest.fixture(scope="module", params=KINDS)
def draws(request):
    """Comparisons of equals, by their log ratios."""
    logs, rng = recorded(request.param), np.random.default_rng(22)
    return [drawn(logs, PAIRS[request.param], rng) for _ in range(DRAWS)]


@pytest.mark.parametrize("kind", KINDS)
def test_neither_side_is_preferred_and_a_pair_says_nothing_of_the_next(kind):
    logs = recorded(kind)[:, :3]  # throughput, p50 and p90
    assert len(logs) > 50
    errors = logs.std(axis=0, ddof=1) / np.sqrt(len(logs))
    assert (np.abs(logs.mean(axis=0)) < 3 * errors).all()
    away = logs - logs.mean(axis=0)
    for lag in (1, 2, 3):
        alike = (away[lag:] * away[:-lag]).sum(axis=0) / (away**2).sum(axis=0)
        assert (np.abs(alike) < 3 / np.sqrt(len(logs))).all(), lag


@pytest.mark.parametrize("kind", KINDS)
def test_of_what_followed_each_other_nothing_is_claimed_either(kind):
    logs, pairs = recorded(kind), PAIRS[kind]
    windows = [logs[begin : begin + pairs] for begin in range(len(logs) - pairs + 1)]
    assert sum(bool(claims(compared(one))) for one in windows) <= ERROR * len(windows)


def test_of_equals_nothing_is_claimed_in_nineteen_of_twenty(draws):
    assert sum(bool(claims(compared(one))) for one in draws) <= ERROR * DRAWS


def test_nor_where_it_may_end_at_every_look(draws):
    # half of them end before their time
    halves = [one.high / one.low for one in (compared(logs).differences[0] for logs in draws[:100])]
    precision = float(np.sqrt(np.median(halves)) - 1)
    found = [looked_at(one, precision=precision) for one in draws]
    assert len({len(one.slices) for one in found}) > 1
    assert sum(bool(claims(one)) for one in found) <= ERROR * DRAWS


def test_what_is_stated_to_be_detectable_is_found_in_nine_of_ten(draws):
    quoted = {one.figure for one in compared(draws[0]).differences}  # slow calls have no p99
    assert {"throughput", "p50"} <= quoted
    for figure in quoted & {"throughput", "p50", "p99"}:
        found = 0
        for one in draws:
            stated = detectable(compared(one), figure)
            found += figure in claims(compared(one, {figure: stated}))
        assert found >= 0.9 * DRAWS, figure
