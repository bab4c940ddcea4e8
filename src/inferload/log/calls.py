"""Pure data: every call of a run, row by row, or counted where they are too many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from inferload.log.arrays import Floats, Int32s, Int64s
    from inferload.log.buckets import WindowCounts
    from inferload.log.failures import CallFailure
    from inferload.log.piece_times import PieceTimes

# A model that fails in ever new words must not fill the memory: the last entry takes the rest.
DISTINCT_ERRORS = 256
# One class in ever new words leaves room for others: its last entry takes the rest of its own.
DISTINCT_OF_A_CLASS = 224

#: The columns that every log has, in the order of its file.
COLUMNS: dict[str, np.dtype[Any]] = {
    "scheduled_ns": np.dtype("<i8"),
    "started_ns": np.dtype("<i8"),
    "finished_ns": np.dtype("<i8"),
    "caller": np.dtype("<i4"),
    "input": np.dtype("<i4"),
    "error": np.dtype("<i4"),
}
#: Where calls run on a device: all of the first four with transfers, else the first two.
DEVICE_STAGES = ("issue_ns", "device_ns", "copy_in_ns", "copy_out_ns")
#: Of requests of a batch: putting it together, and what they waited beside waiting for a caller.
BATCH_STAGES = ("gather_ns", "hold_ns", "late_ns")
#: Of calls that answer in pieces: from the start of the call to its first and its last one.
PIECE_STAGES = ("first_piece_ns", "last_piece_ns")
STAGES = (*DEVICE_STAGES, *BATCH_STAGES, *PIECE_STAGES)
STAGE_DTYPE = np.dtype("<i8")
#: Of calls that were requests of a batch.
BATCH = ("batch", "batch_size", "padding_ppm")
#: How many pieces a call gave, and how many tokens they are.
PIECE_COUNTS = ("pieces", "tokens")
PIECES = (*PIECE_STAGES, *PIECE_COUNTS)
#: What follows from them, of each call.
PIECE_DURATIONS = ("first_piece_ns", "first_response_ns", "call_gap_ns")
#: The columns that a log has where they are used, after the others in the order of its file.
OPTIONAL: dict[str, np.dtype[Any]] = {
    **dict.fromkeys(STAGES, STAGE_DTYPE),
    **dict.fromkeys((*BATCH, *PIECE_COUNTS), np.dtype("<i4")),
}
#: Stands in the columns of stages where a call has none: on the CPU, or if they are not known.
NO_STAGE = -1


@dataclass(frozen=True, kw_only=True)
class CallLog:
    """Every finished call, one row each; all columns have shape ``(calls,)``.

    The times are int64 nanoseconds on the monotonic clock, counted from the start line.
    ``caller``, ``input`` and ``error`` are int32; ``error`` is -1 or an index into ``errors``.
    Rows stand in the order of call numbers, which is nearly, not exactly, that of time. Of a run
    of more than 10 million calls the rows are a sample, and ``tally`` has counted all of them.
    ``open_loop``: calls were due at times fixed beforehand, so that they may have queued; the times
    alone do not say so, as an open loop that is wholly on time starts each call when it is due.

    ``stages`` of calls on a device, int64 nanoseconds: ``issue_ns`` until the call's work was
    enqueued, ``device_ns`` from its first to its last work on the device, and with transfers
    ``copy_in_ns`` and ``copy_out_ns``, the copies of inputs and outputs. Empty on the CPU; where
    only some calls are on a device, -1 in the rows of the others. Of batches on any
    device: ``gather_ns``, how long their inputs took to be put together; ``hold_ns``, how long a
    free caller held a request back so that others could join, and ``late_ns``, how long after that
    it began, which is the harness's own fault.

    ``batches``, int32, where calls are requests that were called in batches: the number of its
    ``batch``, ``batch_size`` requests in it, and how many millionths of what the model was given
    were padding (``padding_ppm``). All requests of a batch started and finished together.

    Where calls answer in pieces, ``first_piece_ns`` and ``last_piece_ns`` are stages, too, from the
    start of the call, -1 of one that gave none; ``answers``, int32, has how many ``pieces`` each
    gave, also before it raised, and how many ``tokens`` they are, -1 of one that answered whole.
    ``piece_times`` has the time of each piece of some of the calls.
    """

    scheduled_ns: Int64s
    started_ns: Int64s
    finished_ns: Int64s
    caller: Int32s
    input: Int32s
    error: Int32s
    errors: tuple[CallFailure, ...] = ()
    stages: Mapping[str, Int64s] = field(default_factory=dict)
    batches: Mapping[str, Int32s] = field(default_factory=dict)
    answers: Mapping[str, Int32s] = field(default_factory=dict)
    piece_times: PieceTimes | None = None
    #: Set where the rows are a uniform sample of a longer run, which is counted here in full.
    tally: CallTally | None = None
    #: How many callers serve each queue of a process; they are numbered through all processes.
    callers_by_lane: tuple[int, ...] = ()
    open_loop: bool = False

    @classmethod
    def of(
        cls,
        columns: Mapping[str, NDArray[Any]],
        errors: Sequence[CallFailure] = (),
        tally: CallTally | None = None,
        callers_by_lane: Sequence[int] = (),
        *,
        open_loop: bool,
    ) -> CallLog:
        """A log with these columns, optional ones among them."""
        own: dict[str, Any] = {name: columns[name] for name in COLUMNS}
        return cls(
            **own,
            stages={name: columns[name] for name in STAGES if name in columns},
            batches={name: columns[name] for name in BATCH if name in columns},
            answers={name: columns[name] for name in PIECE_COUNTS if name in columns},
            errors=tuple(errors),
            tally=tally,
            callers_by_lane=tuple(callers_by_lane),
            open_loop=open_loop,
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns by their names."""
        own = {name: getattr(self, name) for name in COLUMNS}
        return {**own, **self.stages, **self.batches, **self.answers}

    def __len__(self) -> int:
        return len(self.finished_ns)

    @property
    def calls_made(self) -> int:
        """How many calls finished, in the rows or not."""
        return len(self) if self.tally is None else self.tally.calls

    @property
    def calls_failed(self) -> int:
        """How many of them raised."""
        failed = ~self.completed if self.tally is None else self.tally.failed
        return int(failed.sum())

    @property
    def process(self) -> Int32s:
        """Which process made each call."""
        found: Int32s = self.caller // (sum(self.callers_by_lane) or 2**31 - 1)
        return found

    def rows(self, places: NDArray[Any] | slice) -> CallLog:
        """A log of some of the rows, by number, mask or slice; ``errors`` are all of this one's.

        Without the times of single pieces.
        """
        return CallLog.of(
            {name: column[places] for name, column in self.columns().items()},
            self.errors,
            callers_by_lane=self.callers_by_lane,
            open_loop=self.open_loop,
        )

    def queues(self) -> list[tuple[Int64s, int | None]]:
        """The rows of each queue of each process that has rows, and how many callers serve it.

        That is ``None``, and there is one queue, where ``callers_by_lane`` is not known.
        """
        lanes = self.callers_by_lane
        if not len(self):
            return []
        if not lanes:
            return [(np.arange(len(self)), None)]
        last = np.cumsum(lanes)
        process, own = np.divmod(self.caller, last[-1])
        queue = process * len(lanes) + np.searchsorted(last, own, side="right")
        order = np.argsort(queue, kind="stable")
        numbers, firsts = np.unique(queue[order], return_index=True)
        rows = np.split(order, firsts[1:])
        return [
            (one, lanes[number % len(lanes)]) for number, one in zip(numbers, rows, strict=True)
        ]

    @property
    def queue_ns(self) -> Int64s:
        """How long each call waited for a caller: started - scheduled."""
        return self.started_ns - self.scheduled_ns

    @property
    def service_ns(self) -> Int64s:
        """How long the target took: finished - started."""
        return self.finished_ns - self.started_ns

    @property
    def response_ns(self) -> Int64s:
        """What the caller saw: finished - scheduled."""
        return self.finished_ns - self.scheduled_ns

    @property
    def wait_ns(self) -> Int64s:
        """How long each call waited for the device: service - issue, where it was on one.

        Raises:
            KeyError: the calls ran on no device.
        """
        found: Int64s = self.service_ns - self.stages["issue_ns"]
        return found

    @property
    def instance_ns(self) -> Int64s:
        """How long each request of a batch waited while all callers were busy.

        Raises:
            KeyError: calls were not made in batches.
        """
        found: Int64s = self.queue_ns - self.stages["hold_ns"] - self.stages["late_ns"]
        return found

    @property
    def pieces(self) -> Int32s:
        """How many pieces each call gave; -1: it answered whole.

        Raises:
            KeyError: calls do not answer in pieces.
        """
        return self.answers["pieces"]

    @property
    def first_ns(self) -> Int64s:
        """When the first piece of each call was there, from the start line; -1: it gave none.

        Raises:
            KeyError: calls do not answer in pieces.
        """
        first = self.stages["first_piece_ns"]
        return np.where(first == NO_STAGE, NO_STAGE, self.started_ns + first)

    def duration_ns(self, name: str) -> Int64s:
        """A duration of each call by its name: ``"queue_ns"``, ``"device_ns"``, ..."""
        if name in PIECE_DURATIONS:
            return piece_durations(self.columns())[name]
        found: Int64s = self.stages[name] if name in self.stages else getattr(self, name)
        return found

    @property
    def completed(self) -> NDArray[np.bool_]:
        """True where the call returned, False where it raised."""
        return self.error < 0


