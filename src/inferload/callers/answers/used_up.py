"""Answers that are not whole when a call returns: used up, or waited for, before it is finished."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from inferload.callers.answers.piece_log import PieceLog
from inferload.errors import PlanError
from inferload.targets.inputs.call_input import tensors_of
from inferload.targets.outputs.piece import tokens_said
from inferload.targets.outputs.settling import arrived, may_arrive_later, result_of
from inferload.targets.outputs.unfinished import FUTURE, STREAMS, check_returned, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from inferload.callers.job import Job

    Call = Callable[[], Any]

# Pieces of these classes are not on a device.
_NO_TENSORS = (int, float, str, bytes, type(None))


class Answers:
    """What one caller's calls return, brought to its end within the call."""

    def __init__(
        self,
        job: Job,
        number: int,
        now_ns: Callable[[], int],
        answer_in_pieces: Callable[[], None],
    ) -> None:
        """For caller ``number``; ``answer_in_pieces`` hears of the first warm-up call that does."""
        #: Classes of what calls returned that is whole.
        self.whole: set[type] = set()
        self.log = PieceLog(job, number)
        self._name = job.target.name
        self._now = now_ns
        self._answer_in_pieces = answer_in_pieces
        self._keeps = job.kept_outputs > 0
        self._devices = () if job.device_work is None else job.device_work.devices
        self._transfers = job.device_work is not None and job.device_work.transfers
        #: Classes of pieces that are a token each, and nothing to wait for.
        self._plain: set[type] = set()
        self._place: int | None = None

    def expect(self, places: slice) -> None:
        """The next calls are those of the rows at these places of the log."""
        self._place = places.start
        self.log.expect(places)

    def around(self, number: int, call: Call) -> Call:
        """What makes a call with an input, and returns when its answer is whole."""
        whole, brought = self.whole, self._brought

        def answered() -> Any:
            place = self._place
            if place is not None:
                self._place = place + 1
            output = call()
            return output if output.__class__ in whole else brought(output, place, number)

        return answered

    def _brought(self, output: Any, place: int | None, number: int) -> Any:
        if kind_of(output) in STREAMS:
            return self._used_up(output, place, number)
        return self.of_class_unseen(output)

    def of_class_unseen(self, output: Any) -> Any:
        """The answer of a call, of a class that is not in ``whole``, where it is not in pieces.

        Raises:
            PlanError: it is, or nobody here brings it to its end.
        """
        kind = kind_of(output)
        if kind in STREAMS:
            raise PlanError(
                f"a call of {self._name} returned {kind}, and no warm-up call did, so nothing was "
                "made ready to time its pieces: have warm-up calls with every input (--warmup N, "
                "warmup_calls=N), or name a function that says so, such as def predict(x): yield "
                "from model(x)"
            )
        if kind == FUTURE:
            return self.of_class_unseen(result_of(output))
        check_returned(output, self._name)
        if may_arrive_later(output):
            return arrived(output)
        self.whole.add(output.__class__)
        return output

    def _used_up(self, stream: Iterator[Any], place: int | None, number: int) -> list[Any] | None:
        """Take one piece after another: 0.1 us each; the pieces, where outputs are kept."""
        if place is None:  # a warm-up call
            self._answer_in_pieces()
        now, plain, look = self._now, self._plain, self._look
        times: list[int] = []
        add, count, last, tokens = times.append, 0, 0, 0
        kept: list[Any] | None = [] if self._keeps else None
        returned = False
        try:
            for piece in islice(stream, self.log.most()):
                if piece.__class__ not in plain:
                    tokens += look(piece) - 1
                add(now())
                if kept is not None:
                    kept.append(piece)
            for piece in stream:  # of those beyond, and of most calls of a long run, only the last
                if piece.__class__ not in plain:
                    tokens += look(piece) - 1
                last = now()
                count += 1
                if kept is not None:
                    kept.append(piece)
            returned = True
        finally:
            if place is not None:
                tokens += len(times) + count
                self.log.write(place, number, times, (count, last), tokens, returned=returned)
        return kept

    def _look(self, piece: Any) -> int:
        """How many tokens a piece is, when it is there: its work on devices is finished."""
        kind = kind_of(piece)
        if kind is not None:
            raise PlanError(
                f"a piece of what {self._name} answers is {kind}, whose work is still to be done: "
                "yield what it gives"
            )
        if self._devices and not isinstance(piece, _NO_TENSORS):
            self._wait_for(tensors_of(piece))
        elif not hasattr(piece, "tokens"):
            self._plain.add(piece.__class__)
        said = tokens_said(piece)
        return 1 if said is None else said

    def _wait_for(self, tensors: list[torch.Tensor]) -> None:
        if not any(one.device in self._devices for one in tensors):
            return
        for device in self._devices:
            torch.accelerator.current_stream(device).synchronize()
        if self._transfers:
            for tensor in tensors:
                tensor.to("cpu")
