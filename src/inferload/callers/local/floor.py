"""What a call that does nothing takes: the part of every figure that is the harness itself."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inferload.callers.device_work import sleeping_events, use_of
from inferload.callers.job import Job
from inferload.callers.native.build import native_extension
from inferload.callers.python.devices import waits_by_hand
from inferload.log.ring import LogFile
from inferload.targets.base import Target
from inferload.targets.inputs.call_input import CallInput
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from inferload.callers.device_work import DeviceWork
    from inferload.callers.job import Executor
    from inferload.log.calls import CallLog

CALLS = 2_000
# On a device both sides are measured in turn: the GIL changes hands at another pace each time.
_ROUNDS = 3
_ROUND_NS = 40_000_000
_MOST_CALLS = 50_000
_WARM_UP = 10
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What a call that does nothing takes, in milliseconds; ``None`` if it was not measured.

    ``by_hand_ms``, of calls on a device: what it takes in as many threads that only call and wait.
    """

    ms: float | None = None
    by_hand_ms: float | None = None

    @property
    def own_ms(self) -> float:
        """What of it is the harness's."""
        return (self.ms or 0.0) - (self.by_hand_ms or 0.0)


class NoOpTarget(Target):
    """Does nothing, in Python or natively."""

    form = "callable"

    def python_callable(self) -> Callable[..., Any]:
        """A function that returns at once."""
        return _nothing

    def native_callable(self, extension: ModuleType, inputs: Sequence[Sequence[CallInput]]) -> Any:
        """A call of no instructions."""
        return extension.NoModel(len(inputs))


def floor_of(executor: Executor, job: Job) -> Floor:
    """What of a job's calls is the harness: on a device by as many callers, there.

    A call that does nothing waits for the device then, as that of a loop by hand does. Otherwise
    one caller is enough: nothing that it does waits for others.
    """
    if job.device_work is None:
        return Floor(ms=floor_ms(executor, job.threads_per_call, job.extension) or None)
    try:
        ours, its = [], []
        for _ in range(_ROUNDS):
            ours.append(_on_device_ns(executor, job, job.device_work))
            its.append(_by_hand_ns(executor, job, job.device_work))
    except RuntimeError:
        return Floor()  # a device that has failed: the calls will say so
    return Floor(
        ms=statistics.median(ours) / NS_PER_MS, by_hand_ms=statistics.median(its) / NS_PER_MS
    )


def largest_floor(jobs: Sequence[tuple[Executor, Job]]) -> Floor:
    """That of the callers on which the harness weighs most."""
    alike = {
        (executor.name, job.device_work and (job.device_work.devices, job.callers)): (executor, job)
        for executor, job in jobs
    }
    return max((floor_of(*one) for one in alike.values()), key=lambda one: one.own_ms)


def floor_ms(
    executor: Executor, threads_per_call: int, extension: ModuleType | None = None
) -> float:
    """The median service time of a call that does nothing, by one caller, in milliseconds."""
    log = LogFile(CALLS)
    job = Job(
        target=NoOpTarget("no-op"),
        inputs=[[CallInput()]],
        order=np.zeros(1, np.int32),
        calls=CALLS,
        duration_ns=None,
        warmup_calls=10,
        threads_per_call=threads_per_call,
        stop_on_error=True,
        log=log,
        extension=extension,
    )
    try:
        return float(np.median(_ran(executor, job).service_ns)) / NS_PER_MS
    finally:
        log.close()


def _ran(executor: Executor, job: Job) -> CallLog:
    running = executor.start(job)
    while not running.wait_ready(1.0):
        pass
    start_ns = running.release()
    running.join()
    return job.log.hand_over(start_ns, 0, running.claimed_rows(), ())


def _on_device_ns(executor: Executor, given: Job, work: DeviceWork) -> float:
    """The time between two calls of a caller, the mean of all.

    Raises:
        RuntimeError: the device has failed.
    """
    log = LogFile(_MOST_CALLS)
    try:
        log.use(work.stages[:2])
        job = replace(
            given,
            target=NoOpTarget("no-op"),
            inputs=[[CallInput()]] * given.callers,
            order=np.zeros(1, np.int32),
            calls=_MOST_CALLS,
            duration_ns=_ROUND_NS,
            warmup_calls=_WARM_UP,
            warmup_order=(),
            log=log,
            device_work=replace(work, copies_in=()),
            kept_outputs=0,
            schedule=None,
            batching=None,
            clients=None,
            budget=None,
            callers_in_all=given.callers,
        )
        found = _ran(executor, job)
        busy_ns, calls = 0, len(found)
        for caller in range(given.callers):
            own = np.flatnonzero(found.caller == caller)
            if len(own):
                busy_ns += int(found.finished_ns[own[-1]] - found.started_ns[own[0]])
    finally:
        log.close()
    if not calls:
        raise RuntimeError("no call returned")
    return busy_ns / calls


def _by_hand_ns(executor: Executor, job: Job, work: DeviceWork) -> float:
    """The same by threads that do nothing but call and wait.

    Raises:
        RuntimeError: the device has failed.
    """
    shared = [torch.accelerator.current_stream(device) for device in work.devices]
    found_ns: float | None
    if executor.name == "native":
        names, extension = [str(device) for device in work.devices], native_extension()
        events = [sleeping_events(work) for _ in range(job.callers)]
        uses = [use_of(work, extension, own) for own in events]
        found_ns = float(extension.bare_waits_ns(names, shared, uses, _ROUND_NS))
    else:
        found_ns = _by_python_threads_ns(job.callers, work, shared)
    if not found_ns:
        raise RuntimeError("no call returned")
    return found_ns


def _by_python_threads_ns(
    callers: int, work: DeviceWork, shared: Sequence[torch.Stream]
) -> float | None:
    line, found = threading.Barrier(callers), []

    def run() -> None:
        try:
            waits, now, calls = waits_by_hand(work, shared), time.perf_counter_ns, 0
            for wait in waits * _WARM_UP:
                wait()
            line.wait(_PATIENCE_S)
        except (RuntimeError, threading.BrokenBarrierError):
            line.abort()
            return
        started = ended = now()
        while ended - started < _ROUND_NS:
            _nothing()
            for wait in waits:
                wait()
            calls += 1
            ended = now()
        found.append((ended - started, calls))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE_S)
    if len(found) < callers:
        return None  # the device failed, or a thread did not come back
    return sum(busy_ns for busy_ns, _ in found) / sum(calls for _, calls in found)


def _nothing() -> None:
    pass
