"""How long a call takes as time goes by, from lengths that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferload.stats.steadiness.pace import pace_of

S = 10**9


def test_a_call_counts_in_each_window_with_the_share_that_lies_there():
    # one call of 3 s, then three of 1 s, in windows of 2 s
    begun = np.array([0, 3, 4, 5]) * S
    found = pace_of(begun, begun + np.array([3, 1, 1, 1]) * S, 2, windows=3)
    assert found.busy_s.tolist() == pytest.approx([2, 2, 2])
    assert found.done.tolist() == pytest.approx([2 / 3, 1 / 3 + 1, 2])
    assert found.means_s.tolist() == pytest.approx([3, 1.5, 1])
    # where a run may be cut a call ends
    assert found.ends_s.tolist() == pytest.approx([3, 3, 4, 6])
    assert found.calls_s.tolist() == pytest.approx([1])
    assert found.half_s == pytest.approx(4)


def test_a_window_in_which_no_call_was_under_way_has_no_mean():
    begun = np.array([0, 9]) * S
    found = pace_of(begun, begun + S, 2, windows=5)
    assert np.isnan(found.means_s).tolist() == [False, True, True, True, False]


def test_a_call_that_stands_still_for_many_windows_is_put_together():
    begun = np.r_[np.arange(10), 10, np.arange(20, 30)] * S
    ended = np.r_[np.arange(10) + 1, 20, np.arange(20, 30) + 1] * S
    busy_s, done = pace_of(begun, ended, 2, windows=30).whole_calls(0.0)
    assert busy_s.sum() == pytest.approx(30)
    assert done.sum() == pytest.approx(21)
    assert len(done) == 21
    assert busy_s.max() == pytest.approx(10)


@settings(max_examples=60)
@given(
    calls=st.lists(
        st.tuples(st.integers(0, 10**10), st.integers(1, 10**10)), min_size=2, max_size=60
    ),
    windows=st.integers(1, 20),
)
def test_windows_together_hold_all_calls_and_all_of_their_time(calls, windows):
    begun, took = (np.array(column, np.int64) for column in zip(*calls, strict=True))
    order = np.argsort(begun + took)
    found = pace_of(begun[order], (begun + took)[order], 2, windows=windows)
    assert found.done.sum() == pytest.approx(len(calls), rel=1e-6)
    assert found.busy_s.sum() == pytest.approx(took.sum() / S, rel=1e-6, abs=1e-6)
    assert (found.busy_s >= -1e-6).all()
