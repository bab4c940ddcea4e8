"""Answers that are not whole when a call returns: used up, or waited for, before it is finished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from inferload.callers.answers.piece_log import PieceLog, PiecePool
from inferload.errors import PlanError
from inferload.targets.inputs.call_input import tensors_of
from inferload.targets.outputs.piece import tokens_said
from inferload.targets.outputs.settling import arrived, may_arrive_later, result_of
from inferload.targets.outputs.unfinished import FUTURE, STREAMS, check_returned, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from inferload.callers.job import Job

    Call = Callable[[], Any]

_CONTAINERS: frozenset[type] = frozenset({list, tuple, dict})
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
        pool: PiecePool,
    ) -> None:
        """For caller ``number``; ``answer_in_pieces`` hears of the first warm-up call that does."""
        #: Classes of what calls returned that is whole, and of what containers of it hold.
        self.whole: set[type] = set()
        self._parts: set[type] = set()
        self.log = PieceLog(job, number, pool)
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
        kind = kind_of(output)
        if kind in STREAMS:
            return self._used_up(output, place, number)
        if kind == FUTURE:
            return self._brought(result_of(output), place, number)
        return self.of_class_unseen(output)

    def of_class_unseen(self, output: Any) -> Any:
        """The answer of a call, of a class that is not in ``whole``, where it is not in pieces.

        Raises:
            PlanError: it is, or nobody here brings it to its end.
        """
        if output.__class__ in _CONTAINERS and self._is_known(output):
            return output
        kind = kind_of(output)
        if kind in STREAMS:
            raise self._unexpected(kind)
        if kind == FUTURE:
            return self.of_class_unseen(result_of(output))
        check_returned(output, self._name)
        if may_arrive_later(output):
            return arrived(output)
        if output.__class__ in _CONTAINERS:  # the next one may hold something else
            self._parts |= {part.__class__ for part in _parts_of(output)} - _CONTAINERS
        else:
            self.whole.add(output.__class__)
        return output

    def _is_known(self, container: Any) -> bool:
        """Whether there is nothing in a container but values of classes that were looked at."""
        parts = self._parts
        return all(part.__class__ in parts for part in _parts_of(container))

    def _unexpected(self, kind: str | None) -> PlanError:
        return PlanError(
            f"a call of {self._name} returned {kind}, and no warm-up call did, so nothing was made "
            "ready to time its pieces: have warm-up calls with every input (--warmup N, "
            "warmup_calls=N), or name a function that says so, such as def predict(x): yield from "
            "model(x)"
        )

    def _used_up(self, stream: Iterator[Any], place: int | None, number: int) -> list[Any] | None:
        """Take one piece after another: 0.1 us each; the pieces, where outputs are kept."""
        if place is None:  # a warm-up call
            self._answer_in_pieces()
        now, plain, look = self._now, self._plain, self._look
        times: list[int] = []
        add, most, count, last, tokens = times.append, self.log.most(), 0, 0, 0
        kept: list[Any] | None = [] if self._keeps else None
        returned = False
        try:
            for piece in stream:
                if piece.__class__ not in plain:
                    tokens += look(piece) - 1
                last = now()
                if count < most:
                    add(last)
                count += 1
                if kept is not None:
                    kept.append(piece)
            returned = True
        finally:
            if place is not None:
                self.log.write(
                    place, number, times, (count, last, tokens + count), returned=returned
                )
        return kept

    def _look(self, piece: Any) -> int:
        """How many tokens a piece is, when it is there: its work on devices is finished."""
        kind = kind_of(piece)
        if kind is None and piece.__class__ in _CONTAINERS and not self._is_known(piece):
            kind = next(filter(None, map(kind_of, pytree.tree_leaves(piece))), None)
            self._parts |= {part.__class__ for part in _parts_of(piece)} - _CONTAINERS
        if kind is not None:
            raise PlanError(
                f"a piece of what {self._name} answers is or holds {kind}, whose work is still to "
                "be done: yield what it gives"
            )
        if self._devices and not isinstance(piece, _NO_TENSORS):
            self._wait_for(tensors_of(piece))
        elif may_arrive_later(piece):
            arrived(piece)
        elif piece.__class__ not in _CONTAINERS and not _may_say_tokens(piece):
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


def _may_say_tokens(piece: object) -> bool:
    """Whether a piece of the class may have tokens, though perhaps not this one."""
    own = hasattr(piece, "__dict__") and not isinstance(piece, torch.Tensor)
    return own or hasattr(piece, "tokens")


def _parts_of(container: Any) -> Iterable[Any]:
    return container.values() if container.__class__ is dict else container
