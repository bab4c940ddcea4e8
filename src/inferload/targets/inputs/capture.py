"""Recording what a live model is called with, to replay it later."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inferload.errors import PlanError
from inferload.files import check_writable
from inferload.plan.numbers import check_count
from inferload.targets.inputs.call_input import items_of
from inferload.targets.inputs.safetensors_file import NotPlainError, packed, write_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from inferload.targets.inputs.safetensors_file import PackedInput

DEFAULT_LIMIT = 100
# A model that is called in ever new ways must not fill the memory with reasons.
MOST_REASONS = 16
OTHER_REASONS = "other reasons"


class Capture:
    """Records inputs of a module while its block is open; ``inferload.capture`` makes one.

    ``seen``: calls so far; ``kept``: inputs that are recorded now; ``skipped``: how many of the
    calls that were drawn could not be recorded, by reason. ``path`` may be changed.
    """

    def __init__(self, module: torch.nn.Module, path: Path, limit: int, seed: int) -> None:
        self.path = path
        self.seen = 0
        self.skipped: dict[str, int] = {}
        self._module = module
        self._limit = limit
        #: By place in the reservoir: the number of the call, when it came, and its input.
        self._kept: dict[int, tuple[int, float, PackedInput]] = {}
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._lock = threading.Lock()
        self._next = 1
        self._weight = 1.0
        self._end: Callable[[], None] | None = None

    @property
    def kept(self) -> int:
        """How many inputs are recorded now."""
        return len(self._kept)

    def __enter__(self) -> Self:
        if self._end is not None:
            raise PlanError("this capture is open already: make another one")
        self._end = _hooked(self._module, self._on_call)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._end is not None:
            self._end()
            self._end = None
        log = logging.getLogger("inferload")
        with self._lock:
            skipped = dict(self.skipped)
        for reason, count in skipped.items():
            log.warning("%d calls that were drawn could not be captured: %s", count, reason)
        try:
            self.save()
        except Exception as trouble:
            if error is None:
                raise
            log.warning("%s was not written: %s", self.path, trouble)

    def save(self) -> None:
        """Write what is recorded so far; nothing if that is nothing.

        Raises:
            OSError: the file could not be written; what stood there before is untouched.
        """
        with self._lock:
            kept, seen = sorted(self._kept.values(), key=lambda one: one[0]), self.seen
        if kept:
            inputs, arrivals_s = [one for *_, one in kept], [at_s for _, at_s, _ in kept]
            write_inputs(self.path, inputs, arrivals_s, seen)
            return
        why = "" if self.seen else " (capture the object that is called, of a compiled model that)"
        logging.getLogger("inferload").warning(
            "no call was captured, so %s is not written%s", self.path, why
        )

    def _on_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record a call if it is one of the sample; whatever it is, the call goes on."""
        with self._lock:
            self.seen += 1
            if self.seen < self._next:
                return
            number, place, came_s = self.seen, self._place(), time.monotonic()
        found: PackedInput | None = None
        reason = ""
        try:
            _check_calling()
            found = packed(args, kwargs, items_of(args, kwargs))
        except Exception as error:  # noqa: BLE001 - nothing may come between caller and model
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        with self._lock:
            if found is None:
                if reason not in self.skipped and len(self.skipped) >= MOST_REASONS:
                    reason = OTHER_REASONS
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
                # what stands there has had its time: to keep it would favour early calls
                self._kept.pop(place, None)
            elif place not in self._kept or self._kept[place][0] < number:
                self._kept[place] = (number, came_s, found)

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
    When each of them came is written, too, for ``OpenLoop.replay("inputs.safetensors")``. Calls
    from any thread count. Nothing is pickled: tensors, numpy arrays, numbers, texts, ``None`` and
    lists, tuples and dicts of them are recorded; calls with anything else are skipped and
    counted, which makes the sample smaller and no less uniform, and never fail by it. Calls within
    a compiled graph are not seen: give the object that is called.

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


class _Hook:
    """Tells of calls of one module; a copy of that module, or its pickle, has none."""

    def __init__(self, tell: Callable[[tuple[Any, ...], dict[str, Any]], None]) -> None:
        self._tell = tell

    def __call__(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        del module
        # Dynamo, which may not break its graph here, sees this and nothing of what follows
        if not torch.compiler.is_compiling():
            self._tell(args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_silent, ())


def _silent() -> Callable[..., None]:
    return _say_nothing


def _say_nothing(*_: Any) -> None:
    """A hook that does nothing."""


def _hooked(
    module: torch.nn.Module, tell: Callable[[tuple[Any, ...], dict[str, Any]], None]
) -> Callable[[], None]:
    """Have a module tell of its calls; returns what ends that."""
    compiled = module._compiled_call_impl  # noqa: SLF001 - of Module.compile(), which has its hooks in it
    if compiled is not None:

        def told(*args: Any, **kwargs: Any) -> Any:
            tell(args, kwargs)
            return compiled(*args, **kwargs)

        def restore() -> None:
            module._compiled_call_impl = compiled  # noqa: SLF001

        module._compiled_call_impl = told  # noqa: SLF001
        return restore
    # the class's own: a ScriptModule hides it, and calls such hooks all the same
    hook = torch.nn.Module.register_forward_pre_hook(
        module, _Hook(tell), prepend=True, with_kwargs=True
    )
    return hook.remove


def _check_calling() -> None:
    """Refuse what is no call: to copy to the host would end the recording of a CUDA graph.

    Raises:
        NotPlainError: the model is being traced or recorded.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined]
        raise NotPlainError("the model was being traced")
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise NotPlainError("the model was being recorded in a CUDA graph")
