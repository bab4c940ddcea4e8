"""What is known of the devices that callers use: memory, whether work is done on them."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import torch

from inferload.callers.python.thread_state import ThreadState
from inferload.records.devices import DeviceInfo, DeviceMemory
from inferload.targets.inputs.call_input import tensors_of
from inferload.targets.outputs.settling import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

T = TypeVar("T")
# A device that has nothing to do says so within some 20 us. A thread that loses its core meanwhile
# takes longer, but not so often one after the other.
LEAST_LEFT_S = 100e-6
LOOKS = 4


def works_elsewhere(
    target: Target,
    own: Sequence[CallInput],
    devices: Sequence[torch.device],
    patience_s: float | None,
) -> bool:
    """Whether a call goes on working on a device when the stream that it was made on has finished.

    Made with the first input of each model, on streams of its own and with nothing else at work.
    """

    def look() -> bool:
        streams = [torch.Stream(device) for device in devices]
        modules = [torch.get_device_module(device) for device in devices]
        for stream in reversed(streams):
            torch.accelerator.set_stream(stream)
        calls = target.calls_of(0, own)

        def leaves_work(number: int) -> bool:
            for module, device in zip(modules, devices, strict=True):
                module.synchronize(device)
            began = time.perf_counter()
            settled(calls[number](), target.name)
            for stream in streams:
                stream.synchronize()
            took_s = time.perf_counter() - began
            began = time.perf_counter()
            for module, device in zip(modules, devices, strict=True):
                module.synchronize(device)
            return time.perf_counter() - began > max(0.1 * took_s, LEAST_LEFT_S)

        for number in [share.first_input for share in target.shares()] or [0]:
            leaves_work(number)  # this call may compile, tune and allocate
            if all(leaves_work(number) for _ in range(LOOKS)):
                return True
        return False

    return bool(_tried(look, patience_s))


def _tried(look: Callable[[], T], patience_s: float | None) -> T | None:
    """What a call of the target shows, made in a thread like a caller's.

    ``None`` where it raises or does not return: the callers' own calls will say so.
    """
    state, found = ThreadState.of_this_thread(), []

    def run() -> None:
        with suppress(BaseException), state.taken_over():
            found.append(look())

    thread = threading.Thread(target=state.context.copy().run, args=(run,), daemon=True)
    thread.start()
    thread.join(patience_s)
    return found[0] if found else None


def in_use(
    target: Target, given: Sequence[CallInput], patience_s: float | None
) -> tuple[torch.device, ...]:
    """The devices other than the CPU that calls have work on, as far as can be known.

    What a function does inside cannot be seen: where it has neither weights nor inputs on a device,
    that of its output counts.
    """
    found = target.devices(given)
    if found or target.form != "callable" or not torch.accelerator.is_available():
        return tuple(sorted(found, key=str))

    def look() -> set[torch.device]:
        output = settled(target.calls_of(0, given)[0](), target.name)
        return {tensor.device for tensor in tensors_of(output)} - {torch.device("cpu")}

    return tuple(sorted(_tried(look, patience_s) or set(), key=str))


def info_of(device: torch.device) -> DeviceInfo:
    """What is known of a device."""
    module = torch.get_device_module(device)
    name = str(getattr(module, "get_device_name", lambda _: device.type)(device))
    uuid, memory = None, None
    if hasattr(module, "get_device_properties"):
        properties = module.get_device_properties(device)
        found = getattr(properties, "uuid", None)
        uuid = None if found is None else str(found)
        memory = getattr(properties, "total_memory", None)
    return DeviceInfo(device=str(device), name=name, uuid=uuid, memory_bytes=memory)


def settle(device: torch.device) -> None:
    """Wait until a device has done all of this process's work, or is known to have failed."""
    try:
        torch.get_device_module(device).synchronize(device)
    except RuntimeError:
        return  # a call raised it already


def forget_peaks(device: torch.device) -> None:
    """Start looking for the peak of allocated memory anew."""
    reset = getattr(torch.get_device_module(device), "reset_peak_memory_stats", None)
    if reset is not None:
        reset(device)


def memory_of(device: torch.device) -> DeviceMemory:
    """The peaks of what this process's allocator has taken of a device."""
    module = torch.get_device_module(device)
    peaks: list[int | None] = []
    for name in ("max_memory_allocated", "max_memory_reserved"):
        ask = getattr(module, name, None)
        peaks.append(None if ask is None else int(ask(device)))
    return DeviceMemory(
        device=str(device), peak_allocated_bytes=peaks[0], peak_reserved_bytes=peaks[1]
    )
