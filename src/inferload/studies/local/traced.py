"""Where the time goes within calls, from calls that are traced, and what calls compute."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from inferload.callers.trace import profiling
from inferload.log.failures import in_brief
from inferload.machine.disturbances import GilWatch
from inferload.machine.hardware import largest_cache_bytes
from inferload.studies.bench import Turn
from inferload.studies.local.roof import roof
from inferload.studies.records.explanation import Operator, Traced, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.profiler import profile

    from inferload.callers.local.slices import SlicedCalls
    from inferload.plan.options import RunOptions
    from inferload.stats.slices.slice import Slice
    from inferload.studies.local.bench import LocalBench
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

# Events that are read in a moment; calls of more operators are fewer.
_MOST_EVENTS = 50_000
_MOST_CALLS, _LONGEST_S = 10_000, 5.0
# Calls that are traced for less than this are the first ones alone.
_SHORTEST_S = 0.05
_SHOWN = 10
# What operators are called that multiply matrices.
_PRODUCTS = ("rnn", "lstm", "gru", "mkldnn", "linear", "conv", "matmul", "bmm", "addmm", "_mm")
# Of more inputs than this the first are counted.
_COUNTED = 4
_MEMORY = "[memory]"


def traced(
    bench: LocalBench, options: RunOptions, announce: Callable[[str], None]
) -> tuple[Traced | None, Work]:
    """Trace calls as in a run; and count what one computes, called alone.

    Raises:
        InferloadError: a call failed.
    """
    with bench.sliced(Turn(options=options)) as calls:
        ready = calls.prepare(announce)
        calls.slice(0.05, options.warmup_calls)
        with GilWatch() as watch:
            plain = calls.slice(0.2, 0)
        callers = options.load.callers
        first, seen = _profiled(calls, 1e-4)
        events = sum(row.count for row in first.key_averages()) / max(seen.calls, 1)
        wanted = min(max(_MOST_EVENTS / max(events, 1), 2 * callers), _MOST_CALLS)
        seconds = min(max(wanted * plain.mean_s / callers, _SHORTEST_S), _LONGEST_S)
        profiler, seen = _profiled(calls, seconds)
        device = next((one.device for one in ready.devices), None)
        found = replace(_told(profiler, seen, plain), gil_waits=watch.waits)
    return found, _work(*bench.eager(), torch.device(device or "cpu"))


def _profiled(calls: SlicedCalls, seconds: float) -> tuple[profile, Slice]:
    with profiling() as profiler:
        seen = calls.slice(seconds, 0)
    return profiler, seen


def _told(profiler: profile, seen: Slice, plain: Slice) -> Traced:
    rows: Any = profiler.key_averages()
    calls = max(seen.calls, 1)
    whole_ms = seen.mean_s * 1e3
    host = [_operator(one.key, one.self_cpu_time_total, one.count, calls, whole_ms) for one in rows]
    host = [one for one in host if one.self_ms > 0]
    device_us = {one.key: float(getattr(one, "self_device_time_total", 0.0)) for one in rows}
    busy_ms = sum(device_us.values()) / calls / 1e3
    kernels = [
        _operator(one.key, device_us[one.key], one.count, calls, busy_ms)
        for one in rows
        if device_us[one.key] > 0 and str(one.device_type).endswith("CUDA")
    ]
    return Traced(
        calls=seen.calls,
        slowed=seen.items_per_s / plain.items_per_s if plain.items_per_s else None,
        operators=_largest(host),
        times=sum(one.times for one in host),
        outside=max(1 - sum(one.share for one in host), 0.0),
        kernels=_largest(kernels),
        faults=0.0 if plain.used is None else plain.used.faults / max(plain.calls, 1),
    )


def _operator(name: str, self_us: float, times: int, calls: int, whole_ms: float) -> Operator:
    self_ms = self_us / calls / 1e3
    return Operator(
        name=name,
        self_ms=self_ms,
        times=times / calls,
        share=self_ms / whole_ms if whole_ms else 0.0,
    )


def _largest(found: Sequence[Operator]) -> tuple[Operator, ...]:
    return tuple(sorted(found, key=lambda one: -one.self_ms)[:_SHOWN])


class _Bytes(TorchDispatchMode):
    """Adds up the sizes of tensors that operators read and write; of views nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.operators = 0
        #: Operators that compute much, and that FLOPs are not counted of.
        self.uncounted: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        aliases = [one.alias_info for one in func._schema.returns]  # noqa: SLF001
        if not any(one is not None and not one.is_write for one in aliases):
            leaves = tree_leaves((args, kwargs, out))
            sizes = {id(one): _size(one) for one in leaves if isinstance(one, torch.Tensor)}
            self.bytes += sum(sizes.values())
            self.operators += 1
            name = func._schema.name  # noqa: SLF001
            if func.overloadpacket not in flop_registry and _computes_much(name):
                self.uncounted[name] = None
        return out


