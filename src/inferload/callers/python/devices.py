"""What each Python caller has of the devices that its calls have work on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from inferload.callers.device_work import CallerDevices, DeviceWork, sleeping_events, use_of
from inferload.callers.python.clock import MonotonicClock
from inferload.callers.python.interpreted_devices import InterpretedDevices, OnDevice
from inferload.targets.inputs.call_input import tensors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.python.clock import Clock
    from inferload.log.ring import LogFile


def caller_devices(
    work: DeviceWork, shared: Sequence[torch.Stream], caller: int, log: LogFile, clock: Clock
) -> CallerDevices:
    """What a caller has of the devices; to be made in its thread.

    ``shared`` are the streams that are current where the run is started.
    """
    # each caller draws for itself
    seed = (work.seed * 2654435761 + caller * 40503 + 1) % 2**64
    if work.extension is None or not isinstance(clock, MonotonicClock):
        return InterpretedDevices(work, shared, caller, log, clock.now_ns, seed)
    events = sleeping_events(work)
    found: Any = work.extension.PythonDevices(
        [str(device) for device in work.devices],
        list(shared),
        use_of(work, work.extension, events),
        [list(pairs) for pairs in work.copies_in[caller]] if work.transfers else [],
        tensors_of,
        log.buffer,
        log.room,
        seed,
    )
    found.events = events  # they live as long
    own: CallerDevices = found
    return own


def waits_by_hand(
    work: DeviceWork, shared: Sequence[torch.Stream]
) -> tuple[Callable[[], object], ...]:
    """What a loop by hand does after each call: with a stream of its own, waits for it."""
    found: list[Callable[[], object]] = []
    for device, stream in zip(work.devices, shared, strict=True):
        one = OnDevice(device, stream, work)
        torch.accelerator.set_stream(one.stream)
        found += [one.wait] if one.end_call is None else [one.end_call, one.wait]
    return tuple(found)
