"""A Chrome trace of the measured part: the operators of every caller, and no warm-up."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.files import check_writable, replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def tracing(path: Path | None) -> Iterator[None]:
    """Record the operators of all threads while the block runs, and write them to ``path``.

    Raises:
        PlanError: ``path`` cannot be written.
    """
    if path is None:
        yield
        return
    check_writable(path)
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    try:
        # without this only the thread that starts the profiler is seen
        every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # noqa: SLF001
    except TypeError:
        raise PlanError(
            f"torch {torch.__version__} cannot profile other threads; a trace needs a newer one"
        ) from None
    profiler = profile(activities=activities, experimental_config=every_thread)
    with profiler:
        yield
    with replacing(path) as temporary:
        profiler.export_chrome_trace(str(temporary))
