"""A Chrome trace of the measured part: the operators of every caller, and no warm-up."""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

from inferload.errors import PlanError
from inferload.files import check_writable, replacing
from inferload.records.figures import RunWarning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check_traceable(path: Path) -> None:
    """Refuse a trace that could not be made.

    Raises:
        PlanError: ``path`` cannot be written, or this torch only profiles the starting thread.
    """
    check_writable(path)
    try:
        _every_thread()
    except TypeError:
        raise PlanError(
            f"torch {torch.__version__} cannot profile other threads; a trace needs a newer one"
        ) from None


def _every_thread() -> torch._C._profiler._ExperimentalConfig:
    # without it only the thread that starts the profiler is seen
    return torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # noqa: SLF001


@contextmanager
def profiling(*, memory: bool = False) -> Iterator[profile]:
    """Record the operators of all threads, and what devices do, while the block runs.

    ``memory``: what is asked of allocators too, and then only the operators of this thread.
    """
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(
        activities=activities,
        experimental_config=None if memory else _every_thread(),
        profile_memory=memory,
    )
    with ExitStack() as whole:
        if memory:  # in one thread, which is told of each block from before that it frees
            whole.enter_context(_without_probes())
        with _without_probes():
            profiler.start()
        try:
            yield profiler
        finally:
            with _without_probes():
                profiler.stop()


@contextmanager
def _without_probes() -> Iterator[None]:
    """Without the lines that torch 2.13's profiler prints of its probes, at any level of logs.

    And without the warning of 2.11 that a profiler which is started anew forgets what it had.
    """
    with tempfile.TemporaryFile() as kept, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Profiler clears events", category=UserWarning)
        own = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(own, 2)
            os.close(own)
            kept.seek(0)
            for line in kept:
                if not line.startswith(b"USDT:") and b"Memory block of unknown size" not in line:
                    os.write(2, line)


@contextmanager
def tracing(path: Path | None) -> Iterator[list[RunWarning]]:
    """Record the operators of all threads while the block runs, and write them to ``path``.

    Gives a list that a warning joins if the file cannot be written: the run is done by then.
    """
    found: list[RunWarning] = []
    if path is None:
        yield found
        return
    with profiling() as profiler:
        yield found
    try:
        with replacing(path) as temporary:
            profiler.export_chrome_trace(str(temporary))
    except OSError as error:
        found.append(
            RunWarning(
                code="trace-not-written",
                message=f"the trace {path} could not be written: {error.strerror or error}",
                hint="make room or choose another path",
            )
        )
