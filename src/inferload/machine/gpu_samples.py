"""What GPUs drew and did over a run, as NVML has it, and figures of it. Pure data, no torch."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.devices import GpuSamples

# What NVML reports of clocks that something took away (nvml.h, nvmlClocksEventReasons). 0x8 is also
# set with 0x40 or 0x80, and may be for a moment while clocks change.
HARMFUL_REASONS = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
# Not among them: "the clocks have been optimized to ensure not to exceed currently set power
# limits" (nvml.h), which is how a data-centre GPU runs at full load as it was bought and set up.
POWER_CAP = 0x4

PREFIXES = ("GPU-", "MIG-")


def thinned(samples: GpuSamples, most: int) -> GpuSamples:
    """Every second, third, ... of the samples, so that at most ``most`` are left."""
    step = -(-len(samples.times_s) // most)
    if step < 2:
        return samples
    columns: dict[str, Any] = {
        one.name: getattr(samples, one.name)[::step]
        for one in fields(samples)
        if isinstance(getattr(samples, one.name), tuple)
    }
    return replace(samples, **columns)


def bare_uuid(uuid: str) -> str:
    """A UUID without NVML's prefix, by which devices and samples can be matched.

    >>> bare_uuid("GPU-8f6d0e5c-1a2b") == bare_uuid("8F6D0E5C-1a2b")
    True
    """
    return uuid[4:].lower() if uuid.startswith(PREFIXES) else uuid.lower()


def energy_between(samples: GpuSamples, from_s: float, to_s: float) -> float | None:
    """The energy in J that a GPU took between two times, by its counter, or else by its power.

    Where samples cover only a part of that time, the rest is taken to be like it; ``None`` if they
    cover less than half, or are fewer than two.
    """
    joules = _risen(*_known(samples.times_s, samples.energy_j), from_s, to_s)
    return joules or _integral(*_known(samples.times_s, samples.power_w), from_s, to_s)


def throttled_fractions(samples: GpuSamples, from_s: float, to_s: float) -> dict[str, float]:
    """The share of the samples between two times that had each of ``HARMFUL_REASONS``.

    Empty if nothing is known; else all of them are there, also such as never held.
    """
    masks = _masks_between(samples, from_s, to_s)
    return {name: _share(masks, bit) for bit, name in HARMFUL_REASONS.items()} if masks else {}


def power_capped_fraction(samples: GpuSamples, from_s: float, to_s: float) -> float | None:
    """The share of the samples between two times in which the power limit held clocks back.

    It is normal at full load, and says that a higher limit would give higher clocks.
    """
    masks = _masks_between(samples, from_s, to_s)
    return _share(masks, POWER_CAP) if masks else None


def _masks_between(samples: GpuSamples, from_s: float, to_s: float) -> list[int]:
    times_s, masks = _known(samples.times_s, samples.throttle_reasons)
    return [mask for time_s, mask in zip(times_s, masks, strict=True) if from_s <= time_s <= to_s]


def _share(masks: Sequence[int], bit: int) -> float:
    return sum(bool(mask & bit) for mask in masks) / len(masks)


def _known(times_s: Sequence[float], values: Sequence[Any]) -> tuple[list[float], list[Any]]:
    """The values that are not ``None``, and their times."""
    known = [pair for pair in zip(times_s, values, strict=True) if pair[1] is not None]
    return [time_s for time_s, _ in known], [value for _, value in known]


def _covered(times_s: Sequence[float], from_s: float, to_s: float) -> tuple[float, float] | None:
    """The part of a span that lies between samples, if that is at least half of it."""
    if len(times_s) < 2 or to_s <= from_s:
        return None
    begin_s, end_s = max(from_s, times_s[0]), min(to_s, times_s[-1])
    return (begin_s, end_s) if 2 * (end_s - begin_s) >= to_s - from_s else None


def _risen(
    times_s: Sequence[float], totals: Sequence[float], from_s: float, to_s: float
) -> float | None:
    """By how much a counter of energy rose in a span."""
    if (part := _covered(times_s, from_s, to_s)) is None:
        return None
    first, last = np.interp(part, times_s, totals)
    # What runs takes energy: a counter that stood still did not count, as some virtual ones do
    # not, and one that fell began anew.
    risen = float(last - first) * (to_s - from_s) / (part[1] - part[0])
    return risen if risen > 0 else None


def _integral(
    times_s: Sequence[float], rates: Sequence[float], from_s: float, to_s: float
) -> float | None:
    """The integral of a rate over a span, by trapezoids."""
    if (part := _covered(times_s, from_s, to_s)) is None:
        return None
    edges = np.unique([*part, *(time_s for time_s in times_s if part[0] < time_s < part[1])])
    values = np.interp(edges, times_s, rates)
    area = float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(edges)))
    return area * (to_s - from_s) / (part[1] - part[0])


def joules_between(
    looks: Sequence[tuple[float, float]], from_s: float, to_s: float
) -> float | None:
    """By how much a counter of energy, of which these are looks, rose between two times."""
    return _risen([time_s for time_s, _ in looks], [joules for _, joules in looks], from_s, to_s)
