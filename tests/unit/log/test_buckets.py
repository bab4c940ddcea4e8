from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferload.log import buckets


@given(st.lists(st.integers(1, buckets.HIGHEST_NS), min_size=1, max_size=200))
def test_the_middle_of_a_bucket_is_within_a_2048th_of_every_value_in_it(values):
    found = buckets.middles_ns()[buckets.bucket_of(np.array(values))]
    assert (abs(found - values) <= np.array(values) / 2048).all()


def test_buckets_ascend_with_values_and_end_at_an_hour():
    values = np.unique(np.geomspace(1, buckets.HIGHEST_NS, 50_000).astype(np.int64))
    assert (np.diff(buckets.bucket_of(values)) >= 0).all()
    assert buckets.bucket_of(np.array([0, -5, 10 * buckets.HIGHEST_NS])).max() < buckets.BUCKETS


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=200), st.data())
def test_counts_that_are_added_give_the_quantiles_of_the_merged_values(values, data):
    cut = data.draw(st.integers(0, len(values)))
    parts = [buckets.counts_of(np.array(part, np.int64)) for part in (values[:cut], values[cut:])]
    rank = data.draw(st.integers(1, len(values)))
    exact = sorted(values)[rank - 1]
    assert abs(buckets.value_of_rank(parts[0] + parts[1], rank) - exact) <= exact / 1024


def test_counts_by_window_are_those_of_the_dense_array():
    generator = np.random.default_rng(0)
    values = [generator.exponential(1e6, n).astype(np.int64) for n in (500, 0, 3, 1000)]
    dense = np.array([buckets.counts_of(one) for one in values])
    found = buckets.WindowCounts.of(dense)
    assert found.total == 1503
    assert (found.by_bucket() == dense.sum(axis=0)).all()
    assert (found.by_window() == [500, 0, 3, 1000]).all()
    assert (found.by_window(9_000) == dense[:, 9_001:].sum(axis=1)).all()
    assert (found.since(2).by_bucket() == dense[2:].sum(axis=0)).all()
    assert (found.since(2).by_window() == [3, 1000]).all()
    assert found.since(4).total == found.since(9).total == 0
    exact = [np.sort(one)[(len(one) - 1) // 2] for one in values if len(one)]
    assert found.medians_ns() == pytest.approx(exact, rel=1 / 1024)
