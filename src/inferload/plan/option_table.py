"""The table of options: one row for each, and everything that an option has is made from it.

Flags of all verbs, keys of the run file, what a result's spec repeats, the checks, the reference
page, and the Python that makes a run again. A new option is a row here and its use; the parameters
of ``inferload.run`` are written out for type checkers, and a test holds them to these rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path  # noqa: TC003 - the kind of an option

from inferload.errors import PlanError
from inferload.plan.batching import Batching
from inferload.plan.model import FORMS, GRAD_MODES
from inferload.plan.numbers import check_count, check_positive
from inferload.plan.option_row import VERBS, Row, option, ordered, rows_of
from inferload.plan.server import CONNECTIONS
from inferload.records.distribution import QUOTED_QUANTILES

EXECUTORS = ("auto", "threads", "native", "async", "processes")
STREAMS = ("per-caller", "shared")
COMPLETIONS = ("event", "sync")
PINS = ("none", "cores", "numa")
LONGEST_S = 10 * 365 * 86_400.0
DEFAULT_WARMUP_CALLS = 10
MOST_PROCESSES = 1024
_ONE_RUN = {"run"}
_REPORTED = {*VERBS, "forecast", "report"}
_TIMED = partial(check_positive, at_least=1e-9, at_most=LONGEST_S)
# Where a setting is what a study varies, it has a flag of its own.
_NOT_SWEPT = {"run", "search", "compare", "explain"}
# What is explained is called by callers alone, here.
_NOT_EXPLAINED = {*VERBS} - {"explain"}


def _check_executor(name: str, value: object) -> None:
    if isinstance(value, str) and value not in EXECUTORS:
        raise PlanError(f"{name} {value!r} is unknown: choose {', '.join(EXECUTORS)}")


def _check_batching(name: str, value: object) -> None:
    if not isinstance(value, Batching):
        raise PlanError(f"{name} is {value!r}: give il.Batching(max_batch=64, max_delay_s=0.002)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one run, in Python and on the command line."""

    processes: int | None = option(
        None, "callers", flag="processes", verbs=_NOT_SWEPT - {"explain"},
        check=partial(check_count, at_least=1, at_most=MOST_PROCESSES),
        help="Processes with callers; they share the weights. 1 if not given.",
    )  # fmt: skip
    calls: int | None = option(
        None, "end", flag="calls", verbs={"run", "sweep", "compare"}, told=True,
        check=partial(check_count, at_least=1),
        help="Calls in all; 1000 if --duration is not given either.",
    )  # fmt: skip
    duration_s: float | None = option(
        None, "end", flag="duration", unit="time", verbs={"run", "sweep", "compare"}, told=True,
        check=_TIMED, metavar="TIME", help="Instead: how long, as 10s, 500ms or 2m.",
    )  # fmt: skip
    precision: float | None = option(
        None, "end", flag="precision", unit="fraction", verbs=_ONE_RUN, told=True,
        check=partial(check_positive, at_most=0.5), metavar="FRACTION",
        help="Instead: until the intervals of --quantile and throughput are within, as 2%.",
    )  # fmt: skip
    quantile: str = option(
        "p99", "end", flag="quantile", verbs=_ONE_RUN, told=True, one_of=QUOTED_QUANTILES,
        stands_for={"p99.9": "p999", "p99.99": "p9999"},
        help="The quantile that --precision is about: p50 to p99.99.",
    )  # fmt: skip
    time_limit_s: float | None = option(
        None, "end", flag="time-limit", unit="time", verbs=_ONE_RUN, told=True, check=_TIMED,
        metavar="TIME", help="Ends --precision all the same; 60s.",
    )  # fmt: skip
    limit: object = option(
        None, "end", flag="limit", kind=list, verbs=_ONE_RUN, in_file=str | list[str],
        metavar="LIMIT",
        help="What calls must keep, as p99<=20ms,errors<=1%, or throughput>=200: a run that breaks "
        "a limit ends there, with exit code 1. May be given again.",
    )  # fmt: skip
    batching: Batching | None = option(None, "arrivals", kind=object, check=_check_batching)
    warmup: str | None = option(None, "inputs", one_of=("auto", "fixed"))
    warmup_calls: int = option(
        DEFAULT_WARMUP_CALLS, "inputs", told=True, check=partial(check_count, at_least=0)
    )
    fresh_inputs: bool = option(
        False, "inputs", flag="fresh-inputs", told=True,
        help="Give each call a fresh copy of its input, made outside of its times, where calls "
        "write to their inputs or let them grow.",
    )  # fmt: skip
    share_inputs: bool = option(False, "inputs", told=True)
    form: str | None = option(
        None, "form", flag="form", one_of=FORMS,
        help="Turn an eager model into: eager, compile, script, export, aoti or cudagraph.",
    )  # fmt: skip
    mode: str | None = option(
        None, "form", flag="mode", verbs={"run", "sweep", "search", "compare"}, told=True,
        help="Mode of --form compile, such as max-autotune-no-cudagraphs.",
    )  # fmt: skip
    batch_size: int | None = option(None, "form", told=True)
    streams: str = option(
        "per-caller", "device", flag="streams", one_of=STREAMS,
        help="On a device: a stream per-caller, or one that is shared.",
    )  # fmt: skip
    completion: str = option(
        "sync", "device", flag="completion", one_of=COMPLETIONS,
        help="How a caller waits for its call on a device: sync (spins, and is back soonest) "
        "or event (sleeps, and leaves its core to others).",
    )  # fmt: skip
    transfers: bool = option(
        False, "device", flag="transfers",
        help="Copy inputs from pinned host memory to the device, and outputs back, in each call.",
    )  # fmt: skip
    telemetry: bool = option(
        True, "device", flag="telemetry", told=True,
        help="Look at clocks, power and memory of GPUs.",
    )  # fmt: skip
    executor: object = option(
        "auto", "threads", flag="executor", kind=str, check=_check_executor, completes=EXECUTORS,
        help="auto, threads, native, or async: tasks of an event loop, for coroutines; processes: "
        "one process a core.",
    )  # fmt: skip
    threads_per_call: int | None = option(
        None, "threads", flag="threads-per-call", verbs=_NOT_SWEPT,
        check=partial(check_count, at_least=1, at_most=4096),
        help="Intra-op threads of each call.",
    )  # fmt: skip
    pin: str = option(
        "none", "threads", flag="pin", one_of=PINS, told=True, metavar="WHERE",
        help="cores: each process, and each caller in it, has cores of its own; numa: each "
        "process has a node, and its memory from there; none.",
    )  # fmt: skip
    compare: bool = option(
        True, "state", flag="compare", told=True,
        help="Hold what --form makes against the eager model's outputs, and refuse what differs.",
    )  # fmt: skip
    seed: int = option(
        0, "errors", flag="seed", told=True, check=partial(check_count, at_least=0),
        help="Draws the order of inputs and their values.",
    )  # fmt: skip
    on_error: str | None = option(
        None, "errors", flag="on-error", one_of=("stop", "record"), told=True,
        help="stop at the first exception, or record it and go on; record if not given and MODEL "
        "is a URL.",
    )  # fmt: skip
    verify: bool = option(
        False, "errors", flag="verify", verbs=_ONE_RUN, told=True,
        help="Compare outputs under load with those made alone.",
    )  # fmt: skip
    timeout_s: float | None = option(
        None, "errors", flag="timeout", unit="time", told=True,
        check=partial(check_positive, at_least=1e-3, at_most=LONGEST_S), metavar="TIME",
        help="A call that takes longer failed, and ends the run; a coroutine, or a request to a "
        "server (5m), is cancelled.",
    )  # fmt: skip
    trace: Path | None = option(
        None, "output", flag="trace", verbs=_ONE_RUN, metavar="FILE",
        help="Write a Chrome trace of the calls.",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the command line and run files have alone.

    What it says is an object in Python, or is what ``inferload`` itself does.
    """

    callers: int = option(
        1, "callers", flag="callers", verbs=_NOT_SWEPT,
        help="Callers that call at once, in each process.",
    )  # fmt: skip
    batch_sizes: str | None = option(
        None, "callers", flag="batch-sizes", verbs=_ONE_RUN, in_file=list[int], metavar="N,...",
        help="One run for each size, with inputs stacked to it along dimension 0.",
    )  # fmt: skip
    rate: str | None = option(
        None, "arrivals", flag="rate", verbs={"run", "compare"}, metavar="R", in_file=float | str,
        help="Open loop: calls due per second, come what may. Or stages, as 50/10s,50..500/60s: 50 "
        "a second for 10 s, then a ramp to 500 within a minute.",
    )  # fmt: skip
    arrivals: str | None = option(
        None, "arrivals", flag="arrivals", verbs={"run", "sweep", "search", "compare"},
        metavar="KIND", completes=("poisson", "constant", "gamma:", "replay:"),
        help="poisson (with --rate), constant, gamma:SHAPE (bursts below 1), replay:FILE or "
        "replay:FILE:2x (twice as fast); of captured calls (.safetensors) each with its own input.",
    )  # fmt: skip
    clients: int | None = option(
        None, "arrivals", flag="clients", verbs={"run", "sweep", "compare", "tune"},
        help="Closed loop: so many clients, each with one request in flight, in one queue that the "
        "callers serve.",
    )  # fmt: skip
    think: str | None = option(
        None, "arrivals", flag="think", verbs={"run", "sweep", "compare", "tune"}, metavar="TIME",
        completes=("constant:", "exponential:"),
        help="How long a client waits between a response and its next request: the mean of an "
        "exponential time, as 50ms, or constant:50ms.",
    )  # fmt: skip
    max_batch: int | None = option(
        None, "arrivals", flag="max-batch", verbs=_NOT_EXPLAINED, metavar="N",
        help="Call up to N requests that are due together, as a server with dynamic batching: "
        "callers are its instances.",
    )  # fmt: skip
    max_delay: str | None = option(
        None, "arrivals", flag="max-delay", verbs=_NOT_EXPLAINED, metavar="TIME",
        help="How long a free caller holds a batch back for more requests, from when its first one "
        "was due; 0.",
    )  # fmt: skip
    batch_pad: str | None = option(
        None, "arrivals", flag="batch-pad", verbs=_NOT_EXPLAINED, metavar="VALUE",
        help="Pad inputs of different shapes with it, so that they join one batch: 0 for all "
        "arguments, or input_ids=0,labels=-100. Without it only equal shapes join.",
    )  # fmt: skip
    batch_sizes_allowed: str | None = option(
        None, "arrivals", flag="batch-sizes-allowed", verbs=_NOT_EXPLAINED,
        metavar="N,...", in_file=list[int],
        help="The sizes of dimension 0 that the model is called with; batches are filled up to "
        "the next one.",
    )  # fmt: skip
    header: list[str] | None = option(
        None, "server", flag="header", verbs=_NOT_EXPLAINED, metavar="'NAME: VALUE'",
        help="A header of each request to a server; the words env:NAME and file:PATH stand for "
        "what is there, as 'Authorization: Bearer env:TOKEN'. May be given again.",
    )  # fmt: skip
    body: str | None = option(
        None, "server", flag="body", verbs=_NOT_EXPLAINED, metavar="JSON|@FILE",
        in_file=str | dict | list,
        help='Of plain HTTP what is posted, with "{input}" or "{name}" in place of the input '
        "or its argument of that name; of /v1/... fields that every body has.",
    )  # fmt: skip
    connections: str = option(
        "kept", "server", flag="connections", verbs=_NOT_EXPLAINED, one_of=CONNECTIONS,
        help="kept: a connection for each caller, opened beforehand; new: one for each call.",
    )  # fmt: skip
    insecure: bool = option(
        False, "server", flag="insecure", verbs=_NOT_EXPLAINED,
        help="Do not verify the server's certificate; the report says so.",
    )  # fmt: skip
    answer_bytes: int | None = option(
        None, "server", flag="answer-bytes", verbs=_NOT_EXPLAINED, metavar="N",
        check=partial(check_count, at_least=1),
        help="Refuse answers of a server that are larger; 64 MiB if not given.",
    )  # fmt: skip
    warmup: str | None = option(
        None, "inputs", flag="warmup", in_file=str | int, metavar="N|auto",
        help="Warm-up calls of each caller, and nothing is cut; auto (with --duration and "
        "--precision): 10, fewer if they take longer than the run and 30s, and what comes before "
        "the steady state is cut.",
    )  # fmt: skip
    inputs: list[str] | None = option(
        None, "inputs", flag="inputs", metavar="FILE|SPEC",
        help="An input as 8x3x224x224:float32 (commas between arguments, name=... for "
        "keywords; 8x32:int64:0..30000 draws values from a range, its end left out; '... x16' "
        "makes 16 inputs), a file that torch.save wrote, or one of inferload.capture "
        "(.safetensors); for servers also bodies, one a line (.jsonl), and texts of so many words "
        "(text:100..200). May be given again for more inputs.",
    )  # fmt: skip
    device: str | None = option(
        None, "device", flag="device", metavar="DEVICE,...",
        help="Put the model and its inputs on cuda, cuda:1, ...; of several devices each has "
        "processes in turn.",
    )  # fmt: skip
    autocast: str | None = option(
        None, "state", flag="autocast", metavar="DTYPE", one_of=("bfloat16", "float16"),
        help="Autocast to bfloat16 or float16.",
    )  # fmt: skip
    grad: str = option(
        "inference", "state", flag="grad", metavar="MODE", one_of=GRAD_MODES,
        help="inference: calls run in inference mode; no: without gradients; on: with them, for "
        "models that compute gradients.",
    )  # fmt: skip
    isolate: bool = option(
        True, "output", flag="isolate", verbs=_ONE_RUN,
        help="Run the model in a process of its own, whose crash loses no result; not so for "
        "a debugger.",
    )  # fmt: skip
    json: Path | None = option(
        None, "output", flag="json", verbs=_ONE_RUN, metavar="FILE",
        help="Save the result, its log beside it.",
    )  # fmt: skip
    html: Path | None = option(
        None, "output", flag="html", verbs=_REPORTED, metavar="FILE",
        help="Write a report with charts, one HTML file.",
    )  # fmt: skip
    markdown: Path | None = option(
        None, "output", flag="markdown", verbs=_REPORTED, metavar="FILE",
        help="Write a report for a pull request or ticket.",
    )  # fmt: skip
    quiet: bool = option(
        False, "output", flag="quiet", help="No progress, only the report."
    )  # fmt: skip


#: The options of a run, and all that the command line has, each in the order of its groups.
OPTIONS: tuple[Row, ...] = rows_of(Options)
WORDS: tuple[Row, ...] = rows_of(Words)
FLAGS: tuple[Row, ...] = ordered([*WORDS, *OPTIONS])
#: What a flag says that is left out, by its key.
DEFAULTS = {row.key: row.default for row in FLAGS}
