"""What is doubtful about a run before it has started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.parameter import is_lazy

from inferload.records.figures import RunWarning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from inferload.records.spec import RunSpec

# torch hands out so many streams of a device before it begins anew (c10/cuda/CUDAStream.cpp).
STREAMS = 32


def warnings_before(
    spec: RunSpec,
    modules: Sequence[torch.nn.Module],
    *,
    usable_cores: float,
    on_device: bool,
    ranks_here: int = 1,
) -> list[RunWarning]:
    """What is doubtful about a run before it has started.

    ``on_device``: the work is not the CPU's, so intra-op threads do not matter. ``spec`` counts the
    callers of all ``ranks_here``, the ranks of a cluster on this machine.
    """
    found = [*_weights_without_a_say(spec), *_streams(spec), *_two_ids(spec, modules)]
    found += _first_call_anyway(spec, modules)
    threads = spec.processes if spec.executors == ("async",) else spec.callers
    wanted = threads * spec.threads_per_call
    asks = len(spec.servers) == max(len(spec.models), 1)  # calls compute nothing here
    if wanted > usable_cores and not on_device and not asks:
        fitting = max(int(usable_cores) // spec.processes, 1)
        callers = min(spec.callers_per_process, fitting)
        hint = (
            f"--threads-per-call {max(fitting // callers, 1)} --callers {callers} "
            "gives each a core of its own"
            if spec.processes <= usable_cores
            else f"--processes {max(int(usable_cores), 1)} --callers 1 --threads-per-call 1 gives "
            "each a core"
        )
        if ranks_here > 1:
            hint = "fewer ranks on this machine (--nproc-per-node), or fewer callers in each"
        elif len(spec.callers_by_lane) > 1:
            hint = "fewer callers for each of the models, or --threads-per-call 1"
        found.append(
            RunWarning(
                code="oversubscribed",
                message=(
                    f"{threads} {_whose_threads(spec)} x {spec.threads_per_call} intra-op threads "
                    f"= {wanted} threads on {usable_cores:g} usable cores"
                ),
                hint=hint,
            )
        )
    if any(
        _is_training(module) and any(_stateful(m) for m in module.modules()) for module in modules
    ):
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
                hint="--grad inference makes none, where the model itself needs no gradients",
            )
        )
    return found


def _weights_without_a_say(spec: RunSpec) -> list[RunWarning]:
    """A closed loop whose models have callers of their own."""
    shares = [one for one in spec.models if one.callers is not None]
    if spec.open_loop or len({one.weight for one in shares}) < 2:
        return []
    return [
        RunWarning(
            code="weights-unused",
            message=(
                "in a closed loop callers that call one model only do so as fast as they can: the "
                "weights of the models have no say"
            ),
            hint="--rate draws calls by weight; or let all callers call all models",
        )
    ]


def _two_ids(spec: RunSpec, modules: Sequence[torch.nn.Module]) -> list[RunWarning]:
    """Ids of which only two were drawn, whose rows of a table then stay in the nearest cache."""
    # masks are 0 and 1, and stand beside ids that have a range
    drawn = [one for one in spec.drawn if "from 0 and 1" in one and ".." not in one]
    tables = [getattr(one, "num_embeddings", 0) for module in modules for one in module.modules()]
    rows = max((one for one in tables if isinstance(one, int)), default=0)
    if not drawn or rows <= 2:
        return []
    return [
        RunWarning(
            code="two-ids",
            message=(
                f"the integers of --inputs are 0 or 1, so that calls look up 2 of the {rows:,} "
                "rows of an embedding: that is faster than what callers send"
            ),
            hint=f"give their range, its end left out: 1x128:int64:0..{rows}",
        )
    ]


def _first_call_anyway(spec: RunSpec, modules: Sequence[torch.nn.Module]) -> Iterator[RunWarning]:
    """A call that nobody asked for."""
    held = [one for module in modules for one in (*module.parameters(), *module.buffers())]
    if not spec.warmup_calls and any(map(is_lazy, held)):
        yield RunWarning(
            code="lazy-parameters",
            message=(
                "the model makes parameters in its first call, which one caller made alone before "
                "the start, though no warm-up calls were asked for"
            ),
            hint="several first calls at once would fail; load a state dict to have none to make",
        )


def _streams(spec: RunSpec) -> list[RunWarning]:
    """Callers that share a stream of a device."""
    callers = spec.callers_per_process
    if not spec.devices or callers == 1:
        return []
    if spec.streams == "shared":
        return [
            RunWarning(
                code="one-stream",
                message=f"{callers} callers share one stream: their calls wait for each other",
                hint="--streams per-caller gives each its own",
            )
        ]
    if callers <= STREAMS:
        return []
    return [
        RunWarning(
            code="few-streams",
            message=f"{callers} callers share the {STREAMS} streams that torch keeps for a device",
            hint=f"--callers {STREAMS}, or more processes",
        )
    ]


def _is_training(module: torch.nn.Module) -> bool:
    return bool(getattr(module, "training", False))  # a frozen ScriptModule has no such thing


def _stateful(module: torch.nn.Module) -> bool:
    """Whether a module computes something else in training mode."""
    name = str(getattr(module, "original_name", type(module).__name__))
    return "Dropout" in name or "BatchNorm" in name


def _whose_threads(spec: RunSpec) -> str:
    """Who has intra-op threads: all tasks of a loop are one thread."""
    return "event loops" if spec.executors == ("async",) else "callers"
