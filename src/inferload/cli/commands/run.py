"""``inferload run``."""

from __future__ import annotations

import os
from typing import Any

import typer

from inferload.cli.batches import run_batch_sizes
from inferload.cli.cluster import run_as_rank
from inferload.cli.request import flags
from inferload.cli.request.asked import Asked
from inferload.cli.running import run_here
from inferload.runs.cluster.launch import launch_of


@flags.with_options("run")
def run_command(context: typer.Context, model: flags.Model, **words: Any) -> None:
    """Call MODEL from many callers at once and report what each of them saw.

    An eager model is put into eval mode; calls run in inference mode unless --grad says otherwise.
    """

    def asked() -> Asked:
        return Asked.from_context(context, model=model)

    launch = launch_of(os.environ)
    if launch is not None:
        run_as_rank(launch, asked, quiet=words["quiet"])
        return
    found = asked()
    (run_here if found["batch_sizes"] is None else run_batch_sizes)(found)
