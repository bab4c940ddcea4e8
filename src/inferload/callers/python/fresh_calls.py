"""Calls of one Python caller each of which gets a fresh copy of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from inferload.targets.inputs.call_input import owned

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.callers.job import Job

    Call = Callable[[], Any]


class FreshCalls:
    """Stands in for the list of a caller's calls; a copy is made when a call is taken from it.

    Calls are taken before they start, and what they leave is let go of after they finished, so both
    are in no duration. ``wrapped``: makes what is called of a call and the number of its input.
    """

    def __init__(self, job: Job, caller: int, wrapped: Callable[[int, Call], Call]) -> None:
        self._target = job.target
        self._given = job.inputs[caller]
        self._caller = caller
        self._wrapped = wrapped
        self._devices = () if job.device_work is None else job.device_work.devices
        self._ready: dict[int, Call] = {}

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, number: int) -> Call:
        ready = self._ready.pop(number, None)
        return self._made(number) if ready is None else ready

    def restock(self, number: int) -> None:
        """Make the copy for the next call with an input now, when nobody waits for the caller."""
        self._ready[number] = self._made(number)

    def _made(self, number: int) -> Call:
        call = self._target.call_of(self._caller, number, owned(self._given[number]))
        for device in self._devices:  # the copy is no work of the call
            torch.accelerator.current_stream(device).synchronize()
        return self._wrapped(number, call)
