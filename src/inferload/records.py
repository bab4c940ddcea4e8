"""Pure data: what one run leaves behind. No torch, no clock, no printing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    Int64s = NDArray[np.int64]
    Int32s = NDArray[np.int32]
    Floats = NDArray[np.float64]

QUOTED_QUANTILES = {
    "p50": 0.5,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
    "p9999": 0.9999,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailure:
    """One distinct exception of the target: its type's name, message and traceback."""

    type: str
    message: str
    traceback: str = ""

    @property
    def gist(self) -> str:
        """The line of the message that says what was wrong; TorchScript has it at the end."""
        lines = [line.strip() for line in self.message.splitlines() if line.strip()]
        return (lines[-1] if "TorchScript" in lines[0] else lines[0]) if lines else ""


@dataclass(frozen=True, kw_only=True)
class CallLog:
    """Every finished call, one row each; all columns have shape ``(calls,)``.

    The times are int64 nanoseconds on the monotonic clock, counted from the start line.
    ``caller``, ``input`` and ``error`` are int32; ``error`` is -1 or an index into ``errors``.
    Rows stand in the order of call numbers, which is nearly, not exactly, that of time.
    """

    scheduled_ns: Int64s
    started_ns: Int64s
    finished_ns: Int64s
    caller: Int32s
    input: Int32s
    error: Int32s
    errors: tuple[CallFailure, ...] = ()

    def __len__(self) -> int:
        return len(self.finished_ns)

    @property
    def queue_ns(self) -> Int64s:
        """How long each call waited for a caller: started - scheduled."""
        return self.started_ns - self.scheduled_ns

    @property
    def service_ns(self) -> Int64s:
        """How long the target took: finished - started."""
        return self.finished_ns - self.started_ns

    @property
    def response_ns(self) -> Int64s:
        """What the caller saw: finished - scheduled."""
        return self.finished_ns - self.scheduled_ns

    @property
    def completed(self) -> NDArray[np.bool_]:
        """True where the call returned, False where it raised."""
        return self.error < 0

    def ascending_ns(self, duration: str) -> Int64s:
        """One duration (``"response_ns"``, ...) of the calls that returned, ascending."""
        values: Int64s = getattr(self, duration)
        completed = self.completed
        if not completed.all():
            values = values[completed]
        values.sort()
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its interval; ``low`` and ``high`` are ``None`` where none was computed."""

    value: float
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    method: str


class Sample:
    """One duration of a log's completed calls, sorted when first asked for."""

    def __init__(self, log: CallLog, duration: str) -> None:
        self._log = log
        self._duration = duration

    @cached_property
    def values_ms(self) -> Floats:
        """The durations in milliseconds, float64, ascending."""
        return self._log.ascending_ns(self._duration) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What a sample of durations looks like, in the unit its name in ``Summary`` says.

    A quantile is ``None`` where the sample is too small to quote it. Every quantile is the
    value of rank ceil(q n), without interpolation.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = {"arbitrary_types_allowed": True}

    count: int
    mean: float
    min: float
    max: float
    p50: Estimate | None
    p90: Estimate | None
    p95: Estimate | None
    p99: Estimate | None
    p999: Estimate | None
    p9999: Estimate | None
    sample: Sample | None = field(default=None, repr=False, compare=False)

    def quantile(self, q: float) -> float:
        """The value of rank ceil(q n), whatever the size of the sample.

        Raises:
            ValueError: ``q`` is not within 0..1, or the sample itself is not at hand.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"quantile {q} is not within 0..1")
        if self.sample is None:
            raise ValueError("the values behind this distribution were not kept")
        return float(self.sample.values_ms[quantile_rank(q, self.count) - 1])


def quantile_rank(q: float, count: int) -> int:
    """The rank, from 1, of the q-quantile among ``count`` values: ceil(q n), at least 1.

    q n is rounded to 9 decimals first, so that 0.07 x 100 is 7 and not 8.
    """
    return min(max(int(np.ceil(round(q * count, 9))), 1), count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a run. ``throughput`` counts calls that returned, per second of the run.

    ``duration_s`` lasts from the start line to the finish of the last call. The distributions
    hold calls that returned, and are ``None`` where there are none.
    """

    completed_calls: int
    failed_calls: int
    duration_s: float
    throughput_calls_per_s: Estimate
    throughput_items_per_s: Estimate
    response_ms: Distribution | None
    service_ms: Distribution | None
    queue_ms: Distribution | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWarning:
    """Something doubtful about a run, and what to do about it."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What was asked for and, where that was left open, what was chosen."""

    target: str
    form: str
    executor: str
    load: str
    callers: int
    calls: int | None
    duration_s: float | None
    warmup_calls: int
    threads_per_call: int
    inputs: tuple[str, ...]
    items_per_input: tuple[int, ...]
    share_inputs: bool
    seed: int
    on_error: str
    grad_mode: str
    autocast: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """What happened before the start line.

    ``prepare_s``: converting the model, checking the inputs and compiling, before any caller.
    ``open_s``: from starting the callers until all of them stood at the start line.
    ``first_call_ms``: the target's very first call: the one made to prepare or check it where
    there was one, else the slowest caller's first; ``None`` where that was no warm-up call.
    ``log_bytes``: the size of the log file set aside.
    """

    prepare_s: float
    open_s: float
    first_call_ms: float | None
    log_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """All that is known about one run; every report is drawn from this alone.

    ``status`` is ``"complete"``, ``"failed"`` (the target raised and ended the run) or
    ``"interrupted"`` (Ctrl-C or SIGTERM). ``environment`` maps names to JSON values.
    """

    run_id: str
    created_at: str
    status: str
    spec: RunSpec
    environment: dict[str, Any]
    set_up: SetUp
    summary: Summary
    warnings: tuple[RunWarning, ...]
    log: CallLog = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``path`` (JSON) and, beside it, the call log (``.calls``).

        Raises:
            OSError: the files could not be written; what stood there before is untouched.
        """
        from inferload import storage

        storage.save_result(self, path)

    def __str__(self) -> str:
        from inferload.report import text

        return text.plain_report(self)
