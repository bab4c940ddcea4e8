"""``inferload run``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferload.cli import EXIT_INTERRUPTED, output

if TYPE_CHECKING:
    from inferload.model_source import MemberSource, ModelSource
    from inferload.records import RunResult
    from inferload.run_options import RunOptions


def run_command(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="path/file.py:name, package.module:name, a TorchScript .pt, or a .pt2 (exported "
            "program or AOTInductor package). NAME is a module or a function returning one "
            "(default: model); the file may define inputs() too. Or a run file, mix.toml, with any "
            "of these options and one model or several.",
        ),
    ],
    callers: Annotated[int, typer.Option(help="Callers that call at once, in each process.")] = 1,
    processes: Annotated[
        int | None,
        typer.Option(help="Processes with callers; they share the weights. 1 if not given."),
    ] = None,
    calls: Annotated[
        int | None, typer.Option(help="Calls in all; 1000 if --duration is not given either.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Instead: how long, as 10s, 500ms or 2m.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION",
            help="Instead: until the intervals of --quantile and throughput are within, as 2%.",
        ),
    ] = None,
    quantile: Annotated[
        str, typer.Option(help="The quantile that --precision is about: p50 to p99.99.")
    ] = "p99",
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Ends --precision all the same; 60s.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="R", help="Open loop: calls due per second, come what may."),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="poisson (with --rate), constant, gamma:SHAPE (bursts below 1), replay:FILE or "
            "replay:FILE:2x (twice as fast).",
        ),
    ] = None,
    warmup: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Warm-up calls of each caller, and nothing is cut; auto (with --duration and "
            "--precision): 10, and what comes before the steady state is cut.",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|SPEC",
            help="An input as 8x3x224x224:float32 (commas between arguments, name=... for "
            "keywords), or a file that torch.save wrote. May be given again for more inputs.",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(help="Turn an eager model into: eager, compile, script, export or aoti."),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="auto, threads or native; processes: one process a core.")
    ] = "auto",
    threads_per_call: Annotated[
        int | None, typer.Option(help="Intra-op threads of each call.")
    ] = None,
    pin: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="cores: each process, and each caller in it, has cores of its own; numa: each "
            "process has a node, and its memory from there; none.",
        ),
    ] = "none",
    autocast: Annotated[
        str | None, typer.Option(metavar="DTYPE", help="Autocast to bfloat16 or float16.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the order of inputs and their values.")] = 0,
    on_error: Annotated[
        str, typer.Option(help="stop at the first exception, or record it and go on.")
    ] = "stop",
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare outputs under load with those made alone.")
    ] = False,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="A call that takes longer failed, and ends the run."),
    ] = None,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolate/--no-isolate",
            help="Run the model in a process of its own, whose crash loses no result; not so for "
            "a debugger.",
        ),
    ] = True,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the result, its log beside it.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a Chrome trace of the calls.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only the report.")] = False,
) -> None:
    """Call MODEL from many callers at once and report what each of them saw.

    An eager model is put into eval mode; all are called within torch.inference_mode().
    """
    asked = {name: value for name, value in locals().items() if name != "context"}
    members: tuple[MemberSource, ...] = ()
    if model.endswith(".toml"):
        given = {name for name in asked if _is_given(context, name)}
        asked, members = _with_file(asked, given)
    _run(Asked(**asked), members)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The flags of ``inferload run``, as they were given."""

    model: str
    callers: int
    processes: int | None
    calls: int | None
    duration: str | None
    precision: str | None
    quantile: str
    time_limit: str | None
    rate: float | None
    arrivals: str | None
    warmup: str | None
    inputs: list[str] | None
    form: str | None
    executor: str
    threads_per_call: int | None
    pin: str
    autocast: str | None
    seed: int
    on_error: str
    verify: bool
    timeout: str | None
    isolate: bool
    json: Path | None
    trace: Path | None
    quiet: bool


def _with_file(
    asked: dict[str, Any], given: set[str]
) -> tuple[dict[str, Any], tuple[MemberSource, ...]]:
    """The flags with what a run file sets, unless the command line does, and its models."""
    from inferload.errors import PlanError
    from inferload.model_source import MemberSource
    from inferload.run_file import read_run_file

    path = Path(asked["model"])
    file = read_run_file(path)
    for name in {"form", "inputs"} & given if file.models else ():
        raise PlanError(f"--{name} is of one model, and {path} has several: write it there")
    # one end of a run on the command line takes the place of another one in the file
    ends = {"calls", "duration", "precision"}
    left_out = given | (ends if ends & given else set())
    options = {name: value for name, value in file.options().items() if name not in left_out}
    members = tuple(
        MemberSource(
            name=name,
            spec=entry.model,
            weight=entry.weight,
            form=entry.form,
            input_texts=tuple(entry.inputs),
            callers=entry.callers,
        )
        for name, entry in file.models.items()
    )
    return asked | options | ({"model": file.model} if file.model else {}), members


