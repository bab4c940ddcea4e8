"""Pure data: the figures that one run leaves behind. No torch, no clock, no printing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from inferload.records.batches import BatchFigures
from inferload.records.devices import StageFigures
from inferload.records.distribution import (
    Distribution,
    Estimate,
)
from inferload.records.pieces import PieceFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """Calls of an open loop that were due faster than they were served, so that they piled up.

    ``queues`` are those that grew, pairs of a process and which of its queues it was, of
    ``queues_in_all``; rates are those of the one that fell behind the most, while calls were due.
    """

    asked_per_s: float
    served_per_s: float
    queues: tuple[tuple[int, int], ...]
    queues_in_all: int

    @property
    def utilisation(self) -> float:
        """How many times as much was asked for as could be served."""
        return self.asked_per_s / self.served_per_s if self.served_per_s > 0 else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of the measured part of a run: of calls that finished after ``from_s``.

    ``duration_s`` lasts from there to the finish of the last call, or to the end of the run if
    calls had not finished by then; in a closed loop of which nothing is cut it begins with the
    first call, and in an open loop it lasts at least as long as calls were due: until the next one
    would have been. ``throughput`` counts calls that returned, per second of it. The
    distributions hold calls that returned, and are ``None`` where there are none.
    ``unfinished_calls`` were due and never finished. ``lateness_ms``: how long after its due time,
    or after the last moment at which all callers were busy, a call began, which is the harness's
    own fault; ``None`` in a closed loop. ``littles_law``: throughput x mean response / calls in
    flight, which is 1; in a closed loop the rest is time between calls, in an open loop calls in
    flight are sampled, and half of the 95 % interval is ``littles_law_error``. ``stages``: where
    the service time went, of calls on a device. ``overload``: the queue grew through the run, so
    that no quantile of response and queue is quoted. ``batches``: what requests were called in,
    ``pieces``: what calls answered in.
    """

    from_s: float = 0.0
    completed_calls: int
    failed_calls: int
    unfinished_calls: int = 0
    duration_s: float
    throughput_calls_per_s: Estimate
    throughput_items_per_s: Estimate
    response_ms: Distribution | None
    service_ms: Distribution | None
    queue_ms: Distribution | None
    lateness_ms: Distribution | None = None
    littles_law: float | None = None
    littles_law_error: float | None = None
    stages: StageFigures | None = None
    overload: Overload | None = None
    batches: BatchFigures | None = None
    pieces: PieceFigures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """Whether a run was steady, by the medians of its windows; ``None``: too few calls to say.

    Of a steady run the first ``cut_windows`` of the ``windows``, the part before ``cut_s``, are cut
    where ``RunSpec.warmup`` is ``"auto"``; of an unsteady one nothing is.
    ``drift_fraction``: by how much the median of the rest moves in the time of the whole run
    (Theil-Sen), ``drift_p``: the chance of that without a drift (Kendall). ``by_time``: they are
    of the mean duration of calls in windows of equal time, which differs from one half of the time
    to the other although the medians do not drift. Of 100 to 500 calls only a drift that is plain
    is known, ``steady`` is then ``False``, and it is that of the medians of their service times.
    """

    steady: bool | None
    cut_s: float
    windows: int
    cut_windows: int
    drift_fraction: float | None
    drift_p: float | None
    by_time: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Whether a quantile of the response time is certified to be under a limit, at a risk of 1 %.

    ``over`` of the ``calls`` took longer; with so many over it takes ``needed_calls`` to certify.
    So many of them are worth one independent call (``calls_worth_one``). ``overloaded``: the queue
    grew through the run, which certifies nothing of a longer one.
    """

    calls: int
    over: int
    needed_calls: int
    calls_worth_one: float = 1.0
    overloaded: bool = False

    @property
    def certified(self) -> bool:
        """Whether the calls suffice, and say anything of more."""
        return self.calls >= self.needed_calls and not self.overloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Outputs under load against outputs computed alone.

    ``compared`` outputs were kept and compared, ``differing`` of them were not close by
    ``torch.testing``'s tolerances; the worst of them was caller ``caller``'s on input ``input``,
    with ``difference`` as its largest absolute difference, ``None`` where that is no number.
    ``how`` says in words what differs. ``reason``: why nothing could be compared, ``not_compared``:
    which parts of the outputs could not. ``cause``: why they differ: ``"input"`` (calls write to
    ``argument`` of their input or use it up, and the next ones find that), ``"shape"`` (an output
    has another one in a batch), ``"neighbours"`` (it depends on the other requests of its batch),
    ``"padding"`` (on how far it was padded), ``"state"`` (the model answers otherwise when it is
    alone again) or ``"threads"`` (it answers otherwise while others call it).
    """

    compared: int
    differing: int
    caller: int | None = None
    input: int | None = None
    difference: float | None = None
    how: str | None = None
    reason: str | None = None
    not_compared: tuple[str, ...] = ()
    cause: str | None = None
    argument: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWarning:
    """Something doubtful about a run, and what to do about it."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What tells one model from another of the same name.

    ``of``: what it was taken of; only fingerprints of the same can be compared. ``layout`` is a
    hash of the names, shapes and dtypes of its parameters and buffers, which hold ``values_held``
    values; ``content`` one of some of these values, or of the code. ``None``: cannot be had.
    """

    of: str
    values_held: int | None = None
    layout: str | None = None
    content: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a process ended that was not asked to.

    ``how`` in words; ``signal`` is its name, if one ended it, ``exit_code`` its exit code, if not;
    ``after_s``: when, from the start line; ``in_flight``: pairs of a caller of that process and
    the input it was calling with; ``place``: the line of Python it was in, where that is known.
    """

    how: str
    signal: str | None = None
    exit_code: int | None = None
    after_s: float | None = None
    in_flight: tuple[tuple[int, int], ...] = ()
    place: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """One model of a mix, over the same part of the run as the summary.

    Throughput and distributions are of its own calls; ``None`` where it had none.
    """

    name: str
    completed_calls: int
    failed_calls: int
    throughput_calls_per_s: Estimate
    response_ms: Distribution | None
    service_ms: Distribution | None
    verification: Verification | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """What memory one process took while its callers called, by proc(5), over time.

    ``rss_bytes``: resident set sizes at ``times_s`` from the start line, ``pss_bytes`` proportional
    ones, of which pages that other processes share are only a part, at ``pss_times_s``.
    ``peak_rss_bytes`` is of the whole life of the process. ``growth_bytes_per_1000_calls``: by how
    much memory of its own, not shared, grew in the later half of the run (Theil-Sen),
    ``growth_bytes`` in all of that half, ``growth_p`` the chance of that without a trend (Kendall).
    """

    times_s: tuple[float, ...]
    rss_bytes: tuple[int, ...]
    peak_rss_bytes: int
    pss_times_s: tuple[float, ...] = ()
    pss_bytes: tuple[int, ...] = ()
    peak_pss_bytes: int | None = None
    growth_bytes_per_1000_calls: float | None = None
    growth_bytes: int | None = None
    growth_p: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """The time that one process has been on cores, by proc(5), since the first look.

    ``cpu_s``: of all its threads together, at ``times_s`` from the start line.
    """

    times_s: tuple[float, ...]
    cpu_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFigures:
    """One process of a run, over the same part of it as the summary.

    ``p50_ms`` and ``p99_ms`` are quoted as the summary's are; ``more_calls``: what they would need.
    ``start_late_ms``: how long after the start line its first call began, in a closed loop.
    ``cpus[caller]`` are the cores that a caller could run on and ``threads[caller]`` its intra-op
    threads, both read back from it, the threads when it had made its calls;
    ``threads_set[caller]`` are those before its first call, where a model can set its own.
    """

    process: int
    pid: int
    callers: int
    completed_calls: int
    failed_calls: int
    throughput_calls_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    more_calls: dict[str, int] = field(default_factory=dict)
    start_late_ms: float | None = None
    cpus: tuple[tuple[int, ...], ...] = ()
    threads: tuple[int, ...] = ()
    threads_set: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()
    memory: MemoryUse | None = None
    cpu: CpuUse | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFigures:
    """One rank of a cluster, over the same part of the run as the summary.

    ``p50_ms`` and ``p99_ms`` are quoted as the summary's are; ``more_calls``: what they would need.
    ``median_ms`` is the middle of its calls however few they are, by which stragglers are found.
    ``lost``: how it was lost, if it was; it then has no calls. ``late_ms``: how long after the
    agreed time it let its callers start, ``clock_error_ms`` by how much its clock may be off the
    first rank's, which only matters to when it started. ``differs``: what its machine or build has
    that the first rank's has not.
    """

    rank: int
    host: str
    processes: int
    callers: int
    completed_calls: int = 0
    failed_calls: int = 0
    throughput_calls_per_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    more_calls: dict[str, int] = field(default_factory=dict)
    median_ms: float | None = None
    start_late_ms: float | None = None
    late_ms: float = 0.0
    clock_error_ms: float = 0.0
    differs: tuple[str, ...] = ()
    lost: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """What happened before the start line.

    ``load_s``: loading the model, ``convert_s``: turning it into its form, ``prepare_s``: these,
    checking the inputs and compiling, before any caller; of several processes the slowest.
    ``process_s``: what starting other processes took beside that. ``nursery_pss_bytes``: the
    proportional set size of the process that they were forked from, which has no callers.
    ``open_s``: from starting the callers until all of them stood at the start line.
    ``first_call_ms``: the target's very first call: the one made to prepare or check it where
    there was one, else the slowest caller's first; ``None`` where that was no warm-up call.
    ``first_ten_ms``: the first ten warm-up calls of the caller with the slowest first call.
    ``log_bytes``: the size of the log file set aside. ``floor_ms``: what a call that does nothing
    takes in the same callers, the median; where calls are on a device it waits for the device, and
    ``floor_by_hand_ms`` is what it takes in as many threads that only call and wait.
    ``counter_off_ns``: how far stamps that were taken of the processor's counter were from the
    monotonic clock at most, ``None`` where all callers read the clock; ``clock_callers``: how many
    did, from the start or from when the counter was further off than 1 us.
    """

    prepare_s: float
    load_s: float | None = None
    convert_s: float | None = None
    process_s: float | None = None
    nursery_pss_bytes: int | None = None
    open_s: float
    first_call_ms: float | None
    first_ten_ms: tuple[float, ...] = ()
    log_bytes: int
    floor_ms: float | None = None
    floor_by_hand_ms: float | None = None
    counter_off_ns: int | None = None
    clock_callers: int | None = None

    @property
    def harness_ms(self) -> float | None:
        """What the harness itself takes of a call; ``None`` if it was not measured."""
        if self.floor_ms is None:
            return None
        return max(self.floor_ms - (self.floor_by_hand_ms or 0.0), 0.0)
