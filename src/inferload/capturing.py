"""Recording what a live model is called with, to replay it later."""

from __future__ import annotations

import logging
import math
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inferload.errors import PlanError
from inferload.files import check_writable
from inferload.input_files import NotPlainError, copied, write_inputs
from inferload.inputs import items_of
from inferload.options import check_count

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self

DEFAULT_LIMIT = 100


class Capture:
    """Records inputs of a module while its block is open; ``inferload.capture`` makes one.

    ``seen``: calls so far; ``kept``: inputs that are recorded now; ``skipped``: how many calls
    could not be recorded, by reason.
    """

    def __init__(self, module: torch.nn.Module, path: Path, limit: int, seed: int) -> None:
        self.path = path
        self.seen = 0
        self.skipped: dict[str, int] = {}
        self._module = module
        self._limit = limit
        self._kept: dict[int, tuple[tuple[Any, ...], dict[str, Any], int]] = {}
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._lock = threading.Lock()
        self._next = 1
        self._weight = 1.0
        self._hook: Any = None

    @property
    def kept(self) -> int:
        """How many inputs are recorded now."""
        return len(self._kept)

    def __enter__(self) -> Self:
        # the class's own: a ScriptModule hides it, and calls such hooks all the same
        self._hook = torch.nn.Module.register_forward_pre_hook(
            self._module, torch.compiler.disable(self._on_call), prepend=True, with_kwargs=True
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hook.remove()
        try:
            self.save()
        except OSError as trouble:
            if error is None:
                raise
            logging.getLogger("inferload").warning("%s was not written: %s", self.path, trouble)

    def save(self) -> None:
        """Write what is recorded so far; nothing if that is nothing.

        Raises:
            OSError: the file could not be written; what stood there before is untouched.
        """
        with self._lock:
            kept = [self._kept[place] for place in sorted(self._kept)]
        for reason, count in self.skipped.items():
            logging.getLogger("inferload").warning(
                "%d calls of %d were not captured: %s", count, self.seen, reason
            )
        if kept:
            write_inputs(self.path, kept)
        else:
            logging.getLogger("inferload").warning(
                "no call was captured: %s is not written", self.path
            )

    def _on_call(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Record a call if it is one of the sample; whatever it is, the call goes on."""
        del module
        with self._lock:
            self.seen += 1
            if self.seen < self._next:
                return
            place = self._place()
        try:
            _check_calling()
            args, kwargs = copied((tuple(args), dict(kwargs)))
            own = (args, kwargs, items_of(args, kwargs))
        except Exception as error:  # noqa: BLE001 - nothing may come between caller and model
            with self._lock:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
            return
        with self._lock:
            self._kept[place] = own

    def _place(self) -> int:
        """Where this call goes, and which is the next to be taken.

        Li, "Reservoir-Sampling Algorithms of Time Complexity O(n(1 + log(N/n)))" (1994), algorithm
        L: a uniform sample, with a draw for the calls that are taken and none for the others.
        """
        if self.seen <= self._limit:
            self._next = self.seen + 1
            if self.seen == self._limit:
                self._skip()
            return self.seen - 1
        self._skip()
        return self._random.randrange(self._limit)

    def _skip(self) -> None:
        self._weight *= math.exp(math.log(1 - self._random.random()) / self._limit)
        gap = math.log(1 - self._random.random()) / math.log1p(-self._weight)
        self._next = self.seen + int(gap) + 1


def capture(
    module: torch.nn.Module,
    path: str | os.PathLike[str],
    *,
    limit: int = DEFAULT_LIMIT,
    seed: int = 0,
) -> Capture:
    """Record real inputs of a live model, a uniform sample of all calls while a block is open.

    ``with inferload.capture(model, "inputs.safetensors"): serve()``; then
    ``inferload run model.py --inputs inputs.safetensors``. Inputs are copied to the CPU when they
    are taken, ``limit`` of the first calls and ever fewer later, and written when the block ends.
    Calls from any thread count. Nothing is pickled: tensors, numpy arrays, numbers, texts, ``None``
    and lists, tuples and dicts of them are recorded; calls with anything else are skipped and
    counted, and never fail by it.

    Args:
        module: the model, also a ``ScriptModule`` or a compiled one.
        path: where to write, ``.safetensors``.
        limit: how many inputs are kept.
        seed: draws which.

    Raises:
        PlanError: it is no module, or the file cannot be written there.
    """
    path = Path(path)
    if not isinstance(module, torch.nn.Module):
        raise PlanError(
            f"a {type(module).__name__} cannot be captured: give the nn.Module that is called"
        )
    if path.suffix != ".safetensors":
        raise PlanError(f"{path} does not end in .safetensors, which is what is written")
    check_writable(path)
    check_count("limit", limit, at_least=1, at_most=1_000_000)
    check_count("seed", seed, at_least=0)
    return Capture(module, path, limit, seed)


def _check_calling() -> None:
    """Refuse what is no call: to copy to the host would end the recording of a CUDA graph.

    Raises:
        NotPlainError: the model is being traced or recorded.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # type: ignore[attr-defined]
        raise NotPlainError("the model was being traced")
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise NotPlainError("the model was being recorded in a CUDA graph")
