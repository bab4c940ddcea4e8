"""What a Python caller has of the devices where the compiled extension cannot be had."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from inferload.log.calls import NO_STAGE
from inferload.targets.inputs.call_input import tensors_of
from inferload.units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.device_work import DeviceWork
    from inferload.log.ring import LogFile

# Between which marks each stage lies.
_ALONE = (("device_ns", 0, 3),)
_WITH_COPIES = (("copy_in_ns", 0, 1), ("device_ns", 1, 2), ("copy_out_ns", 2, 3))
# Before, after the copies of inputs, after the call, after the copies of outputs.
MARKS = 4


class OnDevice:
    """One caller's stream on one device, and the events of the call that it is in."""

    def __init__(self, device: torch.device, shared: torch.Stream, work: DeviceWork) -> None:
        self.device = device
        self.stream = torch.Stream(device) if work.own_streams else shared
        event: Callable[..., Any] = partial(torch.Event, device)
        on: Any = self.stream
        if device.type == "cuda":
            # torch's generic events cannot be waited for without a spin; these can
            event = torch.cuda.Event
            on = torch.cuda.Stream(
                stream_id=on.stream_id, device_index=on.device_index, device_type=on.device_type
            )
        self.marks: list[Any] = [event(enable_timing=True) for _ in range(MARKS)]
        self.record = [partial(mark.record, on) for mark in self.marks]
        self.end_call: Callable[[], object] | None = None
        self.wait: Callable[[], None] = self.stream.synchronize
        if work.by_event:
            # one that takes no time stamp: the wait for one that does is longer
            done = event(blocking=True)
            self.end_call, self.wait = partial(done.record, on), done.synchronize
        if work.whole_devices:
            self.wait = partial(torch.get_device_module(device).synchronize, device)


class InterpretedDevices:
    """As ``PythonDevices`` in python_devices.h; the GIL changes hands more often."""

    #: Callers make their calls themselves.
    rows = None

    def __init__(
        self,
        work: DeviceWork,
        shared: Sequence[torch.Stream],
        caller: int,
        log: LogFile,
        now_ns: Callable[[], int],
        seed: int,
    ) -> None:
        self._work = work
        self._now = now_ns
        self._copies = work.copies_in[caller] if work.transfers else ()
        self._outputs: dict[int, list[torch.Tensor]] = {}
        self._all = [
            OnDevice(device, stream, work)
            for device, stream in zip(work.devices, shared, strict=True)
        ]
        self._enter()
        self._spans = _WITH_COPIES if work.transfers else _ALONE
        self._has_events = self._try_events()
        self._timed = self._timing = self._has_events and work.timed
        self._draw = random.Random(seed).random  # noqa: S311 - no secret
        self._share = 1.0
        self._columns = {name: column.data for name, column in log.columns.items()}
        self._place: int | None = None

    def _enter(self) -> None:
        """Make the caller's streams the current ones, and the first device the current one."""
        for one in reversed(self._all):
            torch.accelerator.set_stream(one.stream)

    def _enter_again(self) -> None:
        """The same after a call, which mostly leaves all as it was."""
        current, first = torch.accelerator.current_stream, self._all[0].device
        if torch.accelerator.current_device_index() != first.index or any(
            current(one.device) != one.stream for one in self._all
        ):
            self._enter()

    def _try_events(self) -> bool:
        try:
            for one in self._all:
                one.record[0]()
                one.record[3]()
                if one.end_call is not None:
                    one.end_call()
                one.wait()
                one.stream.synchronize()
                one.marks[0].elapsed_time(one.marks[-1])
        except (RuntimeError, NotImplementedError):
            for one in self._all:
                one.wait, one.end_call = one.stream.synchronize, None
            return False
        return True

    def go_to(self, place: int) -> None:
        """The calls from now on are those of the rows from this place of the log on."""
        self._place = place

    def time_one_in(self, count: int) -> None:
        """Time the stages of one call in so many."""
        self._share = 1 / count

    def calling(self, number: int, function: Callable[[], Any]) -> Callable[[], Any]:
        """What makes a call with an input and returns when its work on the devices is finished."""
        issue = self._with_copies(number, function) if self._copies else self._alone(function)
        waits, now, enter = tuple(one.wait for one in self._all), self._now, self._enter_again

        def call() -> Any:
            place = self._place
            if place is not None:
                self._place = place + 1
            self._timing = self._timed and (self._share == 1.0 or self._draw() < self._share)
            try:
                enter()  # the call before may have left another stream
                output = issue()
                issued = now()
                for wait in waits:
                    wait()
            except BaseException:
                self._settle()
                raise
            if place is not None:
                self._write_stages(place, issued)
            return output

        return call

    def _alone(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """The function between its marks."""

        def issue() -> Any:
            self._mark(0)
            output = function()
            self._mark(MARKS - 1)
            return output

        return issue

    def _with_copies(self, number: int, function: Callable[[], Any]) -> Callable[[], Any]:
        """The function between copies of its inputs and of its outputs."""
        copies = self._copies[number]

        def issue() -> Any:
            self._mark(0)
            for host, device in copies:
                device.copy_(host, non_blocking=True)
            self._mark(1)
            output = function()
            self._mark(2)
            self._copy_out(number, output)
            self._mark(MARKS - 1)
            return output

        return issue

    def _mark(self, which: int) -> None:
        for one in self._all:
            if self._timing:
                one.record[which]()
            if which == MARKS - 1 and one.end_call is not None:
                one.end_call()

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

    def _write_stages(self, place: int, issued_ns: int) -> None:
        columns = self._columns
        columns["issue_ns"][place] = issued_ns - columns["started_ns"][place]
        if not self._timed:
            return
        found = dict.fromkeys(self._work.stages[1:], NO_STAGE)
        try:
            if self._timing:
                found = {name: self._elapsed_ns(*marks) for name, *marks in self._spans}
        except RuntimeError:
            # another call made the device fail since: the next one will say so
            columns["issue_ns"][place] = NO_STAGE
        for name, value in found.items():
            columns[name][place] = value
