"""A machine in which time passes by slices alone, and two sides that are called on it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from inferload.plan.options import RunOptions
from inferload.stats.slices.slice import Slice
from inferload.studies.slices.compare import run_slices
from inferload.studies.slices.plan import SlicePlan

OPTIONS = RunOptions(duration_s=0.1, threads_per_call=1, warmup="fixed").checked()


class Machine:
    """Where time passes by slices alone; ``pace(s)`` is how fast it is then."""

    def __init__(self, pace=lambda _: 1.0, start_s=3.0):
        self.now_s = 0.0
        self.pace, self.start_s = pace, start_s
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now_s


class Side:
    """A bench of slices; ``call_s`` of each process that is started."""

    def __init__(self, machine: Machine, name: str, call_s, spec):
        self._machine, self._name, self._call_s, self._spec = machine, name, call_s, spec
        self._own_s = 0.0
        self.started = 0

    def begin_opening(self, settings, options, cpus, observer):
        self._machine.log.append(f"open {self._name}")
        self._own_s = self._call_s(self.started)
        self.started += 1

    def opened(self, observer):
        self._machine.now_s += self._machine.start_s / 2
        return SimpleNamespace(spec=self._spec, environment={"cpu": "x"}, warnings=())

    def slice(self, seconds, warmup_calls, observer):
        self._machine.log.append(self._name)
        call_s = self._own_s / self._machine.pace(self._machine.now_s)
        calls = max(round(seconds / call_s), 1)
        started = (np.arange(calls) * call_s * 1e9).astype(np.int64)
        found = Slice.of(
            int(self._machine.now_s * 1e9),
            np.zeros(calls, np.int64),
            np.ones(calls, np.int64),
            started,
            started + int(call_s * 1e9),
        )
        self._machine.now_s += calls * call_s
        return found

    def close(self):
        self._machine.log.append(f"close {self._name}")


class Told:
    def __init__(self):
        self.texts: list[str] = []

    def stage(self, text):
        self.texts.append(text)

    def progress(self, calls, elapsed_s):
        pass

    begins = found = stage


def compared(spec, a_s, b_s, machine=None, done=None, keep=lambda _: None, **plan):
    machine = machine or Machine()
    benches = {
        side: Side(machine, side, call_s if callable(call_s) else lambda _, s=call_s: s, spec)
        for side, call_s in (("a", a_s), ("b", b_s))
    }
    given = {"a": "A", "b": "B", "asked": {}, "options": {"a": OPTIONS, "b": OPTIONS}} | plan
    found = run_slices(
        SlicePlan(**given),
        benches,
        Told(),
        outputs=lambda: (True, "the same on 1 input"),
        done=done,
        keep=keep,
        clock=machine.clock,
    )
    return found, machine


def figures(found):
    return {one.figure: one for one in found.differences}
