"""How requests are put together into batches, as a server would: asked for, and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inferload.errors import PlanError
from inferload.plan.numbers import check_count, number_or_none
from inferload.records.batches import EVERY_ARGUMENT, BatchSpec
from inferload.units import duration_s

MOST_REQUESTS = 65_536
LONGEST_DELAY_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """Requests that are due are called together, as a server with dynamic batching calls them.

    Callers are its instances. A free one takes the request that has been due for longest, waits
    until ``max_batch`` requests are due or ``max_delay_s`` have passed since that one was, takes
    what is due then, puts the inputs together along dimension 0 and calls once. Only requests join
    whose inputs have equal shapes, dtypes and other arguments.

    ``pad``: the value that shorter tensors are padded with, so that inputs of different lengths
    join: one for all arguments, or a mapping from the name or place of an argument to its own;
    arguments that it does not name are not padded. ``sizes_allowed``: the sizes of dimension 0 that
    the model is called with; a batch is filled up to the next one with copies of its last item.

    Raises:
        PlanError: naming the parameter, and its value.
    """

    max_batch: int
    max_delay_s: float = 0.0
    pad: float | Mapping[str | int, float] | None = None
    sizes_allowed: Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        check_count("max_batch", self.max_batch, at_least=1, at_most=MOST_REQUESTS)
        delay = self.max_delay_s
        number = isinstance(delay, (int, float)) and not isinstance(delay, bool)
        if not number or not 0 <= delay <= LONGEST_DELAY_S:
            raise PlanError(
                f"max_delay_s is {delay!r}: it must be 0 or more, and at most {LONGEST_DELAY_S:g}"
            )
        for name, value in self._pads().items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or math.isnan(value):
                raise PlanError(f"pad is {value!r} for {name}: it must be a number")
        for size in self.sizes_allowed:
            check_count("a size of sizes_allowed", size, at_least=1, at_most=2**20)

    def _pads(self) -> Mapping[str | int, float]:
        if self.pad is None:
            return {}
        return self.pad if isinstance(self.pad, Mapping) else {EVERY_ARGUMENT: self.pad}

    def check_beside(self, *, queued: bool, fresh_inputs: bool) -> None:
        """Refuse what batches cannot go with: requests that are never due beside others.

        Raises:
            PlanError: naming what to ask for instead.
        """
        if not queued:
            raise PlanError(
                "callers in a closed loop have one call each, so that no two requests could be "
                "called together: give clients (--clients 256), or a rate (--rate 200; --rates "
                "200 in a sweep)"
            )
        if fresh_inputs:
            raise PlanError(
                "the inputs of a batch are put together anew for each call: leave fresh_inputs "
                "(--fresh-inputs) out"
            )

    @property
    def told(self) -> BatchSpec:
        """As a result tells it."""
        return BatchSpec(
            max_batch=self.max_batch,
            max_delay_s=float(self.max_delay_s),
            pad={str(name): float(value) for name, value in self._pads().items()},
            sizes_allowed=tuple(sorted(set(self.sizes_allowed))),
        )


def batching_from_text(
    max_batch: int | None, max_delay: str | None, pad: str | None, sizes: str | None
) -> Batching | None:
    """Read ``--max-batch``, ``--max-delay``, ``--batch-pad`` and ``--batch-sizes-allowed``.

    ``pad`` is a number for all arguments, or ``input_ids=0,labels=-100``; of positional ones the
    place stands for the name.

    Raises:
        PlanError: a text is not understood, or says something of batches where there are none.
    """
    if max_batch is None:
        given = {"max-delay": max_delay, "batch-pad": pad, "batch-sizes-allowed": sizes}
        for flag, text in given.items():
            if text is not None:
                raise PlanError(f"--{flag} {text!r} is of batches: give --max-batch 64 as well")
        return None
    return Batching(
        max_batch=max_batch,
        max_delay_s=0.0 if max_delay is None else delay_from_text(max_delay),
        pad=None if pad is None else _pads_from_text(pad),
        sizes_allowed=() if sizes is None else _sizes_from_text(sizes),
    )


def delay_from_text(text: str) -> float:
    """Read a delay: a time, or 0.

    Raises:
        PlanError: it is not understood.
    """
    return 0.0 if re.fullmatch(r"0+(\.0*)?[a-z]*", text.strip()) else duration_s(text)


def _pads_from_text(text: str) -> float | dict[str | int, float]:
    found: dict[str | int, float] = {}
    for part in text.split(","):
        name, is_named, value = part.rpartition("=")
        number = number_or_none(value)
        if number is None or math.isnan(number) or (is_named and not name.strip()):
            raise PlanError(
                f"--batch-pad {text!r} is not understood: give a number for all arguments, as 0, "
                "or one for each that is padded, as input_ids=0,labels=-100"
            )
        found[name.strip() or EVERY_ARGUMENT] = number
    return found


def _sizes_from_text(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 12 for word in words):
        raise PlanError(f"--batch-sizes-allowed {text!r} is not understood: give sizes, as 1,2,4,8")
    return tuple(map(int, words))
