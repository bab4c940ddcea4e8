"""When the starting thread looks at a run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from inferload.runs.watcher import LOOK_S, Watcher


class LateCrew:
    """One whose watcher is woken five times later than it asked for, and done after ten looks."""

    parts = ()

    def __init__(self):
        self.now, self.woken = 0, []

    def now_ns(self) -> int:
        return self.now

    def wait_done(self, timeout_s: float) -> bool:
        self.now += round(5e9 * timeout_s)
        self.woken.append(self.now)
        return len(self.woken) > 10


def test_calls_in_flight_are_those_of_when_a_look_was_to_come():
    """Not of when it came: that is when callers left a core to the watcher, and had less to do."""
    crew = LateCrew()
    watcher = Watcher(crew, None, drain_ns=0)
    schedule = SimpleNamespace(due_by=lambda ns: ns // 1_000_000, end_ns=1e18)
    watcher._schedules = [schedule]
    watcher.look_at_processes = lambda elapsed_s: None
    watcher._due_ns = watcher._drained_ns = 10**18
    assert watcher.watch(SimpleNamespace(progress=lambda *_: None))
    times_s, due = np.array(watcher.looks).T
    assert len(times_s) == 10
    began_s = np.array([0, *crew.woken[:9]]) / 1e9
    pauses_s = times_s - began_s
    assert ((pauses_s >= LOOK_S / 2) & (pauses_s <= 1.5 * LOOK_S)).all()
    assert np.array_equal(due, np.floor(times_s * 1000))
