"""From what was asked for to what is run: options checked, the executor chosen, inputs copied."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import torch
from torch.nn.parameter import is_lazy

from inferload.callers.device_work import DeviceWork, pinned_copies
from inferload.callers.job import Executor, Job
from inferload.callers.local.devices import in_use, settle, works_elsewhere
from inferload.callers.native.build import native_extension
from inferload.callers.native.executor import NativeExecutor
from inferload.callers.python.executor import ThreadsExecutor
from inferload.errors import NativeBuildError, PlanError
from inferload.log.failures import exception_text, in_brief
from inferload.log.ring import LogFile
from inferload.machine.hardware import usable_cores
from inferload.plan.model import or_a_native_form
from inferload.records.figures import RunWarning
from inferload.targets.argument_changes import as_it_was
from inferload.targets.conversion.time_limit import at_most
from inferload.targets.inputs.call_input import owned, tensors_of
from inferload.targets.placing import check_same_device
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from inferload.callers.budget import Budget
    from inferload.plan.options import RunOptions
    from inferload.plan.schedule import Schedule
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

_ELSEWHERE = RunWarning(
    code="other-streams",
    message=(
        "the target works on other streams than its caller's, and goes on when that has finished: "
        "every call waits for all work on the device, that of other callers too"
    ),
    hint="have the caller's stream wait for the others (wait_stream) before the call returns",
)
_FRESH_IN_PYTHON = RunWarning(
    code="python-callers",
    message="Python threads called the target, holding the GIL: they make the fresh inputs",
    hint="without --fresh-inputs native callers call it",
)
# Outputs that each caller keeps to be compared.
KEPT_OUTPUTS = 64
# Inputs that callers share are kept as they were, to be compared with, if they have no more.
MOST_KEPT_BYTES = 2**28


def executor_for(
    target: Target, asked: object, announce: Callable[[str], None], *, fresh_inputs: bool = False
) -> tuple[Executor, list[RunWarning]]:
    """The executor asked for, or native callers where target and machine allow them.

    Raises:
        PlanError: native callers were asked for, and the target or fresh inputs need Python.
        NativeBuildError: native callers were asked for, and cannot be had.
    """
    if fresh_inputs and "cudagraph" in target.form:
        raise PlanError(
            "a CUDA graph reads tensors of its own, which each call copies its input to: its "
            "inputs are fresh in each call anyway, so leave fresh_inputs (--fresh-inputs) out"
        )
    if fresh_inputs and "native" in {asked, getattr(asked, "name", None)}:
        raise PlanError(
            "fresh copies of inputs are made by Python callers: use --executor threads, or leave "
            "fresh_inputs (--fresh-inputs) out"
        )
    if not isinstance(asked, str):
        return cast("Executor", asked), []
    if fresh_inputs and asked == "auto" and target.runs_natively:
        return ThreadsExecutor(), [_FRESH_IN_PYTHON]
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


def with_extension(
    job: Job, executor: Executor, announce: Callable[[str], None]
) -> tuple[Job, list[RunWarning]]:
    """A job whose Python callers, if their calls are on a device, have the compiled extension.

    There is a warning where it cannot be had.
    """
    if job.device_work is None or executor.name != "threads":
        return job, []
    try:
        extension = native_extension(announce)
    except NativeBuildError as error:
        return job, [
            RunWarning(
                code="native-unavailable",
                message=(
                    "callers waited for the device, and timed it, in Python, which takes the GIL "
                    f"from others: {error}"
                ),
                hint="inferload doctor says what native callers need",
            )
        ]
    return replace(job, device_work=replace(job.device_work, extension=extension)), []


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
        # copies for calls are made of inputs that no call sees
        shared = options.share_inputs or options.fresh_inputs
        with at_most(options.timeout_s, f"preparing {target.name}"):
            target.prepare(bound if options.share_inputs else [owned(one) for one in bound])
        own = [bound if shared else [owned(one) for one in bound] for _ in range(callers)]
        given = () if options.fresh_inputs else _as_they_were(bound, own[0], options)
        target.open(own, transfers=options.transfers)
        seen = [[owned(one) for one in bound]] if options.fresh_inputs else own
        work = _device_work(target, seen, options)
        if work is not None:
            log_file.use_stages(work.stages)
    except BaseException as error:
        log_file.close()
        if isinstance(error, Exception | SystemExit) and not isinstance(error, PlanError):
            raise PlanError(
                f"{target.name} failed while it was prepared: {type(error).__name__}: "
                f"{in_brief(exception_text(error))}"
            ) from error
        raise
    limit_ns = None if options.limit_s is None else int(options.limit_s * NS_PER_S)
    drain_ns = int((options.drain_s or 0) * NS_PER_S)
    if schedule is not None:
        limit_ns = schedule.last_start_ns(drain_ns)
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
        warmup_limit_ns=(
            None if options.warmup_limit_s is None else int(options.warmup_limit_s * NS_PER_S)
        ),
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
        given=given,
        fresh_inputs=options.fresh_inputs,
        first_calls=max(len(target.shares()), 1) if makes_parameters(target) else 0,
    )


def _as_they_were(
    bound: Sequence[CallInput], own: Sequence[CallInput], options: RunOptions
) -> Sequence[CallInput]:
    """The inputs as calls will not see them, to be compared with; none where that is too much."""
    if not options.share_inputs:
        return [as_it_was(*both) for both in zip(bound, own, strict=True)]
    tensors = [t for one in bound for t in tensors_of((one.args, dict(one.kwargs)))]
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size_bytes > MOST_KEPT_BYTES:
        return ()
    copies = [owned(one) for one in bound]
    return [as_it_was(*both) for both in zip(copies, bound, strict=True)]


def makes_parameters(target: Target) -> bool:
    """Whether a first call makes parameters: several at once would each make some of them."""
    return any(
        is_lazy(one)
        for module in target.modules()
        for one in (*module.parameters(), *module.buffers())
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
        seed=options.seed,
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