def _computes_much(name: str) -> bool:
    """Whether an operator multiplies matrices, by its name."""
    home, _, own = name.partition("::")
    return home not in {"aten", "prim", "prims"} or any(word in own for word in _PRODUCTS)


def _size(tensor: torch.Tensor) -> int:
    own = tensor.numel() * tensor.element_size()
    try:
        return min(own, tensor.untyped_storage().nbytes())  # of one that is expanded
    except (RuntimeError, NotImplementedError):  # of a kind that has no storage
        return own


def _work(target: Target | None, given: Sequence[CallInput], device: torch.device) -> Work:
    """What a call computes, the mean over inputs."""
    dtype = _dtype_of(target, given)
    peak_flops, peak_bytes = roof(device, dtype)
    peaks: dict[str, Any] = {
        "peak_flops_per_s": peak_flops,
        "peak_bytes_per_s": peak_bytes,
        "cache_bytes": largest_cache_bytes() if device.type == "cpu" else None,
        "dtype": str(dtype).removeprefix("torch."),
    }
    if target is None:
        return Work(why_not="operators are counted in the eager model, which is not there", **peaks)
    try:
        with ExitStack() as stack:
            bound = [target.bind(number, one) for number, one in enumerate(given[:_COUNTED])]
            calls = target.calls_of(0, bound)
            flops = stack.enter_context(FlopCounterMode(display=False))
            moved = stack.enter_context(_Bytes())
            for call in calls:
                call()
        sizes = _asked_for(calls)
    except Exception as error:  # noqa: BLE001 - a model that cannot be watched still runs
        return Work(why_not=f"operators could not be counted: {in_brief(str(error))}", **peaks)
    count = max(len(calls), 1)
    total, read = flops.get_total_flops() / count, moved.bytes / count
    if not math.isfinite(total) or not read:
        return Work(why_not="a call runs no operators of torch that can be counted", **peaks)
    return Work(
        operators=moved.operators / count,
        allocations=len(sizes) / count,
        allocated_bytes=sum(sizes) / count,
        flops=None if moved.uncounted else total,
        uncounted=tuple(moved.uncounted),
        bytes=read,
        **peaks,
    )


def _asked_for(calls: Sequence[Callable[[], Any]]) -> list[int]:
    """The sizes that torch's allocator is asked for, in this thread."""
    with profiling(memory=True) as profiler:
        for call in calls:
            call()
    found: Any = profiler.profiler
    sizes = [one.nbytes() for one in found.kineto_results.events() if one.name() == _MEMORY]
    return [one for one in sizes if one > 0]


def _dtype_of(target: Target | None, given: Sequence[CallInput]) -> torch.dtype:
    weights = [] if target is None else [p for m in target.modules() for p in m.parameters()]
    inputs = [x for one in given for x in tree_leaves((one.args, dict(one.kwargs)))]
    for one in [*weights, *inputs]:
        if isinstance(one, torch.Tensor) and one.dtype in _TIMED:
            return one.dtype
    return torch.float32


_TIMED = {torch.float32, torch.float64, torch.bfloat16, torch.float16}
