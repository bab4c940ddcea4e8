"""Pure data: where the time of calls on a device went, and what each device did."""

from __future__ import annotations

from dataclasses import dataclass, field

from inferload.records.distribution import Distribution

#: The stages of a call on a device, and its wait.
STAGE_NAMES = ("issue", "wait", "device", "copy_in", "copy_out")
#: Below this share of the looks a slower clock is no more than a moment.
LEAST_SLOWED = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFigures:
    """Where the service time of calls on a device went, in milliseconds.

    ``issue``: on the host, until the last of a call's work was enqueued; ``wait``: from there until
    the device had finished; both together are the service time. On the caller's stream, by events:
    ``device``, from the first to the last work of the call, and with transfers ``copy_in`` and
    ``copy_out``, the copies before and after it. A device that waits for its host to issue counts
    as ``device`` too, so these overlap with ``issue``. ``None`` where the backend has no timing.

    Of fast calls of Python callers a sample is timed on the device: ``device_ms.count`` says of how
    many calls these stages are, and ``timed_response_ms`` is their own mean response time, ``None``
    where it is not known.
    """

    issue_ms: Distribution
    wait_ms: Distribution
    device_ms: Distribution | None = None
    copy_in_ms: Distribution | None = None
    copy_out_ms: Distribution | None = None
    timed_response_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFigures:
    """One device over the measured part of a run.

    ``processes`` are the numbers of those that had work on it; their calls are its calls.
    ``p50_ms`` and ``p99_ms`` are quoted as the summary's are; ``more_calls``: what they would need.
    ``peak_allocated_bytes`` and ``peak_reserved_bytes``: by torch's allocator, the sum of the peaks
    of its processes. What the driver says (NVML) is of the whole device, whoever uses it: means
    over the measured part, ``energy_j`` all of it if it lasted 1 s at least, and ``throttled`` maps
    what slowed the clocks down to the fraction of looks that found it. ``power_capped_fraction`` of
    the looks found clocks held to the power limit, as is normal at full load. ``None`` where the
    driver does not say. ``samples``: what it said, over time.
    """

    device: str
    name: str
    host: str | None = None
    processes: tuple[int, ...] = ()
    completed_calls: int = 0
    throughput_calls_per_s: float = 0.0
    throughput_items_per_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    more_calls: dict[str, int] = field(default_factory=dict)
    memory_bytes: int | None = None
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    peak_used_bytes: int | None = None
    utilization_fraction: float | None = None
    sm_clock_mhz: float | None = None
    max_sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    energy_j: float | None = None
    energy_per_call_j: float | None = None
    energy_per_item_j: float | None = None
    throttled: dict[str, float] = field(default_factory=dict)
    power_capped_fraction: float | None = None
    samples: GpuSamples | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """The peaks of what one process's allocator took of a device; ``None`` if it does not say."""

    device: str
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """A GPU that calls use: ``device`` is the process's own name of it, such as ``cuda:0``.

    ``uuid``: with NVML's prefix or, as torch gives it, without.
    """

    device: str
    name: str
    uuid: str | None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSamples:
    """What one GPU did, whoever used it, at times from the start line; ``None``: NVML does not say.

    All tuples are as long as ``times_s``. ``utilization_fraction``: of the time, not of the GPU,
    that some kernel ran, over the last 1/6 to 1 s; ``memory_utilization_fraction``: that memory was
    read or written. ``power_w`` is the mean of the last second from Ampere on, except of GA100
    (A100), which like all before it gives the moment. ``energy_j``: since the driver was loaded,
    from Volta on. ``throttle_reasons``: nvml.h's nvmlClocksEventReasons.
    """

    uuid: str
    times_s: tuple[float, ...]
    sm_clock_mhz: tuple[int | None, ...]
    memory_clock_mhz: tuple[int | None, ...]
    utilization_fraction: tuple[float | None, ...]
    memory_utilization_fraction: tuple[float | None, ...]
    power_w: tuple[float | None, ...]
    temperature_c: tuple[int | None, ...]
    used_memory_bytes: tuple[int | None, ...]
    throttle_reasons: tuple[int | None, ...]
    energy_j: tuple[float | None, ...]
    max_sm_clock_mhz: int | None = None
    power_limit_w: float | None = None