def _run(asked: Asked, members: tuple[MemberSource, ...]) -> None:
    from inferload import units
    from inferload.errors import CallError, RunInterrupted, TargetCrashed
    from inferload.loads import load_from_text
    from inferload.model_source import ModelSource
    from inferload.report.progress import Progress
    from inferload.run_options import Lane, RunOptions

    duration_s = None if asked.duration is None else units.duration_s(asked.duration)
    time_limit_s = None if asked.time_limit is None else units.duration_s(asked.time_limit)
    _check_outputs(asked.json, asked.trace)
    processes = asked.processes
    if processes is None and asked.isolate and asked.executor != "processes":
        processes = 1
    lanes = [
        Lane(name=one.name, callers=one.callers, weight=one.weight)
        for one in members
        if one.callers is not None
    ]
    options = RunOptions(
        lanes=tuple(lanes),
        load=load_from_text(asked.arrivals, asked.rate, asked.callers, asked.seed),
        calls=asked.calls,
        duration_s=duration_s,
        precision=None if asked.precision is None else units.fraction(asked.precision),
        quantile={"p99.9": "p999", "p99.99": "p9999"}.get(asked.quantile, asked.quantile),
        time_limit_s=time_limit_s,
        **_warm_up(asked.warmup),
        executor=asked.executor,
        processes=processes,
        threads_per_call=asked.threads_per_call,
        pin=asked.pin,
        timeout_s=None if asked.timeout is None else units.duration_s(asked.timeout),
        seed=asked.seed,
        on_error=asked.on_error,
        verify=asked.verify,
        trace=asked.trace,
    ).checked()
    source = ModelSource(
        spec=asked.model,
        members=members,
        input_texts=tuple(asked.inputs or ()),
        form=asked.form,
        autocast=asked.autocast,
        seed=asked.seed,
    )
    progress = Progress(output.errors, asked.calls, duration_s or time_limit_s)
    observer: Any = _Silent() if asked.quiet else progress
    failure: BaseException | None = None
    try:
        result = (_isolated if asked.isolate else _in_this_process)(source, options, observer)
    except (CallError, RunInterrupted, TargetCrashed) as error:
        if error.result is None:
            progress.close()
            output.say(str(error))
            raise typer.Exit(_exit_code(None, error, saved=True)) from None
        result, failure = error.result, error
    finally:
        progress.close()
    saved = asked.json is None or output.save(result, asked.json)
    output.print_report(result)
    if failure is not None:
        output.say(output.with_place(failure))
    code = _exit_code(result, failure, saved=saved)
    given_up = any(one.code == "calls-given-up" for one in result.warnings)
    if not asked.isolate and (given_up or result.status == "timed out"):
        sys.stdout.flush()  # a normal exit would tear torch down under a call
        os._exit(code)
    if code:
        raise typer.Exit(code)


def _exit_code(result: RunResult | None, failure: BaseException | None, *, saved: bool) -> int:
    from inferload.errors import RunInterrupted, TargetCrashed

    if isinstance(failure, RunInterrupted):
        return EXIT_INTERRUPTED
    if isinstance(failure, TargetCrashed):
        return output.EXIT_CRASHED
    if failure is not None or not saved or result is None or result.summary.failed_calls:
        return output.EXIT_FAILED
    checked = result.verification
    unverified = checked is not None and (checked.differing or checked.reason)
    return output.EXIT_FAILED if unverified else 0


def _warm_up(text: str | None) -> dict[str, Any]:
    """Read ``--warmup``: a number of calls, or auto."""
    from inferload.errors import PlanError

    if text is None or text == "auto":
        return {"warmup": text}
    if not text.isascii() or not text.isdigit():
        raise PlanError(f"warmup {text!r} is not understood: give a number of calls, or auto")
    return {"warmup": "fixed", "warmup_calls": int(text)}


def _check_outputs(json: Path | None, trace: Path | None) -> None:
    from inferload.files import beside, check_writable

    for path in (json, trace):
        if path is not None:
            check_writable(path)
    if json is not None:
        check_writable(beside(json, ".calls"))


def _isolated(source: ModelSource, options: RunOptions, observer: Any) -> RunResult:
    """Run in other processes: this one does not even import torch."""
    from inferload.processes.crew import ProcessCrew
    from inferload.runs import run_crew

    with ProcessCrew(options, source=source) as crew:
        return run_crew(crew, options, observer)


def _in_this_process(source: ModelSource, options: RunOptions, observer: Any) -> RunResult:
    from inferload.errors import PlanError

    if options.processes is not None:
        raise PlanError(
            f"--no-isolate runs callers in this process, and {options.processes} processes were "
            "asked for: leave one of them out"
        )
    from inferload.signals import PutOff

    observer.stage("importing torch")
    with PutOff():
        import torch

        from inferload.loading import calling_state, load
        from inferload.local_crew import LocalCrew
        from inferload.runs import run_crew
    with calling_state(source.autocast):
        loaded = load(source, observer.stage)
        with (
            torch.inference_mode(),
            LocalCrew(loaded.target, loaded.given, options, load_s=loaded.load_s) as crew,
        ):
            return run_crew(crew, options, observer)


class _Silent:
    def stage(self, text: str) -> None:
        pass

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        pass
