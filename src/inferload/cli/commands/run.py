"""``inferload run``: its flags."""

from __future__ import annotations

import os

import typer

from inferload.cli.batches import run_batch_sizes
from inferload.cli.cluster import run_as_rank
from inferload.cli.request import flags
from inferload.cli.request.asked import Asked
from inferload.cli.running import run_here
from inferload.runs.cluster.launch import launch_of


def run_command(
    context: typer.Context,
    model: flags.Model,
    callers: flags.Callers = 1,
    processes: flags.Processes = None,
    batch_sizes: flags.BatchSizes = None,
    calls: flags.Calls = None,
    duration: flags.Duration = None,
    precision: flags.Precision = None,
    quantile: flags.Quantile = "p99",
    time_limit: flags.TimeLimit = None,
    rate: flags.Rate = None,
    arrivals: flags.Arrivals = None,
    warmup: flags.Warmup = None,
    inputs: flags.Inputs = None,
    fresh_inputs: flags.FreshInputs = False,
    form: flags.Form = None,
    mode: flags.Mode = None,
    device: flags.Device = None,
    streams: flags.Streams = "per-caller",
    completion: flags.Completion = "sync",
    transfers: flags.Transfers = False,
    telemetry: flags.Telemetry = True,
    executor: flags.Executor = "auto",
    threads_per_call: flags.ThreadsPerCall = None,
    pin: flags.Pin = "none",
    autocast: flags.Autocast = None,
    grad: flags.Grad = "inference",
    compare: flags.Compare = True,
    seed: flags.Seed = 0,
    on_error: flags.OnError = "stop",
    verify: flags.Verify = False,
    timeout: flags.Timeout = None,
    isolate: flags.Isolate = True,
    json: flags.Json = None,
    html: flags.Html = None,
    markdown: flags.Markdown = None,
    trace: flags.Trace = None,
    quiet: flags.Quiet = False,
) -> None:
    """Call MODEL from many callers at once and report what each of them saw.

    An eager model is put into eval mode; calls run in inference mode unless --grad says otherwise.
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
