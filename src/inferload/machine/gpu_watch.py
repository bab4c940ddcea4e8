"""Looking at GPUs through NVML while calls are measured."""

from __future__ import annotations

import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from inferload.machine.gpu_samples import PREFIXES, bare_uuid
from inferload.records.devices import GpuSamples
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from inferload.records.devices import DeviceInfo

# NVML's own averages are of 1/6 s and more.
PERIOD_S = 0.25
# The counter of energy takes 3 ms to read, and up to 18; all else together less than 1 (H100).
ENERGY_PERIOD_NS = NS_PER_S
# However long a run is: with one more, every second sample is dropped and they come half as often.
# It is even, so that of one more than that the first and the last stay.
MOST_SAMPLES = 4096
# NVML answers within milliseconds; of a GPU that was lost it may not answer at all.
LONGEST_LOOK_S = 2.0


class GpuWatch:
    """Samples GPUs through NVML while it is entered, in a thread of its own; it never raises.

    ``devices`` may name a GPU more than once. ``library``: pynvml, or what behaves like it.
    """

    def __init__(
        self, devices: Sequence[DeviceInfo], period_s: float = PERIOD_S, library: Any | None = None
    ) -> None:
        #: The start line by ``time.perf_counter_ns``, from which samples are timed; it may be set
        #: at any time.
        self.start_ns = time.perf_counter_ns()
        #: How long the looks took, all together.
        self.sampling_cost_s = 0.0
        self._devices = devices
        self._period_s = period_s
        self._nvml = library
        self._close: Callable[[], object] | None = None
        self._gpus: list[_Gpu] = []
        self._troubles: list[str] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._begin({bare_uuid(one.uuid): one.uuid for one in self._devices if one.uuid})
        except ImportError:
            self._troubles.append("pynvml is not installed: pip install 'inferload[gpu]'")
        except Exception as error:  # noqa: BLE001 - a run must not fail for its telemetry
            self._troubles.append(f"NVML does not start: {error}")
        self._troubles += [
            f"{one.device} has no UUID for NVML to find it by"
            for one in self._devices
            if not one.uuid
        ]
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join(LONGEST_LOOK_S)
            if self._thread.is_alive():  # it is within NVML, which must not be closed under it
                self._troubles.append(f"NVML did not answer within {LONGEST_LOOK_S:g} s")
                return
        if self._close is not None:
            _ask([self._close])

    @property
    def trouble(self) -> str | None:
        """Why there are no samples of some GPU, or not to the end."""
        return "; ".join(self._troubles) or None

    @property
    def samples(self) -> tuple[GpuSamples, ...]:
        """What was seen, of each GPU that NVML found."""
        return tuple(gpu.samples(self.start_ns) for gpu in self._gpus)

    def _begin(self, uuids: dict[str, str]) -> None:
        if not uuids:
            return
        nvml = self._nvml or import_module("pynvml")
        nvml.nvmlInit()
        self._close = nvml.nvmlShutdown
        for uuid in uuids.values():
            self._find(nvml, uuid)
        if self._gpus:
            self._look()
            thread = threading.Thread(target=self._sample, name="gpu-watch", daemon=True)
            thread.start()
            self._thread = thread

    def _find(self, nvml: Any, uuid: str) -> None:
        names = [uuid] if uuid.startswith(PREFIXES) else [prefix + uuid for prefix in PREFIXES]
        reasons = []
        for name in names:
            try:
                # bytes are what every version takes: old ones hand on to C what they are given
                handle = nvml.nvmlDeviceGetHandleByUUID(name.encode())
            except Exception as error:  # noqa: BLE001, PERF203 - NVML's, or of an odd library
                reasons.append(str(error))
            else:
                self._gpus.append(_Gpu(nvml, name, handle))
                return
        self._troubles.append(f"NVML does not find {names[0]}: {reasons[0]}")

    def _sample(self) -> None:
        while not self._over.wait(self._period_s):
            self._look()
        self._look(at_end=True)

    def _look(self, *, at_end: bool = False) -> None:
        began_ns = time.perf_counter_ns()
        for gpu in self._gpus:
            gpu.look(at_end=at_end)
        self.sampling_cost_s += (time.perf_counter_ns() - began_ns) / NS_PER_S
        if len(self._gpus[0].rows) > MOST_SAMPLES:
            self._period_s *= 2
            for gpu in self._gpus:
                del gpu.rows[1::2]


