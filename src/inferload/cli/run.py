"""``inferload run``: its flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from inferload.cli.asked import Asked
from inferload.cli.batches import run_batch_sizes
from inferload.cli.cluster import run_as_rank
from inferload.cli.running import run_here
from inferload.cluster.launch import launch_of


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
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="One run for each size, with inputs stacked to it along dimension 0.",
        ),
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
        typer.Option(
            help="Turn an eager model into: eager, compile, script, export, aoti or cudagraph."
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Mode of --form compile, such as max-autotune-no-cudagraphs."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE,...",
            help="Put the model and its inputs on cuda, cuda:1, ...; of several devices each has "
            "processes in turn.",
        ),
    ] = None,
    streams: Annotated[
        str, typer.Option(help="On a device: a stream per-caller, or one that is shared.")
    ] = "per-caller",
    completion: Annotated[
        str,
        typer.Option(
            help="How a caller waits for its call on a device: sync (spins, and is back soonest) "
            "or event (sleeps, and leaves its core to others)."
        ),
    ] = "sync",
    transfers: Annotated[
        bool,
        typer.Option(
            "--transfers",
            help="Copy inputs from pinned host memory to the device, and outputs back, in each "
            "call.",
        ),
    ] = False,
    telemetry: Annotated[
        bool,
        typer.Option(
            "--telemetry/--no-telemetry", help="Look at clocks, power and memory of GPUs."
        ),
    ] = True,
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
    given = {name: value for name, value in locals().items() if name != "context"}
    set_here = {name for name in given if _is_given(context, name)}

    def asked() -> Asked:
        return Asked.from_words(given, set_here)

    launch = launch_of(os.environ)
    if launch is None:
        words = asked()
        (run_here if words.batch_sizes is None else run_batch_sizes)(words)
    else:
        run_as_rank(launch, asked, quiet=quiet)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
