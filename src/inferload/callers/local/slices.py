"""Slices of calls: the callers of one process, prepared once and started anew for each."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.callers.local.crew import LocalCrew
from inferload.callers.local.devices import settle
from inferload.callers.local.preparing import Share
from inferload.errors import InferloadError
from inferload.log.failures import told
from inferload.machine.usage import used_so_far
from inferload.records.endings import CallError
from inferload.stats.slices.slice import Slice
from inferload.stats.slices.whole import whole_of_slices
from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Self

    from inferload.callers.crew import Preparation
    from inferload.callers.outcome import FirstFailure
    from inferload.plan.options import RunOptions
    from inferload.stats.slices.whole import WholeOfSlices
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput

# How often it is looked whether calls take too long.
_LOOK_S = 0.25
# How long callers have for the calls that they are in when a slice is given up.
_PATIENCE_S = 1.0


class SlicedCalls:
    """A model that is called for a moment, again and again.

    ``cpus``: the cores that each caller is held to; none: it may run on any. ``keep``: the calls of
    all slices are kept, to be summed up.
    """

    def __init__(
        self,
        target: Target,
        given: Sequence[CallInput],
        options: RunOptions,
        cpus: Sequence[Sequence[int]] = (),
        *,
        keep: bool = False,
    ) -> None:
        share = Share(callers_in_all=options.load.callers, cpus=tuple(tuple(own) for own in cpus))
        self._target = target
        self._options = options
        self._crew = LocalCrew(target, given, options, share)
        self._items: tuple[int, ...] = ()
        self._kept: list[dict[str, NDArray[Any]]] | None = [] if keep else None

    def __enter__(self) -> Self:
        self._crew.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._crew.__exit__(*exception)

    def prepare(self, announce: Callable[[str], None]) -> Preparation:
        """Copy the inputs, compile, and set a log aside.

        Raises:
            PlanError: the target failed, or an input does not fit.
        """
        (ready,) = self._crew.prepare(announce)
        self._items = ready.spec.items_per_input
        gc.collect()  # what loading has left, no slice is to be stopped for
        return ready

    def slice(self, seconds: float, warmup_calls: int = 1) -> Slice:
        """Call for so long, after warm-up calls of each caller.

        Raises:
            CallError: a call raised, and errors are not recorded; or it did not return in time.
            InferloadError: no call completed.
        """
        (lane,) = self._crew.lanes
        lane.job = replace(
            lane.job,
            duration_ns=max(int(seconds * NS_PER_S), 1),
            warmup_calls=warmup_calls,
            warmup_limit_ns=NS_PER_S,
        )
        with lane.target.while_called(lane.job.callers):
            lane.start()
            running = lane.running
            try:
                self._wait(running.wait_ready, most_calls=1 + warmup_calls, warming_up=True)
                before = used_so_far()
                began_ns = running.release()
                self._wait(running.wait_done, beside_s=seconds)
                used = used_so_far().since(before)
            except BaseException:  # Ctrl-C: callers are not to go on beside what comes next
                running.stop()
                running.wait_done(_PATIENCE_S)
                raise
            running.join()
        for device in self._crew.devices:
            settle(device)
        outcome = lane.outcome()
        if outcome.first_failure is not None and lane.job.stop_on_error:
            raise _raised(self._target.name, outcome.first_failure)
        log = lane.job.log
        rows = log.rows_between(0, outcome.claimed_rows)
        done = (rows["finished_ns"] != 0) & (rows["error"] < 0)
        failed = int(((rows["finished_ns"] != 0) & (rows["error"] >= 0)).sum())
        if not done.any():
            raise InferloadError(
                f"no call of {self._target.name} completed within a slice of {seconds:g} s"
                + f": {failed:,} failed" * bool(failed)
            )
        found = Slice.of(
            began_ns,
            rows["caller"][done],
            np.asarray(self._items, np.int64)[rows["input"][done]],
            rows["started_ns"][done],
            rows["finished_ns"][done],
            failed=failed,
            used=used,
        )
        if self._kept is not None:
            finished = rows["finished_ns"] != 0
            self._kept.append({name: values[finished] for name, values in rows.items()})
        log.forget(0, outcome.claimed_rows)
        return found

    def whole(self) -> WholeOfSlices | None:
        """What all slices come to that were kept; ``None``: there is none."""
        if not self._kept:
            return None
        return whole_of_slices(self._kept, self._items, self._options.load.callers)

    def forget(self) -> None:
        """Drop the slices that were kept: the first ones learn."""
        if self._kept is not None:
            self._kept.clear()

    def _wait(
        self,
        happened: Callable[[float], bool],
        *,
        most_calls: int = 1,
        beside_s: float = 0.0,
        warming_up: bool = False,
    ) -> None:
        """Wait for callers.

        Raises:
            CallError: they take longer than the timeout allows for each of so many calls.
        """
        timeout_s, began = self._options.timeout_s, time.monotonic()
        while not happened(_LOOK_S):
            waited_s = time.monotonic() - began - beside_s
            if timeout_s is not None and waited_s > timeout_s * most_calls:
                when = "while warming up" if warming_up else "in a slice of calls"
                raise CallError(
                    f"a call of {self._target.name} had not returned {when}, after {timeout_s:g} s "
                    f"for each of {most_calls} (--timeout)"
                    if most_calls > 1
                    else f"a call of {self._target.name} had not returned {when} after "
                    f"{timeout_s:g} s (--timeout)"
                )


def _raised(name: str, failure: FirstFailure) -> CallError:
    return CallError(
        f"{name} raised in caller {failure.caller} on input {failure.input}: {told(failure.words)}",
        result=None,
        place=failure.place,
    )
