"""A Chrome trace of the measured part: the operators of every caller, and no warm-up."""

from __future__ import annotations

from contextlib import contextmanager
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
def tracing(path: Path | None) -> Iterator[list[RunWarning]]:
    """Record the operators of all threads while the block runs, and write them to ``path``.

    Gives a list that a warning joins if the file cannot be written: the run is done by then.
    """
    warnings: list[RunWarning] = []
    if path is None:
        yield warnings
        return
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(activities=activities, experimental_config=_every_thread())
    with profiler:
        yield warnings
    try:
        with replacing(path) as temporary:
            profiler.export_chrome_trace(str(temporary))
    except OSError as error:
        warnings.append(
            RunWarning(
                code="trace-not-written",
                message=f"the trace {path} could not be written: {error.strerror or error}",
                hint="make room or choose another path",
            )
        )