def piece_durations(columns: Mapping[str, NDArray[Any]]) -> dict[str, Int64s]:
    """Durations of calls that gave pieces, ``NO_STAGE`` of the others; none where no call could.

    ``first_piece_ns`` from the start of the call; ``first_response_ns`` from when it was due, which
    the field calls TTFT; ``call_gap_ns``, the mean time of a token after the first one up to the
    last, which it calls TPOT, (E2E - TTFT) / (tokens - 1).
    """
    if "first_piece_ns" not in columns:
        return {}
    first, last = columns["first_piece_ns"], columns["last_piece_ns"]
    queue = columns["started_ns"] - columns["scheduled_ns"]
    more = np.maximum(columns["tokens"].astype(np.int64) - 1, 0)
    several = (columns["pieces"] > 1) & (more > 0)
    gap = np.rint((last - first) / np.maximum(more, 1)).astype(np.int64)
    return {
        "first_piece_ns": first,
        "first_response_ns": np.where(first == NO_STAGE, NO_STAGE, first + queue),
        "call_gap_ns": np.where(several, gap, NO_STAGE),
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallTally:
    """All calls of a long run, counted by time window and duration.

    Window w holds the calls that finished from ``w * width_ns`` on. ``counts[name]`` are those of
    ``"response_ns"``, ``"service_ns"``, ``"queue_ns"`` and ``"lateness_ns"``, and of stages where
    there are any, calls that returned only; ``sums`` (float64, ``(windows,)``), ``lows`` and
    ``highs`` (int, of the whole run) belong to them. ``returned_by_input`` has the shape
    ``(windows, inputs)``, ``failed`` ``(windows,)``; ``failed_ns``, float64 of the same shape, is
    how long calls that failed took from when they were due, together. The first call began at
    ``first_started_ns``.
    """

    width_ns: int
    counts: dict[str, WindowCounts]
    sums: dict[str, Floats]
    lows: dict[str, int]
    highs: dict[str, int]
    returned_by_input: Int64s
    failed: Int64s
    failed_ns: Floats
    last_finished_ns: int
    first_started_ns: int = 0
    sampled_one_in: int = 1

    @property
    def calls(self) -> int:
        """How many calls were counted."""
        return int(self.returned_by_input.sum() + self.failed.sum())
