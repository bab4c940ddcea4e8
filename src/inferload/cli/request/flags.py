"""The flags that several commands have, each with its words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferload.plan.model import FORMS, GRAD_MODES

if TYPE_CHECKING:
    from collections.abc import Callable


def _one_of(*words: str) -> Callable[[str], list[str]]:
    """What the shell completes to."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="path/file.py:name, package.module:name, a TorchScript .pt, or a .pt2 (exported "
        "program or AOTInductor package). NAME is a module, a function that takes the inputs, or "
        "one without arguments that returns either (default: model); the file may define inputs() "
        "too. Or a run file, mix.toml, with any of these options and one model or several.",
    ),
]
Callers = Annotated[int, typer.Option(help="Callers that call at once, in each process.")]
Processes = Annotated[
    int | None, typer.Option(help="Processes with callers; they share the weights. 1 if not given.")
]
BatchSizes = Annotated[
    str | None,
    typer.Option(
        metavar="N,...", help="One run for each size, with inputs stacked to it along dimension 0."
    ),
]
Calls = Annotated[
    int | None, typer.Option(help="Calls in all; 1000 if --duration is not given either.")
]
Duration = Annotated[
    str | None, typer.Option(metavar="TIME", help="Instead: how long, as 10s, 500ms or 2m.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="FRACTION",
        help="Instead: until the intervals of --quantile and throughput are within, as 2%.",
    ),
]
Quantile = Annotated[
    str, typer.Option(help="The quantile that --precision is about: p50 to p99.99.")
]
TimeLimit = Annotated[
    str | None, typer.Option(metavar="TIME", help="Ends --precision all the same; 60s.")
]
Rate = Annotated[
    float | None, typer.Option(metavar="R", help="Open loop: calls due per second, come what may.")
]
Arrivals = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        autocompletion=_one_of("poisson", "constant", "gamma:", "replay:"),
        help="poisson (with --rate), constant, gamma:SHAPE (bursts below 1), replay:FILE or "
        "replay:FILE:2x (twice as fast).",
    ),
]
Warmup = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Warm-up calls of each caller, and nothing is cut; auto (with --duration and "
        "--precision): 10, fewer if they take longer than the run and 30s, and what comes before "
        "the steady state is cut.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE|SPEC",
        help="An input as 8x3x224x224:float32 (commas between arguments, name=... for "
        "keywords; 8x32:int64:0..30000 draws values from a range, its end left out; '... x16' "
        "makes 16 inputs), a file that torch.save wrote, or one of inferload.capture "
        "(.safetensors). May be given again for more inputs.",
    ),
]
FreshInputs = Annotated[
    bool,
    typer.Option(
        "--fresh-inputs",
        help="Give each call a fresh copy of its input, made outside of its times, where calls "
        "write to their inputs or let them grow.",
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        autocompletion=_one_of(*FORMS),
        help="Turn an eager model into: eager, compile, script, export, aoti or cudagraph.",
    ),
]
Mode = Annotated[
    str | None, typer.Option(help="Mode of --form compile, such as max-autotune-no-cudagraphs.")
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE,...",
        help="Put the model and its inputs on cuda, cuda:1, ...; of several devices each has "
        "processes in turn.",
    ),
]
Streams = Annotated[
    str,
    typer.Option(
        autocompletion=_one_of("per-caller", "shared"),
        help="On a device: a stream per-caller, or one that is shared.",
    ),
]
Completion = Annotated[
    str,
    typer.Option(
        autocompletion=_one_of("sync", "event"),
        help="How a caller waits for its call on a device: sync (spins, and is back soonest) "
        "or event (sleeps, and leaves its core to others).",
    ),
]
Transfers = Annotated[
    bool,
    typer.Option(
        "--transfers",
        help="Copy inputs from pinned host memory to the device, and outputs back, in each call.",
    ),
]
Telemetry = Annotated[
    bool,
    typer.Option("--telemetry/--no-telemetry", help="Look at clocks, power and memory of GPUs."),
]
Executor = Annotated[
    str,
    typer.Option(
        autocompletion=_one_of("auto", "threads", "native", "processes"),
        help="auto, threads or native; processes: one process a core.",
    ),
]
ThreadsPerCall = Annotated[int | None, typer.Option(help="Intra-op threads of each call.")]
Pin = Annotated[
    str,
    typer.Option(
        metavar="WHERE",
        autocompletion=_one_of("none", "cores", "numa"),
        help="cores: each process, and each caller in it, has cores of its own; numa: each "
        "process has a node, and its memory from there; none.",
    ),
]
Autocast = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        autocompletion=_one_of("bfloat16", "float16"),
        help="Autocast to bfloat16 or float16.",
    ),
]
Grad = Annotated[
    str,
    typer.Option(
        metavar="MODE",
        autocompletion=_one_of(*GRAD_MODES),
        help="inference: calls run in inference mode; no: without gradients; on: with them, for "
        "models that compute gradients.",
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare/--no-compare",
        help="Hold what --form makes against the eager model's outputs, and refuse what differs.",
    ),
]
Seed = Annotated[int, typer.Option(help="Draws the order of inputs and their values.")]
OnError = Annotated[
    str,
    typer.Option(
        autocompletion=_one_of("stop", "record"),
        help="stop at the first exception, or record it and go on.",
    ),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare outputs under load with those made alone.")
]
Timeout = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="A call that takes longer failed, and ends the run."),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate/--no-isolate",
        help="Run the model in a process of its own, whose crash loses no result; not so for "
        "a debugger.",
    ),
]
Json = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Save the result, its log beside it.")
]
Html = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a report with charts, one HTML file.")
]
Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a report for a pull request or ticket.")
]
Trace = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a Chrome trace of the calls.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, only the report.")]
