"""The callers of a run in this process: model prepared, executors driven, outputs verified."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inferload.callers.crew import Part, PartReport, Preparation
from inferload.callers.local.changed_inputs import shared_inputs
from inferload.callers.local.devices import forget_peaks, info_of, memory_of, settle
from inferload.callers.local.environment import environment
from inferload.callers.local.executors import executor_for, with_extension
from inferload.callers.local.floor import Floor, largest_floor
from inferload.callers.local.lane import LocalLane, alone_of
from inferload.callers.local.preparing import Share, intra_op_threads, prepared, whole_share
from inferload.callers.local.reporting import report_of
from inferload.callers.local.spec import spec_of, with_devices
from inferload.callers.local.warnings_before import warnings_before
from inferload.callers.native.build import native_extension
from inferload.callers.tasks.executor import RunningTasks
from inferload.callers.tasks.loops import loop_name
from inferload.callers.trace import check_traceable, tracing
from inferload.log.merge import LogPlace
from inferload.machine.disturbances import PythonWatch
from inferload.machine.process_use import peak_rss_bytes
from inferload.plan.cores import Place
from inferload.targets.kinds.mixed import MixedTarget
from inferload.targets.kinds.python import compiled_graphs
from inferload.targets.outputs.verification import reference_outputs
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from inferload.callers.crew import Observer
    from inferload.plan.options import RunOptions
    from inferload.records.figures import RunWarning
    from inferload.records.spec import RunSpec
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.outputs.verification import References


# Callers are woken so long before an agreed time: of two that wake up on one core, one is moved to
# another only milliseconds later.
AWAKE_NS = 20_000_000
# Lanes are looked at in turn, each for so long.
_TURN_S = 0.01


class LocalCrew:
    """Callers in this process, or of this process's share of a run."""

    nursery_pss_bytes: int | None = None

    def __init__(
        self,
        target: Target,
        given: Sequence[CallInput],
        options: RunOptions,
        share: Share | None = None,
        *,
        load_s: float = 0.0,
    ) -> None:
        self._target = target
        self._given = given
        self._options = options
        #: The devices that calls have work on; known once it is prepared.
        self.devices: tuple[torch.device, ...] = ()
        self._place = Place()
        if share is None:
            (self._place,) = options.places()
        self._share = share or whole_share(options, self._place)
        self._load_s = load_s
        self._whole = ExitStack()
        self._measured = ExitStack()
        self.lanes: list[LocalLane] = []
        self._started: list[LocalLane] = []
        self._threads_per_call = 0
        self._watch: PythonWatch
        self._references: References | None = None
        self._graphs = 0
        self._trace_warnings: list[RunWarning] = []
        self.parts: Sequence[Part] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._measured.close()
        self._whole.close()

    def prepare(self, announce: Callable[[str], None]) -> Sequence[Preparation]:
        """Check the inputs, compile, and set the logs aside."""
        target, options = self._target, self._options
        announce(f"preparing {target.name}")
        began = time.perf_counter()
        if options.trace is not None:
            check_traceable(options.trace)
        threads = options.threads_per_call or self._place.threads_per_call
        self._whole.enter_context(intra_op_threads(threads))
        self._threads_per_call = torch.get_num_threads()
        warnings = [*self._lay_out(announce), *self._make_jobs(announce)]
        if not options.share_inputs:
            warnings += shared_inputs(target, self._given)
        self._agree_on_budget()
        spec = spec_of(target, self._given, options, self.lanes, self._threads_per_call)
        if options.verify:
            self._references = reference_outputs(target, self._given, alone_of(self.lanes))
        self.devices = self._devices_of_lanes()
        spec = with_devices(spec, self.lanes, self.devices, options)
        floor = Floor()
        if isinstance(options.executor, str):  # another may not know how to do nothing
            floor = largest_floor([(lane.executor, lane.job) for lane in self.lanes])
        warnings += self._warnings(spec)
        return [self._preparation(spec, warnings, floor, time.perf_counter() - began)]

    def _make_jobs(self, announce: Callable[[str], None]) -> list[RunWarning]:
        """Give each lane its job, with inputs copied and a log set aside."""
        warnings: list[RunWarning] = []
        for number, lane in enumerate(self.lanes):
            lane.job = prepared(
                lane.target,
                lane.given,
                self._options,
                self._share,
                number,
                self._threads_per_call,
                tasks=lane.executor.name == "async",
            )
            self._whole.callback(lane.job.log.close)
            lane.job, found = with_extension(lane.job, lane.executor, announce)
            warnings += found
        return warnings

    def _warnings(self, spec: RunSpec) -> list[RunWarning]:
        """What is doubtful about the callers of all processes on this machine."""
        processes = self._share.processes
        return warnings_before(
            replace(spec, callers=spec.callers * processes, processes=processes),
            self._target.modules(),
            usable_cores=self._share.usable_cores,
            on_device=self.on_device,
            ranks_here=self._options.local_ranks,
        )

    def _preparation(
        self, spec: RunSpec, warnings: Sequence[RunWarning], floor: Floor, took_s: float
    ) -> Preparation:
        devices, converted_s = self.devices, self._target.conversion_s
        return Preparation(
            pid=os.getpid(),
            spec=spec,
            environment=environment(set(devices)) | self._own_environment(),
            devices=tuple(map(info_of, devices)),
            warnings=tuple(warnings),
            prepare_s=took_s + self._load_s + converted_s,
            load_s=self._load_s,
            convert_s=converted_s,
            floor_ms=floor.ms,
            floor_by_hand_ms=floor.by_hand_ms,
            columns=tuple(lane.job.log.optional for lane in self.lanes),
            log_bytes=sum(lane.job.log.reserved_bytes for lane in self.lanes),
        )

    def _own_environment(self) -> dict[str, Any]:
        own: dict[str, Any] = {"usable_cores": self._share.usable_cores}
        if any(lane.executor.name == "async" for lane in self.lanes):
            own["event_loop"] = loop_name()
        return own

    def _lay_out(self, announce: Callable[[str], None]) -> list[RunWarning]:
        """Make the lanes: one for each model with callers of its own, else one for all."""
        target, options = self._target, self._options
        members: list[tuple[Target, Sequence[CallInput]]] = [(target, self._given)]
        if options.lanes and isinstance(target, MixedTarget):
            members = [(member.target, member.given) for member in target.members]
        callers = options.callers_by_lane
        first_callers = [0, *accumulate(callers)]
        first_inputs = [0, *accumulate(len(given) for _, given in members)]
        warnings: list[RunWarning] = []
        for number, (own, given) in enumerate(members):
            executor, found = executor_for(
                own, options.executor, announce, fresh_inputs=options.fresh_inputs
            )
            warnings += found
            place = LogPlace(
                callers=callers[number],
                first_caller=first_callers[number],
                first_input=first_inputs[number],
            )
            self.lanes.append(LocalLane(own, given, executor, place))
        return list(dict.fromkeys(warnings))

    @property
    def on_device(self) -> bool:
        """Whether calls have work on a device; known once it is prepared."""
        return bool(self.devices)

    def _devices_of_lanes(self) -> tuple[torch.device, ...]:
        found = [lane.job.device_work for lane in self.lanes]
        devices = {device for work in found if work is not None for device in work.devices}
        return tuple(sorted(devices, key=str))

    def _agree_on_budget(self) -> None:
        """Have Python callers take calls in the way of native ones, where there are both."""
        if self._share.budget is not None and {"native"} < {
            lane.executor.name for lane in self.lanes
        }:
            self._share.budget.take_atomically = native_extension().take_calls

    def start(self) -> None:
        """Start the callers of all lanes."""
        try:
            for lane in self.lanes:
                self._measured.enter_context(lane.target.while_called(lane.job.callers))
                lane.start()
                self._started.append(lane)
        except BaseException:
            self.stop()
            raise
        python = any(lane.executor.name != "native" for lane in self.lanes)
        self._watch = PythonWatch(python_callers=python)
        self.parts = [
            Part(
                process=0,
                pid=os.getpid(),
                running=lane.running,
                log=lane.job.log,
                schedule=lane.job.schedule,
                queued=self._options.queued,
                place=lane.place,
                inputs=len(lane.given),
            )
            for lane in self.lanes
        ]

    def now_ns(self) -> int:
        """The time by the callers' clock."""
        return self.lanes[0].running.now_ns()

    def stop(self) -> None:
        """Let each caller finish the call it is in, and no more."""
        for lane in self._started:
            lane.running.stop()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until all callers have warmed up and stand at the start line."""
        return self._wait([lane.running.wait_ready for lane in self.lanes], timeout_s)

    def warmed(self) -> tuple[int, int] | None:
        """Warm-up calls made so far, and in all; ``None`` where some callers do not say."""
        made = [getattr(lane.running, "warmed_calls", None) for lane in self.lanes]
        if not all(made):
            return None
        wanted = sum(lane.job.warmup_calls * lane.job.callers for lane in self.lanes)
        return sum(one() for one in made if one is not None), wanted

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until every caller has finished."""
        return self._wait([lane.running.wait_done for lane in self.lanes], timeout_s)

    def _wait(self, happened: Sequence[Callable[[float], bool]], timeout_s: float) -> bool:
        if len(happened) == 1:
            return happened[0](timeout_s)
        deadline = time.monotonic() + timeout_s
        while True:
            if any(lane.has_failed for lane in self.lanes):
                self.stop()
            waiting = [wait for wait in happened if not wait(0)]
            left_s = deadline - time.monotonic()
            if not waiting or left_s <= 0:
                return not waiting
            waiting[0](min(left_s, _TURN_S))

    def agreed_start(self, observer: Observer, at_line: Callable[[], None]) -> int | None:
        """Whenever all callers are ready."""
        del observer
        at_line()
        return None

    def release(self, at_ns: int | None = None) -> int:
        """Let all callers leave the start line; the time of it, monotonic nanoseconds.

        ``at_ns``: a time to come at which they leave it, where several processes agreed on one.
        """
        self._graphs = compiled_graphs()
        for device in self.devices:
            forget_peaks(device)
        self._trace_warnings = self._measured.enter_context(tracing(self._options.trace))
        self._measured.enter_context(self._watch)
        if at_ns is not None:
            _sleep_until(at_ns - AWAKE_NS)
        elif len(self.lanes) > 1:
            at_ns = self.now_ns() + AWAKE_NS
        started = [lane.running.release(at_ns) for lane in self.lanes]
        return started[0]

    def collect(self, *, abandoned: bool) -> Sequence[PartReport]:
        """What the callers left behind."""
        for lane in self.lanes:
            if not abandoned:
                lane.running.join()
            elif isinstance(lane.running, RunningTasks):
                lane.running.give_up()
        if not abandoned:
            for device in self.devices:  # copies of outputs that were kept are still made there
                settle(device)
        graphs = compiled_graphs() - self._graphs if self._graphs else 0
        self._measured.close()
        whole = len(self.lanes) == 1
        reports = [
            report_of(lane, self._target, self._references, whole=whole, abandoned=abandoned)
            for lane in self.lanes
        ]
        reports[0] = replace(
            reports[0],
            recompiled_graphs=graphs,
            warnings=(*self._trace_warnings, *reports[0].warnings),
            disturbances=self._watch.found,
            # before this process ends, and before anything else is computed in it
            peak_rss_bytes=peak_rss_bytes(Path("/proc/self")) or None,
            device_memory=tuple(map(memory_of, self.devices)),
            seen=self._target.seen(),
        )
        return reports


def _sleep_until(time_ns: int) -> None:
    """Return at a time, or at once if that has passed."""
    while (left := time_ns - time.perf_counter_ns()) > 0:
        time.sleep(left / NS_PER_S)
