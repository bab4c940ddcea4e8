"""From what was measured to what is doubtful about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.log_file import OPEN_ENDED_ROWS
from inferload.records import CallLog, RunSpec, RunWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from inferload.executors.base import Outcome

GIL_FORMS = {"eager", "compile", "export", "callable"}


def warnings_before(
    spec: RunSpec,
    modules: Sequence[torch.nn.Module],
    *,
    usable_cores: float,
    on_device: bool,
) -> list[RunWarning]:
    """What is doubtful about a run before it has started.

    ``on_device``: the work is not the CPU's, so intra-op threads do not matter.
    """
    found = []
    wanted = spec.callers * spec.threads_per_call
    if wanted > usable_cores and not on_device:
        fitting = max(int(usable_cores), 1)
        found.append(
            RunWarning(
                code="oversubscribed",
                message=(
                    f"{spec.callers} callers x {spec.threads_per_call} intra-op threads = {wanted} "
                    f"threads on {usable_cores:g} usable cores"
                ),
                hint=(
                    f"--threads-per-call {max(fitting // spec.callers, 1)} "
                    f"--callers {min(spec.callers, fitting)} gives each a core of its own"
                ),
            )
        )
    if any(module.training and any(_stateful(m) for m in module.modules()) for module in modules):
        found.append(
            RunWarning(
                code="training-mode",
                message="the model is in training mode: dropout and batch-norm updates are on",
                hint="call model.eval() first",
            )
        )
    if spec.grad_mode == "grad" and any(
        parameter.requires_grad for module in modules for parameter in module.parameters()
    ):
        found.append(
            RunWarning(
                code="grad-enabled",
                message="gradients are enabled, so every call records an autograd graph",
                hint="run within torch.inference_mode()",
            )
        )
    return found


def _stateful(module: torch.nn.Module) -> bool:
    """Whether a module computes something else in training mode."""
    name = str(getattr(module, "original_name", type(module).__name__))
    return "Dropout" in name or "BatchNorm" in name


def warnings_after(
    spec: RunSpec, log: CallLog, outcome: Outcome, *, recompiled_graphs: int, usable_cores: float
) -> list[RunWarning]:
    """What is doubtful about a run once it is over."""
    found = []
    if recompiled_graphs:
        found.append(
            RunWarning(
                code="recompiled",
                message=f"torch.compile made {recompiled_graphs} graphs while calls were measured",
                hint="mark dynamic dimensions, or warm up with every shape (--warmup)",
            )
        )
    if outcome.errors:
        failed = int((~log.completed).sum())
        first = outcome.errors[0]
        found.append(
            RunWarning(
                code="failed-calls",
                message=(
                    f"{failed:,} of {len(log):,} calls raised; first {first.type}: {first.gist}"
                ),
                hint="failed calls are counted apart and not in the latencies",
            )
        )
    if outcome.disk_full:
        found.append(
            RunWarning(
                code="disk-full",
                message="the disk of the call log filled up, which ended the run early",
                hint="set TMPDIR to a folder with more room, or run for less time",
            )
        )
    elif spec.calls is None and outcome.claimed_rows >= OPEN_ENDED_ROWS:
        found.append(
            RunWarning(
                code="log-full",
                message=f"the call log reached its {outcome.claimed_rows:,} calls, ending the run",
                hint="run for less time",
            )
        )
    if (
        spec.executor == "threads"
        and spec.form in GIL_FORMS
        and spec.callers > 1
        and usable_cores > 1
    ):
        found.append(
            RunWarning(
                code="gil",
                message=f"{spec.callers} Python callers take turns at the GIL between kernels",
                hint="--form aoti runs without it",
            )
        )
    return found
