"""inferload: the truth about a PyTorch model that many callers use at once.

Names are imported when first used, so that ``import inferload`` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from inferload.version import __version__ as __version__

if TYPE_CHECKING:
    from inferload.compat import BenchmarkConfig, ExecutionStats, ThroughputBenchmark, format_time
    from inferload.errors import InferloadError, NativeBuildError, PlanError, ResultFormatError
    from inferload.log.calls import CallLog, CallTally
    from inferload.log.failures import CallFailure
    from inferload.log.piece_times import PieceTimes
    from inferload.plan.arrivals.loads import ClosedLoop, OpenLoop
    from inferload.plan.batching import Batching
    from inferload.plan.server import Server
    from inferload.records.batches import BatchFigures
    from inferload.records.devices import DeviceFigures, StageFigures
    from inferload.records.distribution import Distribution, Estimate
    from inferload.records.endings import CallError, RunInterrupted, TargetCrashed
    from inferload.records.figures import (
        Certificate,
        CpuUse,
        Ending,
        MemoryUse,
        ModelFigures,
        Overload,
        ProcessFigures,
        RunWarning,
        SetUp,
        SteadyState,
        Summary,
        Verification,
    )
    from inferload.records.limits import LimitVerdict
    from inferload.records.pieces import PieceFigures
    from inferload.records.result import RunResult
    from inferload.records.server import (
        FailureFigures,
        ModelStatistics,
        Reached,
        SaidMetric,
        SaidTime,
        ServerFigures,
        ServerModel,
        ServerSaid,
        ServerSpec,
    )
    from inferload.records.spec import ModelShare, RunSpec
    from inferload.records.stages import LoadStage, Stage
    from inferload.report.export.writing import export
    from inferload.runs.run import run
    from inferload.runs.saved import load_result
    from inferload.stats.limits.certificates import certificate
    from inferload.stats.limits.judging import Judgement
    from inferload.stats.limits.limit import Limit
    from inferload.stats.service import ServiceProfile
    from inferload.studies.child.compare import compare
    from inferload.studies.child.explain import explain
    from inferload.studies.child.tune import tune
    from inferload.studies.local.forecast import forecast
    from inferload.studies.local.search import find_max_rate
    from inferload.studies.local.sweep import sweep
    from inferload.studies.records.comparison import Comparison, Difference, Gate
    from inferload.studies.records.endings import StudyInterrupted
    from inferload.studies.records.explanation import (
        Effect,
        Explanation,
        Operator,
        PerCall,
        Traced,
        Work,
    )
    from inferload.studies.records.files import load_study
    from inferload.studies.records.forecast import (
        CheckedPoint,
        Forecast,
        ForecastPoint,
        Needed,
        ServiceLevel,
    )
    from inferload.studies.records.max_rate import MaxRate, Probe
    from inferload.studies.records.settings import Settings, StudyRun
    from inferload.studies.records.sweep import Sweep, SweepPoint, UslFit
    from inferload.studies.records.tuning import Confirmation, Trial, Tuning
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.inputs.capture import Capture, capture
    from inferload.targets.mix import Mix
    from inferload.targets.outputs.piece import Piece

_HOMES = {
    "compat": ("BenchmarkConfig", "ExecutionStats", "ThroughputBenchmark", "format_time"),
    "errors": ("InferloadError", "NativeBuildError", "PlanError", "ResultFormatError"),
    "log.calls": ("CallLog", "CallTally"),
    "log.failures": ("CallFailure",),
    "log.piece_times": ("PieceTimes",),
    "plan.batching": ("Batching",),
    "plan.server": ("Server",),
    "plan.arrivals.loads": ("ClosedLoop", "OpenLoop"),
    "records.batches": ("BatchFigures",),
    "records.devices": ("DeviceFigures", "StageFigures"),
    "records.distribution": ("Distribution", "Estimate"),
    "records.endings": ("CallError", "RunInterrupted", "TargetCrashed"),
    "records.figures": (
        "Certificate",
        "CpuUse",
        "Ending",
        "MemoryUse",
        "ModelFigures",
        "Overload",
        "ProcessFigures",
        "RunWarning",
        "SetUp",
        "SteadyState",
        "Summary",
        "Verification",
    ),
    "records.limits": ("LimitVerdict",),
    "records.pieces": ("PieceFigures",),
    "records.result": ("RunResult",),
    "records.server": (
        "FailureFigures",
        "ModelStatistics",
        "Reached",
        "SaidMetric",
        "SaidTime",
        "ServerFigures",
        "ServerModel",
        "ServerSaid",
        "ServerSpec",
    ),
    "records.spec": ("ModelShare", "RunSpec"),
    "records.stages": ("LoadStage", "Stage"),
    "report.export.writing": ("export",),
    "runs.run": ("run",),
    "runs.saved": ("load_result",),
    "stats.limits.certificates": ("certificate",),
    "stats.limits.judging": ("Judgement",),
    "stats.limits.limit": ("Limit",),
    "stats.service": ("ServiceProfile",),
    "studies.child.compare": ("compare",),
    "studies.child.explain": ("explain",),
    "studies.local.forecast": ("forecast",),
    "studies.local.search": ("find_max_rate",),
    "studies.local.sweep": ("sweep",),
    "studies.child.tune": ("tune",),
    "studies.records.comparison": ("Comparison", "Difference", "Gate"),
    "studies.records.endings": ("StudyInterrupted",),
    "studies.records.explanation": (
        "Effect",
        "Explanation",
        "Operator",
        "PerCall",
        "Traced",
        "Work",
    ),
    "studies.records.files": ("load_study",),
    "studies.records.forecast": (
        "CheckedPoint",
        "Forecast",
        "ForecastPoint",
        "Needed",
        "ServiceLevel",
    ),
    "studies.records.max_rate": ("MaxRate", "Probe"),
    "studies.records.settings": ("Settings", "StudyRun"),
    "studies.records.sweep": ("Sweep", "SweepPoint", "UslFit"),
    "studies.records.tuning": ("Confirmation", "Trial", "Tuning"),
    "targets.base": ("Target",),
    "targets.inputs.call_input": ("CallInput",),
    "targets.inputs.capture": ("Capture", "capture"),
    "targets.mix": ("Mix",),
    "targets.outputs.piece": ("Piece",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BatchFigures",
    "Batching",
    "BenchmarkConfig",
    "CallError",
    "CallFailure",
    "CallInput",
    "CallLog",
    "CallTally",
    "Capture",
    "Certificate",
    "CheckedPoint",
    "ClosedLoop",
    "Comparison",
    "Confirmation",
    "CpuUse",
    "DeviceFigures",
    "Difference",
    "Distribution",
    "Effect",
    "Ending",
    "Estimate",
    "ExecutionStats",
    "Explanation",
    "FailureFigures",
    "Forecast",
    "ForecastPoint",
    "Gate",
    "InferloadError",
    "Judgement",
    "Limit",
    "LimitVerdict",
    "LoadStage",
    "MaxRate",
    "MemoryUse",
    "Mix",
    "ModelFigures",
    "ModelShare",
    "ModelStatistics",
    "NativeBuildError",
    "Needed",
    "OpenLoop",
    "Operator",
    "Overload",
    "PerCall",
    "Piece",
    "PieceFigures",
    "PieceTimes",
    "PlanError",
    "Probe",
    "ProcessFigures",
    "Reached",
    "ResultFormatError",
    "RunInterrupted",
    "RunResult",
    "RunSpec",
    "RunWarning",
    "SaidMetric",
    "SaidTime",
    "Server",
    "ServerFigures",
    "ServerModel",
    "ServerSaid",
    "ServerSpec",
    "ServiceLevel",
    "ServiceProfile",
    "SetUp",
    "Settings",
    "Stage",
    "StageFigures",
    "SteadyState",
    "StudyInterrupted",
    "StudyRun",
    "Summary",
    "Sweep",
    "SweepPoint",
    "Target",
    "TargetCrashed",
    "ThroughputBenchmark",
    "Traced",
    "Trial",
    "Tuning",
    "UslFit",
    "Verification",
    "Work",
    "capture",
    "certificate",
    "compare",
    "explain",
    "export",
    "find_max_rate",
    "forecast",
    "format_time",
    "load_result",
    "load_study",
    "run",
    "sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'inferload' has no attribute {name!r}")
    return getattr(import_module(f"inferload.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
