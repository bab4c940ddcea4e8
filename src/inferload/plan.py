"""From what was asked for to what is run: options checked, the executor chosen, inputs copied."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch

from inferload.advice import or_a_native_form
from inferload.device_errors import in_short
from inferload.devices import check_same_device, in_use, settle, works_elsewhere
from inferload.errors import NativeBuildError, PlanError
from inferload.executors.base import Executor, Job, exception_words
from inferload.executors.device_work import DeviceWork, pinned_copies
from inferload.executors.native import NativeExecutor
from inferload.executors.native_build import native_extension
from inferload.executors.threads import ThreadsExecutor
from inferload.inputs import owned
from inferload.log_file import LogFile
from inferload.machine import usable_cores
from inferload.records import RunWarning
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from inferload.budget import Budget
    from inferload.inputs import CallInput
    from inferload.loads import Schedule
    from inferload.run_options import RunOptions
    from inferload.targets.base import Target

_ELSEWHERE = RunWarning(
    code="other-streams",
    message=(
        "the target works on other streams than its caller's, and goes on when that has finished: "
        "every call waits for all work on the device, that of other callers too"
    ),
    hint="have the caller's stream wait for the others (wait_stream) before the call returns",
)
# Outputs that each caller keeps to be compared.
KEPT_OUTPUTS = 64


def executor_for(
    target: Target, asked: object, announce: Callable[[str], None]
) -> tuple[Executor, list[RunWarning]]:
    """The executor asked for, or native callers where target and machine allow them.

    Raises:
        PlanError: native callers were asked for, and the target needs Python.
        NativeBuildError: native callers were asked for, and cannot be had.
    """
    if not isinstance(asked, str):
        return cast("Executor", asked), []
    if asked == "threads" or (asked != "native" and not target.runs_natively):
        return ThreadsExecutor(), []
    if not target.runs_natively:
        raise PlanError(
            f"native callers run TorchScript and AOTInductor, and {target.name} is in the form "
            f"{target.form!r}: use the executor threads{or_a_native_form(target.may_become)}"
        )
    try:
        native_extension(announce)
    except NativeBuildError as error:
        if asked == "native":
            raise
        return ThreadsExecutor(), [
            RunWarning(
                code="native-unavailable",
                message=f"Python threads called the target, holding the GIL: {error}",
                hint="inferload doctor says what native callers need",
            )
        ]
    return NativeExecutor(), []


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What the callers of one process of a run take of it.

    ``number`` is that of the process among all of the run, on whatever machine; ``processes`` are
    those on this machine. ``schedules`` and ``logs`` are for each lane; logs are made where there
    are none. ``budget``: closed loop, the calls that ``callers_in_all`` have together. ``cpus``:
    the cores of each caller, empty if it may run on any. ``usable_cores``: those of the whole run,
    before this process was held to some of them.
    """

    number: int = 0
    processes: int = 1
    schedules: Sequence[Schedule | None] = (None,)
    logs: Sequence[LogFile] = ()
    budget: Budget | None = None
    callers_in_all: int = 0
    cpus: tuple[tuple[int, ...], ...] = ()
    usable_cores: float = field(default_factory=usable_cores)


def prepared(
    target: Target,
    given: Sequence[CallInput],
    options: RunOptions,
    share: Share,
    lane: int,
    threads_per_call: int,
) -> Job:
    """Check and copy the inputs of one lane, compile, and set the log file aside.

    Raises:
        PlanError: the target failed, an input does not fit, or there is no room for the log.
    """
    callers = options.callers_by_lane[lane]
    target.load(callers)
    bound = [target.bind(number, one) for number, one in enumerate(given)]
    schedule = share.schedules[lane]
    known = schedule.calls if schedule is not None else options.calls
    whole = options.precision is None and share.budget is None
    log_file = share.logs[lane] if share.logs else LogFile(known, set_aside=whole)
    try:
        check_same_device(target, bound)
        target.prepare(bound if options.share_inputs else [owned(one) for one in bound])
        own = [
            bound if options.share_inputs else [owned(one) for one in bound] for _ in range(callers)
        ]
        target.open(own, transfers=options.transfers)
        work = _device_work(target, own, options)
        if work is not None:
            log_file.use_stages(work.stages)
    except BaseException as error:
        log_file.close()
        if isinstance(error, Exception | SystemExit) and not isinstance(error, PlanError):
            raise PlanError(
                f"{target.name} failed while it was prepared: {in_short(exception_words(error))}"
            ) from error
        raise
    limit_ns = None if options.limit_s is None else int(options.limit_s * NS_PER_S)
    drain_ns = int((options.drain_s or 0) * NS_PER_S)
    if schedule is not None:
        limit_ns = schedule.end_ns + drain_ns
    lanes = options.callers_by_lane
    cpus = share.cpus[sum(lanes[:lane]) :][:callers]
    held_to = {cpu for caller in cpus for cpu in caller}
    cores = len(held_to) or max(int(usable_cores()) // share.processes, 1)
    return Job(
        target=target,
        inputs=own,
        order=target.order(len(bound), options.calls, _seed(options.seed, share.number, lane)),
        calls=options.calls,
        duration_ns=limit_ns,
        warmup_calls=options.warmup_calls * max(len(target.shares()), 1),
        warmup_order=target.warmup_order(len(bound)),
        threads_per_call=threads_per_call,
        stop_on_error=options.on_error == "stop",
        log=log_file,
        device_work=work,
        kept_outputs=KEPT_OUTPUTS if options.verify else 0,
        schedule=schedule,
        drain_ns=drain_ns,
        watchers=max(min(callers, cores), 1),
        budget=share.budget,
        callers_in_all=share.callers_in_all or callers,
        cpus=cpus,
    )


def _device_work(
    target: Target, own: Sequence[Sequence[CallInput]], options: RunOptions
) -> DeviceWork | None:
    """How callers use the devices that their calls have work on, if any.

    Raises:
        PlanError: transfers were asked for, and everything is on the CPU.
    """
    patience_s = None if options.timeout_s is None else 2 * options.timeout_s
    devices = in_use(target, own[0], patience_s)
    if not devices:
        if options.transfers:
            raise PlanError(
                f"transfers are copies between host and device, and {target.name} and its inputs "
                "are on the CPU: give a device, or leave transfers out"
            )
        return None
    copies = []
    if options.transfers:
        copies = [
            [
                pinned_copies(
                    (tuple(one.args), dict(one.kwargs)),
                    (tuple(read.args), dict(read.kwargs)),
                )
                for number, one in enumerate(inputs)
                for read in [target.read_by_calls(caller, number, one)]
            ]
            for caller, inputs in enumerate(own)
        ]
    for device in devices:  # inputs and graphs are ready before callers use them in other streams
        settle(device)
    elsewhere = works_elsewhere(target, own[0], devices, patience_s)
    if elsewhere:
        target.notes = (*target.notes, _ELSEWHERE)
    return DeviceWork(
        devices=devices,
        own_streams=options.streams == "per-caller",
        by_event=options.completion == "event",
        whole_devices=elsewhere,
        copies_in=copies,
    )


def _seed(seed: int, process: int, lane: int) -> int | list[int]:
    """What draws the inputs of a lane: a stream of its own."""
    if lane:
        return [seed, process, lane]
    return [seed, process] if process else seed


@contextmanager
def intra_op_threads(count: int | None) -> Iterator[None]:
    """Set the intra-op threads of this thread, and put them back."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        # callers set their own, which also sets what new threads start with
        torch.set_num_threads(before)
