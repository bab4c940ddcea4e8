"""One run: prepare, execute, summarize."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from inferload.callers.local.crew import LocalCrew
from inferload.callers.native.build import COMPILING
from inferload.callers.processes.crew import ProcessCrew
from inferload.callers.processes.handing import handed, handed_by_spec
from inferload.callers.python.thread_state import ThreadState
from inferload.errors import PlanError
from inferload.files import as_path
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.model import ModelSource
from inferload.plan.numbers import check_count
from inferload.plan.option_table import OPTIONS
from inferload.plan.options import RunOptions
from inferload.plan.server import is_served
from inferload.records.endings import CallError, RunInterrupted, TargetCrashed
from inferload.runs.checks.advice import in_words_of_python
from inferload.runs.run_crew import run_crew
from inferload.targets.as_target import as_target, is_spec
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs
from inferload.targets.inputs.stacking import stacked
from inferload.targets.loading import load as load_source
from inferload.targets.mix import Mix
from inferload.targets.placing import Placement, placed

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from inferload.callers.crew import Observer
    from inferload.callers.job import Executor
    from inferload.plan.arrivals.loads import OpenLoop
    from inferload.plan.batching import Batching
    from inferload.records.result import RunResult
    from inferload.stats.limits.limit import Limit
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


# Options that say what is made of the model before it is run.
_OF_MODEL = {"form", "compare", "batch_size"}


class Logging:
    """An observer that tells the log of this package."""

    def stage(self, text: str) -> None:
        """Log it."""
        # A build takes half a minute: it is said even where nobody set logging up.
        level = logging.WARNING if text == COMPILING else logging.INFO
        logging.getLogger("inferload").log(level, text)

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """Nothing."""

    def begins(self, text: str) -> None:
        """Log it."""
        logging.getLogger("inferload").info(text)

    def found(self, text: str) -> None:
        """Log it."""
        logging.getLogger("inferload").info(text)


def run(
    model: object,
    inputs: object = None,
    *,
    load: ClosedLoop | OpenLoop | None = None,
    batching: Batching | None = None,
    form: str | None = None,
    compare: bool = True,
    batch_size: int | None = None,
    calls: int | None = None,
    duration_s: float | None = None,
    precision: float | None = None,
    quantile: str = "p99",
    time_limit_s: float | None = None,
    limit: str | Limit | Iterable[str | Limit] | None = None,
    warmup: str | None = None,
    warmup_calls: int = 10,
    executor: str | Executor = "auto",
    processes: int | None = None,
    threads_per_call: int | None = None,
    pin: str = "none",
    timeout_s: float | None = None,
    device: str | torch.device | Sequence[str | torch.device] | None = None,
    streams: str = "per-caller",
    completion: str = "sync",
    transfers: bool = False,
    telemetry: bool = True,
    seed: int = 0,
    on_error: str | None = None,
    share_inputs: bool = False,
    fresh_inputs: bool = False,
    verify: bool = False,
    trace: str | os.PathLike[str] | None = None,
    observer: Observer | None = None,
) -> RunResult:
    """Call a model from many callers at once and record every call.

    Args:
        model: ``nn.Module``, ``ScriptModule``, ``ExportedProgram``, path to a ``.pt`` or
            ``.pt2``, ``"path/file.py:name"`` or ``"package.module:name"``, any callable, a
            ``Target``, or the URL of a server (or an ``il.Server``).
            An ``il.Mix`` of several models has inputs of its own.
        inputs: a sequence, a loader or anything else that ends, of ``CallInput``, tensor or numpy
            array (one positional argument, passed as it is), tuple or list (args), mapping
            (kwargs), or texts as ``"1x8:float32"``, ``"8x32:int64:0..30000 x16"``, ``"inputs.pt"``
            and ``"inputs.safetensors"``; each call takes one of them, drawn with ``seed``. Each
            caller has copies of all. Of a spec string those of its file's ``inputs()`` if not
            given.
        load: ``ClosedLoop(callers=...)`` or an ``OpenLoop``; one caller in a closed loop if not
            given.
        batching: call requests that are due together, as a server does; callers are its instances.
            With an open loop, or clients.
        form: turn an eager model into ``"compile"``, ``"script"``, ``"export"``, ``"aoti"`` or
            ``"cudagraph"`` first.
        compare: hold the outputs of that form against the eager model's, and refuse a form that
            computes something else.
        batch_size: stack the inputs along dimension 0 to batches of so many items.
        calls: calls in all, over all callers, met exactly. If no end is given, 1,000; a replay
            then goes to its end.
        duration_s: seconds to go on starting calls, or (open loop) in which calls are due; those
            in flight then are finished.
        precision: go on until half of the interval of ``quantile`` of the response time and of
            throughput is within this fraction of its value.
        quantile: ``"p50"``, ``"p90"``, ``"p95"``, ``"p99"``, ``"p999"`` or ``"p9999"``.
        time_limit_s: ends a run by precision all the same; 60 s if not given.
        limit: one or more, such as ``"p99<=20ms"``, ``"errors<=1%"``, ``"throughput>=200"``: a run
            that breaks one of them ends there, and ``result.limits`` says what became of each.
        warmup: ``"auto"`` cuts off what comes before the steady state, which the log still has;
            ``"fixed"`` does not. By default auto where ``duration_s`` or ``precision`` is given.
        warmup_calls: calls each caller makes before the start line, not logged. With warmup
            ``"auto"`` and the default number, Python callers begin none once the length of the run,
            and 30 s at least, have passed since their first one.
        executor: ``"threads"``, ``"native"`` (TorchScript, AOTInductor), ``"async"`` (tasks of an
            event loop, in a thread of its own), or ``"auto"``: native where the target and the
            machine allow it, async for coroutines; ``"processes"``: ``processes`` of them, one
            a core if not given; or an ``Executor``.
        processes: run the callers in so many other processes, ``load.callers`` in each. They share
            the model's weights; the model must be picklable, or given as a spec string, which
            each of them then loads.
        threads_per_call: intra-op threads of each call; torch's present setting if not given.
        pin: ``"cores"``: each process has cores of its own, and each caller some of them, as many
            intra-op threads as it has cores; ``"numa"``: each process has a node, in turn, and its
            memory comes from there.
        timeout_s: a call that takes longer is recorded as failed, and ends the run; where tasks of
            an event loop call, it is cancelled, which is a failure like others; changing the
            form of a model, and compiling it, may take no longer either.
        device: put the model (a module in place, as ``module.to`` does) and copies of the inputs
            there; of several devices each has processes in turn. If not given, both stay where
            they are.
        streams: on a device, a stream for each caller (``"per-caller"``), or the present one for
            all (``"shared"``).
        completion: how a caller waits for its call on a device: ``"sync"`` (it spins on its
            stream, and is back soonest) or ``"event"`` (it sleeps, and leaves its core to others).
        transfers: copy inputs from pinned host memory to the device, and outputs back, in each
            call.
        telemetry: look at clocks, power and memory of GPUs meanwhile (extra ``gpu``).
        seed: draws the order of inputs.
        on_error: ``"stop"`` ends the run at the first exception; ``"record"`` logs it and goes on,
            which is so by itself where the model is behind a server.
        share_inputs: let callers share the tensors given, where each else has copies.
        fresh_inputs: give each call a fresh copy of its input, made outside of its times, where
            calls write to their inputs or let them grow (a cache); by Python callers.
        verify: compare outputs under load with outputs computed alone, by ``torch.testing``'s
            tolerances.
        trace: write a Chrome trace of the measured part to this path.
        observer: is told of stages and progress.

    The thread-local state of the calling thread (grad and inference mode, autocast, dispatch keys)
    holds in the callers as well.

    Raises:
        PlanError: the run was refused before any caller started, or because a first call did no
            work (it returned a coroutine or a generator).
        NativeBuildError: native callers were asked for by name and cannot be had.
        CallError: the target raised and ``on_error`` is ``"stop"``, or a call took longer than
            ``timeout_s``; its ``result`` is partial.
        TargetCrashed: the target ended a process of ``processes``; its ``result`` is partial.
        RunInterrupted: Ctrl-C, SIGTERM or SIGHUP; its ``result`` is partial. Calls that have not
            returned 5 s later are given up.
    """
    asked = locals() | {"trace": None if trace is None else as_path("trace", trace)}
    options = RunOptions(
        **{row.name: asked[row.name] for row in OPTIONS if row.name in asked.keys() - _OF_MODEL},
        load=load or ClosedLoop(),
        lanes=model.lanes() if isinstance(model, Mix) else (),
        devices=names_of_devices(device),
        of_server=model.of_server if isinstance(model, Mix) else is_served(model),
    ).checked()
    try:
        found = run_with(
            model,
            inputs if inputs is not None else _recorded_inputs(model, options.load),
            options,
            form=form,
            compare=compare,
            batch_size=batch_size,
            observer=observer,
        )
    except (CallError, RunInterrupted, TargetCrashed) as error:
        if error.result is not None:
            error.result = in_words_of_python(error.result)
        raise
    return in_words_of_python(found)


def run_with(
    model: object,
    inputs: object,
    options: RunOptions,
    *,
    form: str | None = None,
    compare: bool = True,
    batch_size: int | None = None,
    observer: Observer | None = None,
) -> RunResult:
    """Run a model as checked options say; see :func:`run`.

    ``form`` and ``batch_size`` are what is to be made of model and inputs; the options have what
    was made of them already.
    """
    observer = observer or Logging()
    options = replace(
        options,
        form=form or options.form,
        batch_size=batch_size or options.batch_size,
        compare=compare and options.compare,
    )
    if batch_size is not None:
        check_count("batch_size", batch_size, at_least=1, at_most=1_000_000)
    if isinstance(model, str) and is_spec(model):
        source = ModelSource(
            spec=model,
            form=form,
            batch_size=batch_size,
            seed=options.seed,
            compare=compare,
            batching=None if options.batching is None else options.batching.told,
        )
        given = None if inputs is None else as_call_inputs(inputs, options.seed)
        return _run_by_spec(source, given, options, observer)
    if batch_size is not None:
        inputs = stacked(as_call_inputs(inputs, options.seed), batch_size)
    began = time.perf_counter()
    if isinstance(model, Mix):
        if inputs is not None or form is not None:
            raise PlanError("a mix has inputs of its own, and forms: leave inputs and form out")
        mixed = model.target()
        target: Target
        target, given = mixed, mixed.given
    else:
        target, given = as_target(model), as_call_inputs(inputs, options.seed)
    if options.processes is None:
        placement = Placement(device=options.device_of(0), transfers=options.transfers)
        target, given = placed(target, given, placement)
    load_s = time.perf_counter() - began
    if form is not None:
        target = as_form(
            target,
            form,
            given,
            compare=compare,
            timeout_s=options.timeout_s,
            batching=None if options.batching is None else options.batching.told,
        )
    if options.processes is None:
        with LocalCrew(target, given, options, load_s=load_s) as crew:
            return run_crew(crew, options, observer)
    state = ThreadState.of_this_thread().portable

    def hand(scratch: Path) -> bytes:
        return handed(target, given, state, spec=None, scratch=scratch)

    with ProcessCrew(options, hand=hand) as elsewhere:
        return run_crew(elsewhere, options, observer)


def _recorded_inputs(model: object, load: ClosedLoop | OpenLoop) -> list[str] | None:
    """Those of the calls that are replayed: each call takes the one that came with its time."""
    if load.recording is None or isinstance(model, Mix):
        return None
    return [load.recording.path]


def names_of_devices(device: object) -> tuple[str, ...]:
    """The names of a device, given by its name or as an object, or of several.

    Raises:
        PlanError: it is none.
    """
    if device is None:
        return ()
    listed = list(device) if isinstance(device, list | tuple) else [device]
    for one in listed:
        if not isinstance(one, str | torch.device):
            raise PlanError(
                f"device is {device!r}: give a name such as 'cuda:0', a torch.device, or a list"
            )
    return tuple(map(str, listed))


def _run_by_spec(
    source: ModelSource,
    given: tuple[CallInput, ...] | None,
    options: RunOptions,
    observer: Observer,
) -> RunResult:
    """Run a model that its spec string names; of processes only these load it."""
    if options.processes is None:
        placement = Placement(device=options.device_of(0), transfers=options.transfers)
        found = load_source(
            source,
            observer.stage,
            given=given,
            placement=placement,
            timeout_s=options.timeout_s,
        )
        with LocalCrew(found.target, found.given, options, load_s=found.load_s) as local:
            return run_crew(local, options, observer)
    state = ThreadState.of_this_thread().portable

    def hand(_: Path) -> bytes:
        return handed_by_spec(given or (), state)

    with ProcessCrew(options, source=source, hand=hand) as crew:
        return run_crew(crew, options, observer)
