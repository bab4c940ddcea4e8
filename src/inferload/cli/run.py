"""``inferload run``."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferload.cli import EXIT_INTERRUPTED, output
from inferload.cli.interrupts import PutOff

if TYPE_CHECKING:
    from inferload.records import RunResult


def run_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="path/file.py:name, package.module:name, a TorchScript .pt, or a .pt2 (exported "
            "program or AOTInductor package). NAME is a module or a function returning one "
            "(default: model); the file may define inputs() too.",
        ),
    ],
    callers: Annotated[int, typer.Option(help="Callers that call at once.")] = 1,
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
    executor: Annotated[str, typer.Option(help="auto, threads or native.")] = "auto",
    threads_per_call: Annotated[
        int | None, typer.Option(help="Intra-op threads of each call.")
    ] = None,
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
    from inferload import units
    from inferload.errors import CallError, RunInterrupted
    from inferload.loads import load_from_text
    from inferload.report.progress import Progress

    duration_s = None if duration is None else units.duration_s(duration)
    time_limit_s = None if time_limit is None else units.duration_s(time_limit)
    _check_outputs(json, trace)
    load = load_from_text(arrivals, rate, callers, seed)
    progress = Progress(output.errors, calls, duration_s or time_limit_s)
    observer: Any = _Silent() if quiet else progress
    failure: BaseException | None = None
    observer.stage("importing torch")
    try:
        result = _run(
            model,
            inputs,
            form,
            autocast,
            observer,
            load=load,
            calls=calls,
            duration_s=duration_s,
            precision=None if precision is None else units.fraction(precision),
            quantile={"p99.9": "p999", "p99.99": "p9999"}.get(quantile, quantile),
            time_limit_s=time_limit_s,
            **_warm_up(warmup),
            executor=executor,
            threads_per_call=threads_per_call,
            seed=seed,
            on_error=on_error,
            verify=verify,
            trace=trace,
        )
    except (CallError, RunInterrupted) as error:
        if error.result is None:
            raise
        result, failure = error.result, error
    finally:
        progress.close()
    saved = json is None or output.save(result, json)
    output.print_report(result)
    if failure is not None:
        output.say(output.with_place(failure))
    code = _exit_code(result, failure, saved=saved)
    if any(one.code == "calls-given-up" for one in result.warnings):
        sys.stdout.flush()  # a normal exit would tear torch down under a call
        os._exit(code)
    if code:
        raise typer.Exit(code)


def _exit_code(result: RunResult, failure: BaseException | None, *, saved: bool) -> int:
    from inferload.errors import RunInterrupted

    if isinstance(failure, RunInterrupted):
        return EXIT_INTERRUPTED
    checked = result.verification
    unverified = checked is not None and (checked.differing or checked.reason)
    if failure is not None or not saved or result.summary.failed_calls or unverified:
        return output.EXIT_FAILED
    return 0


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


def _run(
    model: str,
    input_texts: list[str] | None,
    form: str | None,
    autocast: str | None,
    observer: Any,
    **options: Any,
) -> RunResult:
    with PutOff():
        import torch

        from inferload import bench
        from inferload.errors import PlanError
        from inferload.inputs import inputs_from_text
        from inferload.targets.forms import as_form
        from inferload.targets.load import model_from_spec

    given = inputs_from_text(input_texts, options["seed"]) if input_texts else None
    observer.stage(f"loading {model}")
    found, own_inputs = model_from_spec(model)
    given = given or own_inputs
    if given is None:
        raise PlanError(
            f"there are no inputs for {model}: give --inputs 1x3x224x224:float32, or define "
            "inputs() in the model's file"
        )
    if isinstance(found, torch.nn.Module) and not isinstance(found, torch.jit.ScriptModule):
        found.eval()
    with ExitStack() as stack:
        if autocast is not None:
            dtype = getattr(torch, autocast, None)
            if dtype not in {torch.bfloat16, torch.float16}:
                raise PlanError(f"autocast to {autocast!r} is unknown: choose bfloat16 or float16")
            stack.enter_context(torch.autocast("cpu", dtype))
        if form not in {None, "eager"}:
            observer.stage(f"turning the model into the form {form}")
        target = as_form(found, form, given)
        stack.enter_context(torch.inference_mode())
        return bench.run(target, given, observer=observer, **options)


class _Silent:
    def stage(self, text: str) -> None:
        pass

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        pass