class _Gpu:
    """One GPU as NVML knows it, and what was read of it."""

    def __init__(self, nvml: Any, uuid: str, handle: Any) -> None:
        self._uuid = uuid
        self._questions = _questions(nvml, handle)
        self._energy = [lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3]
        self._energy_due_ns = 0
        self._max_sm_clock_mhz: int | None = _ask(
            [lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)]
        )
        self._power_limit_w: float | None = _ask(
            [lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3]
        )
        self.rows: list[dict[str, Any]] = []

    def look(self, *, at_end: bool = False) -> None:
        """Ask everything once; for the energy only every second, and at the end."""
        row: dict[str, Any] = {"time_ns": time.perf_counter_ns()}
        if at_end or row["time_ns"] >= self._energy_due_ns:
            self._energy_due_ns = row["time_ns"] + ENERGY_PERIOD_NS
            row["energy_j"] = _ask(self._energy)
        for ways in self._questions:
            row |= _ask(ways) or {}
        self.rows.append(row)

    def samples(self, start_ns: int) -> GpuSamples:
        """What was answered, timed from the start line."""
        rows = list(self.rows)  # the thread may still add some

        def column(name: str) -> tuple[Any, ...]:
            return tuple(row.get(name) for row in rows)

        return GpuSamples(
            uuid=self._uuid,
            times_s=tuple((row["time_ns"] - start_ns) / NS_PER_S for row in rows),
            sm_clock_mhz=column("sm_clock_mhz"),
            memory_clock_mhz=column("memory_clock_mhz"),
            utilization_fraction=column("utilization_fraction"),
            memory_utilization_fraction=column("memory_utilization_fraction"),
            power_w=column("power_w"),
            temperature_c=column("temperature_c"),
            used_memory_bytes=column("used_memory_bytes"),
            throttle_reasons=column("throttle_reasons"),
            energy_j=column("energy_j"),
            max_sm_clock_mhz=self._max_sm_clock_mhz,
            power_limit_w=self._power_limit_w,
        )


def _questions(nvml: Any, handle: Any) -> list[list[Callable[[], dict[str, Any]]]]:
    """What a look asks of a GPU: the ways to ask each thing, the one to prefer first.

    Names that this pynvml lacks fail like those that its driver or GPU lacks: when they are asked.
    """
    return [
        [lambda: {"power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1e3}],
        [lambda: {"sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)}],
        [lambda: {"memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)}],
        [lambda: _utilization(nvml.nvmlDeviceGetUtilizationRates(handle))],
        [
            lambda: {"throttle_reasons": nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)},
            lambda: {"throttle_reasons": nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)},
        ],
        [
            lambda: {
                "temperature_c": nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU)
            },
            lambda: {
                "temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            },
        ],
        [lambda: {"used_memory_bytes": nvml.nvmlDeviceGetMemoryInfo(handle).used}],
    ]


def _utilization(rates: Any) -> dict[str, float]:
    return {
        "utilization_fraction": rates.gpu / 100,
        "memory_utilization_fraction": rates.memory / 100,
    }


def _ask(ways: list[Callable[[], Any]]) -> Any:
    """What the first way gives that works; those that fail are dropped, not to be tried again."""
    while ways:
        try:
            return ways[0]()
        except Exception:  # noqa: BLE001, PERF203 - NVML's, or a name that this library lacks
            del ways[0]
    return None
