"""Calls whose work is on a device: how callers use it, and what each Python caller has of it.

Generic over what torch calls accelerators. Python callers have the compiled extension do all there
is to do around a call (``PythonDevices`` in python_devices.h); where it cannot be had, or by a
simulated clock, ``interpreted_devices`` does the same.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils import _pytree as pytree

from inferload.log.calls import DEVICE_STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    # Tensors in pinned host memory, and the ones on a device that they are copied to.
    Copies = Sequence[tuple[torch.Tensor, torch.Tensor]]

# To time the stages of a call takes some 5 us of one caller, and some 30 us of 16 who wait for the
# driver and the GIL: of every call where all callers together make one in 2 ms, of one in 32 where
# they make one in 62 us or less.
_TIMED_EVERY_NS = 2_000_000
_FEWEST_TIMED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWork:
    """How callers use the devices on which their calls' work is.

    ``own_streams``: each caller has a stream of its own on each device, else all have the one that
    is current where the run is started. ``by_event``: a caller waits for an event of its call
    without a spin where the backend can, else for its stream. ``copies_in[caller][input]``: with
    transfers, what is copied to the device before a call; outputs are copied to the host after it.
    ``timed``: the stages on the device are timed by events, of Python callers those of one call in
    :func:`timed_one_in`, drawn with ``seed``. ``whole_devices``: a call is finished when all work
    on its devices is, because the target has streams of its own. ``extension``: the compiled one,
    which Python callers use if it can be had.
    """

    devices: tuple[torch.device, ...]
    own_streams: bool = True
    by_event: bool = False
    timed: bool = True
    whole_devices: bool = False
    copies_in: Sequence[Sequence[Copies]] = ()
    seed: int = 0
    extension: ModuleType | None = None

    @property
    def transfers(self) -> bool:
        """Whether inputs and outputs are copied."""
        return bool(self.copies_in)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that can be told apart."""
        return DEVICE_STAGES if self.transfers else DEVICE_STAGES[:2]


class CallerDevices(Protocol):
    """What one Python caller has of the devices."""

    @property
    def rows(self) -> Callable[..., bool] | None:
        """Makes the calls of a range of rows of a closed loop, without Python around them.

        ``None`` where the caller makes them itself. It is given the range, the caller's number, the
        order of inputs, the functions, the limit, what records a failure, and the keeper; it says
        whether the caller should go on after them.
        """

    def calling(self, number: int, function: Callable[[], Any]) -> Callable[[], Any]:
        """What makes a call with an input and returns when its work on the devices is finished.

        It writes the stages of the call to its row. A call that raises has none.
        """

    def go_to(self, place: int) -> None:
        """The calls from now on are those of the rows from this place of the log on.

        Before this is said calls belong to no row.
        """

    def time_one_in(self, count: int) -> None:
        """Time the stages of one call in so many, a power of two; until then of every call."""


def use_of(work: DeviceWork, extension: ModuleType, events: Sequence[Any]) -> Any:
    """How a caller uses the devices, as the extension has it; ``events`` as ``sleeping_events``."""
    return extension.DeviceUse(
        work.own_streams,
        work.by_event,
        work.timed,
        work.whole_devices,
        [event.cuda_event for event in events],
    )


def timed_one_in(first_calls_ns: Sequence[Sequence[int]]) -> int:
    """Of how many calls one has its stages timed, so that this takes about 1 % of the time at most.

    By what the later half of the warm-up calls of each caller took, in nanoseconds. A power of two
    up to 32; 1 if there were none. It holds for the whole run, and which calls it meets is drawn
    whatever they do, so that what is timed stands for all.
    """
    later = [took for own in first_calls_ns for took in own[len(own) // 2 :]]
    if not later:
        return 1
    between_ns = statistics.median(later) / len(first_calls_ns)
    count = 1
    while count < _FEWEST_TIMED and count * between_ns < _TIMED_EVERY_NS:
        count *= 2
    return count


def sleeping_events(work: DeviceWork) -> list[Any]:
    """For each device the event that one caller waits for; where there are such, CUDA's own.

    torch's generic interface makes events that are waited for with a spin. They take no time
    stamp: the wait for one that does is longer.
    """
    if not work.by_event or {one.type for one in work.devices} != {"cuda"}:
        return []
    events = [torch.cuda.Event(blocking=True) for _ in work.devices]
    for event, device in zip(events, work.devices, strict=True):
        event.record(torch.cuda.current_stream(device))  # until then it has no handle
    return events


def pinned_copies(given: Any, on_device: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each tensor on a device a copy of it in pinned host memory, and itself.

    ``given`` has the values, ``on_device`` the tensors of the same structure that calls read.
    """
    pairs = zip(pytree.tree_leaves(given), pytree.tree_leaves(on_device), strict=True)
    return [
        (value.detach().cpu().pin_memory(), tensor)
        for value, tensor in pairs
        if isinstance(tensor, torch.Tensor) and tensor.device.type != "cpu"
    ]
