"""Calls whose work is on a device: a stream a caller, and when that work is finished.

Generic over what torch calls accelerators; native_callers.cpp does the same (``CallerDevices``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.call_log import NO_STAGE, STAGES
from inferload.inputs import tensors_of
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    # Tensors in pinned host memory, and the ones on a device that they are copied to.
    Copies = Sequence[tuple[torch.Tensor, torch.Tensor]]

# Between which marks each stage lies.
_ALONE = (("device_ns", 0, 3),)
_WITH_COPIES = (("copy_in_ns", 0, 1), ("device_ns", 1, 2), ("copy_out_ns", 2, 3))
# Before, after the copies of inputs, after the call, after the copies of outputs.
MARKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWork:
    """How callers use the devices on which their calls' work is.

    ``own_streams``: each caller has a stream of its own on each device, else all have the one that
    is current where the run is started. ``by_event``: a caller waits for an event of its call
    without a spin where the backend can, else for its stream. ``copies_in[caller][input]``: with
    transfers, what is copied to the device before a call; outputs are copied to the host after it.
    ``timed``: the stages on the device are timed by events. ``whole_devices``: a call is finished
    when all work on its devices is, because the target has streams of its own.
    """

    devices: tuple[torch.device, ...]
    own_streams: bool = True
    by_event: bool = False
    timed: bool = True
    whole_devices: bool = False
    copies_in: Sequence[Sequence[Copies]] = ()

    @property
    def transfers(self) -> bool:
        """Whether inputs and outputs are copied."""
        return bool(self.copies_in)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that can be told apart."""
        return STAGES if self.transfers else STAGES[:2]


class _OnDevice:
    """One caller's stream on one device, and the events of the call that it is in."""

    def __init__(self, device: torch.device, shared: torch.Stream, work: DeviceWork) -> None:
        self.stream = torch.Stream(device) if work.own_streams else shared
        self.marks: list[Any]
        if device.type == "cuda":
            # torch's generic events cannot be waited for without a spin; these can
            cuda, stream = torch.cuda, self.stream
            own = cuda.Stream(
                stream_id=stream.stream_id,
                device_index=stream.device_index,
                device_type=stream.device_type,
            )
            self.marks = [
                cuda.Event(enable_timing=True, blocking=work.by_event) for _ in range(MARKS)
            ]
            self.record = [partial(mark.record, own) for mark in self.marks]
        else:
            self.marks = [torch.Event(device, enable_timing=True) for _ in range(MARKS)]
            self.record = [partial(mark.record, self.stream) for mark in self.marks]
        self.wait: Callable[[], None] = self.stream.synchronize
        if work.by_event:
            self.wait = self.marks[-1].synchronize
        if work.whole_devices:
            self.wait = partial(torch.get_device_module(device).synchronize, device)


class CallerDevices:
    """What one Python caller has of the devices; made in the caller's thread."""

    def __init__(self, work: DeviceWork, shared: Sequence[Any], caller: int, now: Any) -> None:
        self._work = work
        self._now = now
        self._copies = work.copies_in[caller] if work.transfers else ()
        self._outputs: dict[int, list[torch.Tensor]] = {}
        self.issued_ns = 0
        self._all: list[_OnDevice] = []
        for device, stream in zip(work.devices, shared, strict=True):
            self._all.append(_OnDevice(device, stream, work))
        self._enter()
        self._spans = _WITH_COPIES if work.transfers else _ALONE
        self._has_events = self._try_events()
        self._timed = self._has_events and work.timed

    def _enter(self) -> None:
        """Make the caller's streams the current ones, and the first device the current one."""
        for one in reversed(self._all):
            torch.accelerator.set_stream(one.stream)

    def _try_events(self) -> bool:
        try:
            for one in self._all:
                one.record[0]()
                one.record[3]()
                one.marks[-1].synchronize()
                one.marks[0].elapsed_time(one.marks[-1])
        except (RuntimeError, NotImplementedError):
            for one in self._all:
                one.wait = one.stream.synchronize
            return False
        return True

    def calling(self, number: int, function: Callable[[], Any]) -> Callable[[], Any]:
        """What makes a call with an input and returns when its work on the devices is finished."""
        if self._copies:
            issue = self._with_copies(number, function)
        else:
            issue = self._between(0, MARKS - 1, function)
        waits, now, enter = tuple(one.wait for one in self._all), self._now, self._enter

        def call() -> Any:
            try:
                enter()  # the call before may have left another stream
                output = issue()
                self.issued_ns = now()
                for wait in waits:
                    wait()
            except BaseException:
                self._settle()
                raise
            return output

        return call

    def _between(self, begin: int, end: int, function: Callable[[], Any]) -> Callable[[], Any]:
        """The function between two marks."""
        before, after = self._marking(begin), self._marking(end)

        def issue() -> Any:
            for mark in before:
                mark()
            output = function()
            for mark in after:
                mark()
            return output

        return issue

    def _with_copies(self, number: int, function: Callable[[], Any]) -> Callable[[], Any]:
        """The function between copies of its inputs and of its outputs."""
        copies, begin, end = self._copies[number], self._marking(0), self._marking(MARKS - 1)
        inner = self._between(1, 2, function)

        def issue() -> Any:
            for mark in begin:
                mark()
            for host, device in copies:
                device.copy_(host, non_blocking=True)
            output = inner()
            self._copy_out(number, output)
            for mark in end:
                mark()
            return output

        return issue

    def _marking(self, which: int) -> tuple[Callable[[], None], ...]:
        wanted = self._timed or (self._has_events and which == MARKS - 1)
        return tuple(one.record[which] for one in self._all) if wanted else ()

    def _copy_out(self, number: int, output: Any) -> None:
        found = tensors_of(output)
        hosts = self._outputs.get(number, [])
        if [(host.shape, host.dtype) for host in hosts] != [(o.shape, o.dtype) for o in found]:
            hosts = [
                torch.empty(one.shape, dtype=one.dtype, device="cpu", pin_memory=True)
                for one in found
            ]
            self._outputs[number] = hosts
        for host, one in zip(hosts, found, strict=True):
            host.copy_(one, non_blocking=True)

    def _settle(self) -> None:
        """After a call that raised: what it had enqueued is finished, or known to have failed."""
        try:
            for one in self._all:
                one.stream.synchronize()
        except RuntimeError:
            return  # the call raised already

    def _elapsed_ns(self, begin: int, end: int) -> int:
        spans_ms = [one.marks[begin].elapsed_time(one.marks[end]) for one in self._all]
        return round(float(max(spans_ms)) * NS_PER_MS)

    def note(self, columns: Mapping[str, NDArray[Any]], place: int, started_ns: int) -> None:
        """Write the stages of the call that has just returned to its row."""
        columns["issue_ns"][place] = self.issued_ns - started_ns
        if not self._timed:
            return
        try:
            for name, begin, end in self._spans:
                columns[name][place] = self._elapsed_ns(begin, end)
        except RuntimeError:
            # another call made the device fail since: the next one will say so
            for name in self._work.stages:
                columns[name][place] = NO_STAGE


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
