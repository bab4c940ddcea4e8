"""What tests wait with: states, and not times, which are the machine's."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from itertools import count

import pytest

from inferload.stats.stopping import StopByPrecision

# Who waits so long waits for ever: long enough for any machine.
PATIENCE_S = 120.0
# A run with these goes on until it is ended, as one by duration does.
ENDLESS = {"precision": 0.5, "quantile": "p50", "time_limit_s": 600.0}


def until(happened: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def end_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Options of a run that goes on, as by duration, until so many calls have finished."""
    monkeypatch.setattr(StopByPrecision, "enough", lambda self, log, finished: finished >= calls)
    return dict(ENDLESS)


def end_after_looks(looks: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Options of a run that goes on until its starter has looked at it so often."""
    looked = count(1)
    monkeypatch.setattr(StopByPrecision, "enough", lambda self, log, finished: next(looked) > looks)
    return dict(ENDLESS)


class Tally:
    """How many calls were made, to be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def reaches(self, count: int) -> bool:
        """Whether so many are made, before whoever waits for them would wait for ever."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, PATIENCE_S)


class Interrupts:
    """An observer that sends Ctrl-C, where handlers run: in the main thread.

    ``when`` is asked at each look at the run, with the calls that have finished and the seconds
    since the start. After ``times`` of them ``then`` is called.
    """

    def __init__(
        self,
        when: Callable[[int, float], bool] = lambda finished, elapsed_s: True,
        then: Callable[[], object] = lambda: None,
        times: int = 1,
    ) -> None:
        self._when, self._then, self._left = when, then, times

    def stage(self, text: str) -> None:
        pass

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        if self._left and self._when(finished_calls, elapsed_s):
            self._left -= 1
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                if not self._left:
                    self._then()
