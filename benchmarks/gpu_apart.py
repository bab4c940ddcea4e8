"""What Python callers on a GPU take, in pieces: ours without one part after another."""

from __future__ import annotations

import gc
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from inferload.callers.device_work import DeviceWork
from inferload.callers.local import called as plan
from inferload.callers.local import crew as local_crew
from inferload.callers.local.floor import Floor
from inferload.callers.python import running
from inferload.callers.python.caller import PythonCaller
from inferload.callers.python.clock import MonotonicClock, _set_timer_slack
from inferload.callers.python.thread_state import ThreadState
from inferload.machine.disturbances import PythonWatch
from measuring import Row, rates_row, to_and_fro

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


from gpu_by_hand import CALLERS, by_hand, linears, measured, ours, told

MEMORY = "/dev/shm"  # noqa: S108 - temporary files of tempfile's go there


@contextmanager
def only_inference_mode(state: ThreadState) -> Iterator[None]:
    """What ``ThreadState.taken_over`` is replaced by."""
    del state
    with torch.inference_mode():
        yield


@contextmanager
def without_slack(clock: MonotonicClock) -> Iterator[None]:
    """What ``MonotonicClock.caller`` is replaced by: as if callers slept until calls are due."""
    del clock
    _set_timer_slack(1)
    yield


class HandLoop:
    """The loop by hand in threads of ours: what stands around the calls is the harness's."""

    def __init__(self, *, wrapped: bool) -> None:
        self._wrapped = wrapped
        self.counts: list[int] = []
        self.ends_ns: list[int] = []
        self.start_ns = 0

    def run(self, caller: PythonCaller) -> None:
        """Stands in for ``PythonCaller._call_at_once``."""
        run, now = caller._run, time.perf_counter_ns
        if claimed := run.claim(1):  # so that there is a result
            caller._call_rows(*claimed)
        own = run.job.inputs[caller.number][0]
        call: Callable[[], Any] = partial(run.job.target.python_callable(), *own.args)
        count = 0
        work = run.job.device_work
        if work is None:
            raise RuntimeError("the calls are on no device")
        wait = torch.accelerator.current_stream(work.devices[0]).synchronize
        end = run.limit_ns[0]
        if self._wrapped:
            call = caller._calls[0]
            while now() < end:
                call()
                count += 1
        else:
            while now() < end:
                call()
                wait()
                count += 1
        self.start_ns = run.start_ns
        self.counts.append(count)
        self.ends_ns.append(now())

    def rate(self, *asked: Any) -> float:
        """Calls per second."""
        self.counts, self.ends_ns = [], []
        # a function, which is bound to the caller: a bound method would not be
        stand_in = lambda caller: self.run(caller)  # noqa: E731, PLW0108
        with mock.patch.object(PythonCaller, "_call_at_once", stand_in):
            measured(*asked)
        return sum(self.counts) / (max(self.ends_ns) - self.start_ns) * 1e9


@contextmanager
def no_collector() -> Iterator[None]:
    """Without garbage collections."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def without_extension(job: Any, *_: Any) -> tuple[Any, list[Any]]:
    """What ``with_extension`` is replaced by."""
    return job, []


def unwatched(*, python_callers: bool) -> Any:
    """What ``PythonWatch`` is replaced by: no heartbeat, no look at the collector."""
    del python_callers
    return PythonWatch(python_callers=False)


def variants() -> dict[str, Callable[[], Any]]:
    """By name, what is entered while a run of ours is made."""
    patch = mock.patch.object
    return {
        "as it is": ExitStack,
        "no stages timed": lambda: patch(plan, "DeviceWork", partial(DeviceWork, timed=False)),
        "stages of every call": lambda: patch(running, "timed_one_in", lambda _: 1),
        "devices in Python": lambda: patch(local_crew, "with_extension", without_extension),
        "no heartbeat, no look at the collector": lambda: patch(
            local_crew, "PythonWatch", unwatched
        ),
        "no garbage collector": no_collector,
        "thread state: inference mode alone": lambda: patch(
            ThreadState, "taken_over", only_inference_mode
        ),
        "no timer slack": lambda: patch(MonotonicClock, "caller", without_slack),
        "intra-op threads not set": lambda: patch(torch, "set_num_threads", lambda _: None),
        "log in memory": lambda: patch(tempfile, "tempdir", MEMORY),
    }


def apart_rows(rounds: int, scale: int, device: str, models: tuple[Any, ...]) -> list[Row]:
    """Each variant of ours against threads by hand, all in turn."""
    rows, seconds = [], 0.5 / scale

    def within(enter: Callable[[], Any], function: Callable[[], float]) -> float:
        # what an empty call takes is not asked here, and its measuring takes time
        with enter(), mock.patch.object(local_crew, "largest_floor", return_value=Floor()):
            return function()

    for count, width, batch in models:
        model, x = linears(count, width, device), torch.randn(batch, width, device=device)
        for callers in reversed(CALLERS):
            asked = (model, x, seconds, callers)
            sides = {
                name: partial(within, enter, partial(ours, *asked))
                for name, enter in variants().items()
            }
            for wrapped, name in (
                (False, "loop by hand in our threads"),
                (True, "our call alone in our threads"),
            ):
                loop = HandLoop(wrapped=wrapped)
                sides[name] = partial(within, ExitStack, partial(loop.rate, *asked))
            its, *found = to_and_fro(rounds, partial(by_hand, *asked), *sides.values())
            what = f"{count} x Linear({width}), {callers} callers"
            rows += [
                told(rates_row(f"{what}: {name}", mine, its, "-"))
                for name, mine in zip(sides, found, strict=True)
            ]
    return rows
