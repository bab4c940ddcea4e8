"""From what was asked for to what is run: options checked, the executor chosen, inputs copied."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch.nn.parameter import is_lazy

from inferload.callers.budget import Budget
from inferload.callers.job import Job
from inferload.callers.local.called import called_by
from inferload.errors import PlanError
from inferload.log.calls import BATCH, BATCH_STAGES, PIECES
from inferload.log.failures import exception_text, in_brief
from inferload.log.kept import kept_log
from inferload.machine.hardware import usable_cores
from inferload.targets.inputs.pairs import inputs_of_recording
from inferload.targets.placing import check_same_device
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferload.log.arrays import Int32s
    from inferload.log.ring import LogFile
    from inferload.plan.arrivals.schedule import Schedule
    from inferload.plan.cores import Place
    from inferload.plan.options import RunOptions
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

# Outputs that each caller keeps to be compared.
KEPT_OUTPUTS = 64


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


def whole_share(options: RunOptions, place: Place) -> Share:
    """The share of a process that has all callers of a run."""
    (schedules,) = options.schedules()
    budget = None
    if len(schedules) > 1 and schedules[0] is None and options.calls is not None:
        budget = Budget.of(options.calls)
    return Share(
        number=options.number_of(0),
        processes=options.local_ranks,
        schedules=schedules,
        budget=budget,
        callers_in_all=options.load.callers,
        cpus=place.cpus,
    )


def prepared(
    target: Target,
    given: Sequence[CallInput],
    options: RunOptions,
    share: Share,
    lane: int,
    threads_per_call: int,
    *,
    tasks: bool = False,
) -> Job:
    """Check and copy the inputs of one lane, compile, and set the log file aside.

    ``tasks``: its callers are tasks of an event loop.

    Raises:
        PlanError: the target failed, an input does not fit, or there is no room for the log.
    """
    callers = options.callers_by_lane[lane]
    options.check_batching()
    if tasks:
        check_for_tasks(target, options)
    clients = options.clients_of(share.number, lane)
    target.load(callers)
    bound = [*given]
    if options.batching is None:  # else it is batches that must fit
        bound = [target.bind(number, one) for number, one in enumerate(given)]
    schedule = share.schedules[lane]
    known = schedule.calls if schedule is not None else options.calls
    whole = options.precision is None and share.budget is None
    log_file = (
        share.logs[lane]
        if share.logs
        else kept_log(options.keep_in, (share.number, lane), known, set_aside=whole)
    )
    try:
        check_same_device(target, bound)
        called = called_by(target, bound, options, callers)
        if called.batching is not None:
            log_file.use([*BATCH_STAGES, *BATCH])
        if called.target.answers_in_pieces:
            log_file.use(PIECES)
        work = called.device_work
        if work is not None and tasks:  # of one thread, whose present streams all of them use
            work = replace(work, own_streams=False, timed=False)
        elif work is not None:
            log_file.use(work.stages)
    except BaseException as error:
        log_file.close()
        if isinstance(error, Exception | SystemExit) and not isinstance(error, PlanError):
            raise PlanError(
                f"{target.name} failed while it was prepared: {type(error).__name__}: "
                f"{in_brief(exception_text(error))}"
            ) from error
        raise
    limit_ns = None if options.limit_s is None else int(options.limit_s * NS_PER_S)
    drain_ns = int(options.drain_s * NS_PER_S)
    if schedule is not None:
        limit_ns = schedule.last_start_ns(drain_ns)
    lanes = options.callers_by_lane
    cpus = share.cpus[sum(lanes[:lane]) :][:callers]
    held_to = {cpu for caller in cpus for cpu in caller}
    cores = len(held_to) or max(int(usable_cores()) // share.processes, 1)
    return Job(
        target=called.target,
        inputs=called.inputs,
        order=_order(target, given, options, share, lane),
        calls=options.calls,
        duration_ns=limit_ns,
        warmup_calls=options.warmup_calls * max(len(target.shares()), 1),
        warmup_order=called.warmup_order,
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
        given=called.given,
        fresh_inputs=options.fresh_inputs,
        first_calls=max(len(target.shares()), 1) if makes_parameters(target) else 0,
        batching=called.batching,
        clients=clients,
        seed=_seed(options.seed, share.number, lane),
        timeout_ns=(
            int(options.timeout_s * NS_PER_S) if tasks and options.timeout_s is not None else None
        ),
    )


def check_for_tasks(target: Target, options: RunOptions) -> None:
    """Refuse what tasks of an event loop do not do.

    Raises:
        PlanError: naming it.
    """
    if options.batching is not None:
        raise PlanError(
            f"tasks of an event loop call {target.name} one request at a time, as they come: leave "
            "max_batch (--max-batch) out, or have the model put together what it is called with"
        )
    if options.transfers:
        raise PlanError(
            "tasks of an event loop copy no inputs to a device and no outputs back: leave "
            "transfers (--transfers) out, and have the model do it"
        )


def _order(
    target: Target, given: Sequence[CallInput], options: RunOptions, share: Share, lane: int
) -> Int32s:
    """Which input each call takes: that of its time, where they were recorded together."""
    schedule, mix = share.schedules[lane], bool(target.shares())
    numbers = inputs_of_recording(given, options.load.recording, of_a_mix=mix)
    if schedule is not None and schedule.rows is not None and numbers is not None:
        return numbers[schedule.rows]
    return target.order(len(given), options.calls, _seed(options.seed, share.number, lane))


def makes_parameters(target: Target) -> bool:
    """Whether a first call makes parameters: several at once would each make some of them."""
    return any(
        is_lazy(one)
        for module in target.modules()
        for one in (*module.parameters(), *module.buffers())
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
