"""inferload: the truth about a PyTorch model that many callers use at once.

Names are imported when first used, so that ``import inferload`` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inferload.bench import run
    from inferload.call_log import CallFailure, CallLog, CallTally
    from inferload.compat import BenchmarkConfig, ExecutionStats, ThroughputBenchmark, format_time
    from inferload.device_figures import DeviceFigures, StageFigures
    from inferload.distribution import Distribution, Estimate
    from inferload.errors import (
        CallError,
        InferloadError,
        NativeBuildError,
        PlanError,
        ResultFormatError,
        RunInterrupted,
        TargetCrashed,
    )
    from inferload.inputs import CallInput
    from inferload.loads import ClosedLoop, OpenLoop
    from inferload.mix import Mix
    from inferload.records import (
        Certificate,
        Ending,
        MemoryUse,
        ModelFigures,
        ModelShare,
        ProcessFigures,
        RunResult,
        RunSpec,
        RunWarning,
        SetUp,
        SteadyState,
        Summary,
        Verification,
    )
    from inferload.stats import certificate
    from inferload.storage import load_result
    from inferload.targets.base import Target

__version__ = "0.1.0"

_HOMES = {
    "bench": ("run",),
    "compat": ("BenchmarkConfig", "ExecutionStats", "ThroughputBenchmark", "format_time"),
    "errors": (
        "CallError",
        "InferloadError",
        "NativeBuildError",
        "PlanError",
        "ResultFormatError",
        "RunInterrupted",
        "TargetCrashed",
    ),
    "inputs": ("CallInput",),
    "loads": ("ClosedLoop", "OpenLoop"),
    "mix": ("Mix",),
    "device_figures": ("DeviceFigures", "StageFigures"),
    "distribution": ("Distribution", "Estimate"),
    "call_log": ("CallFailure", "CallLog", "CallTally"),
    "records": (
        "Certificate",
        "Ending",
        "MemoryUse",
        "ModelFigures",
        "ModelShare",
        "ProcessFigures",
        "RunResult",
        "RunSpec",
        "RunWarning",
        "SetUp",
        "SteadyState",
        "Summary",
        "Verification",
    ),
    "stats": ("certificate",),
    "storage": ("load_result",),
    "targets.base": ("Target",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BenchmarkConfig",
    "CallError",
    "CallFailure",
    "CallInput",
    "CallLog",
    "CallTally",
    "Certificate",
    "ClosedLoop",
    "DeviceFigures",
    "Distribution",
    "Ending",
    "Estimate",
    "ExecutionStats",
    "InferloadError",
    "MemoryUse",
    "Mix",
    "ModelFigures",
    "ModelShare",
    "NativeBuildError",
    "OpenLoop",
    "PlanError",
    "ProcessFigures",
    "ResultFormatError",
    "RunInterrupted",
    "RunResult",
    "RunSpec",
    "RunWarning",
    "SetUp",
    "StageFigures",
    "SteadyState",
    "Summary",
    "Target",
    "TargetCrashed",
    "ThroughputBenchmark",
    "Verification",
    "certificate",
    "format_time",
    "load_result",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'inferload' has no attribute {name!r}")
    return getattr(import_module(f"inferload.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
