"""Pure data: what the callers of one queue left behind beside their log."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - pydantic reads these records
from dataclasses import dataclass, field
from typing import Any, ClassVar

from inferload.log.failures import CallFailure  # noqa: TC001


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstFailure:
    """The exception that the target raised first, and the line of the user's code that raised."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"arbitrary_types_allowed": True}

    exception: BaseException | None
    place: str | None = None
    caller: int
    input: int
    warming_up: bool
    #: The exception's type and words.
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the callers left behind beside the log.

    ``first_calls_ns[caller]`` are the durations of its first warm-up calls; ``run_delay_ns`` is
    how long all callers together stood in run queues; ``log_was_full``: callers waited for rows of
    the log to be read. ``stopped_ns``: when the run was stopped before its end, by the callers'
    clock. ``kept[caller]`` are pairs of an input's number and what was returned; ``cpus[caller]``
    the cores it could run on and ``threads[caller]`` its intra-op threads, read back from it when
    it had made its calls; ``threads_set[caller]`` are those before its first one, where a model can
    set its own. ``warmed[caller]``: how many warm-up calls it has made, where that is known.
    ``loop_lag_ms``: how late the event loop of tasks was, the median and the most.
    ``piece_times``: those of answers in pieces, by the callers' clock.
    ``by_counter[caller]``: its stamps were the processor's counter's until the end, and
    ``counter_off_ns[caller]`` is how far those were from the monotonic clock at most, ``None`` of a
    caller that read the clock from the start.
    ``batches_limited_to``: how many requests batches had at most, once there was no memory for one.
    """

    claimed_rows: int
    first_calls_ns: Sequence[Sequence[int]]
    errors: tuple[CallFailure, ...]
    first_failure: FirstFailure | None
    disk_full: bool
    stopped_ns: int | None = None
    run_delay_ns: int = 0
    log_was_full: bool = False
    kept: Sequence[Sequence[tuple[int, Any]]] = field(default=(), repr=False)
    cpus: Sequence[Sequence[int]] = ()
    threads: Sequence[int] = ()
    threads_set: Sequence[int] = ()
    warmed: Sequence[int] = ()
    batches_limited_to: int | None = None
    by_counter: Sequence[bool] = ()
    counter_off_ns: Sequence[int | None] = ()
    piece_times: Any = field(default=None, repr=False)  # PieceTimes: arrays, which no schema has
    loop_lag_ms: tuple[float, float] | None = None
