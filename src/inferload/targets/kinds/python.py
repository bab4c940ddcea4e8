"""Targets that run Python code: modules, compiled modules and any callable."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from inferload.errors import PlanError
from inferload.plan.model import FORMS
from inferload.records.figures import RunWarning
from inferload.targets.base import Target
from inferload.targets.inputs.call_input import described, tensors_of
from inferload.targets.outputs.settling import settled
from inferload.targets.outputs.unfinished import Answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from inferload.targets.inputs.call_input import CallInput


class PythonTarget(Target):
    """What runs Python code, and may answer later than a call of it returns."""

    answering: Answering

    @property
    def answers_in_pieces(self) -> bool:
        """Whether it is a generator function, asynchronous or not."""
        return self.answering.in_pieces

    @property
    def asynchronous(self) -> bool:
        """Whether it is a coroutine function or an asynchronous generator function."""
        return self.answering.asynchronous

    @property
    def is_coroutine(self) -> bool:
        """Whether it is a coroutine function."""
        return self.answering.asynchronous and not self.answering.in_pieces


class CallableTarget(PythonTarget):
    """Any Python callable."""

    form = "callable"

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Take a callable.

        Raises:
            PlanError: it cannot be called.
        """
        if not callable(function):
            raise PlanError(f"a {type(function).__name__} is no model: it cannot be called")
        super().__init__(name or str(getattr(function, "__qualname__", type(function).__name__)))
        self._function = function
        self.answering = Answering.of(function)
        self.may_become: tuple[str, ...] = () if self.answering.later else ("compile", "cudagraph")

    def python_callable(self) -> Callable[..., Any]:
        """The function itself."""
        return self._function


class ModuleTarget(PythonTarget):
    """An ``nn.Module``, called as it is."""

    form = "eager"

    def __init__(self, module: torch.nn.Module, name: str | None = None) -> None:
        super().__init__(name or type(module).__name__)
        self.module = module
        self.answering = Answering.of(module)
        self.may_become = () if self.answering.later else _forms_of(module)

    def python_callable(self) -> Callable[..., Any]:
        """The module's ``__call__``, looked up once."""
        bound: Callable[..., Any] = self.module.__call__
        return bound

    def modules(self) -> Sequence[torch.nn.Module]:
        """The module."""
        return (self.module,)


class CompiledTarget(CallableTarget):
    """A ``torch.compile``d module or function; compiled in the calling thread, before callers."""

    form = "compile"

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        #: What was compiled; a module that has compiled itself is its own.
        self.original: Callable[..., Any] = getattr(function, "_orig_mod", function)
        super().__init__(function, name or CallableTarget(self.original).name)
        self.may_become = ()  # what was compiled is asked for again, not the result of it
        self._inputs_differ = False

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Call it with every input, twice: concurrent compilation is not thread-safe.

        The second round compiles what the first one found to be dynamic.

        Raises:
            PlanError: torch.compile would replay CUDA graphs, which cannot have several callers.
        """
        self.check_usable(inputs)
        self._inputs_differ = len({described(one) for one in inputs}) > 1
        for _ in range(2):
            for one in inputs:
                started = time.perf_counter()
                settled(self._function(*one.args, **one.kwargs), self.name)
                if self.first_call_ms is None:
                    self.first_call_ms = (time.perf_counter() - started) * 1e3

    def check_usable(self, inputs: Sequence[CallInput]) -> None:
        """Refuse what several callers could not call.

        Raises:
            PlanError: torch.compile would replay CUDA graphs.
        """
        on_cuda = any(t.is_cuda for one in inputs for t in tensors_of((one.args, one.kwargs)))
        if on_cuda and _replays_graphs(self._function):
            raise PlanError(
                f"{self.name} was compiled in a mode that replays CUDA graphs (reduce-overhead, "
                "max-autotune). torch keeps these graphs for one thread: in others a call fails, "
                "and outputs lie where the next call of any caller writes. --form cudagraph has a "
                "graph for each caller; max-autotune-no-cudagraphs tunes without graphs"
            )

    @contextmanager
    def while_called(self, callers: int) -> Iterator[None]:
        """Keep torch from moving graphs about in its cache while other callers search it.

        torch moves the graph that was hit to the front of a list which others walk meanwhile (its
        guards let go of the GIL), so that they miss graphs which are there and compile them again.
        """
        keep_order = getattr(torch._C._dynamo.eval_frame, "_set_lru_cache", None)  # noqa: SLF001
        if callers == 1 or keep_order is None:
            yield
            return
        keep_order(False)
        try:
            yield
        finally:
            keep_order(True)

    def run_warnings(self, callers: int) -> tuple[RunWarning, ...]:
        """Threaded servers do not have the protection of :meth:`while_called`."""
        if callers == 1 or not self._inputs_differ:
            return self.notes
        return (
            *self.notes,
            RunWarning(
                code="compile-cache-race",
                message=(
                    "torch reorders compiled graphs while other threads search them, which makes "
                    "threaded callers compile again under load; that was turned off for this run"
                ),
                hint=(
                    "do the same in a threaded server: "
                    "torch._C._dynamo.eval_frame._set_lru_cache(False)"
                ),
            ),
        )

    def modules(self) -> Sequence[torch.nn.Module]:
        """The module that was compiled, if it was one."""
        return (self._function,) if isinstance(self._function, torch.nn.Module) else ()


# What torch.export does not take: programs within, and torch's own quantised modules.
_NO_EXPORT = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


def _forms_of(module: torch.nn.Module) -> tuple[str, ...]:
    """What an eager module may be turned into, before it is tried."""
    within = [*module.modules()]
    fixed = any(
        isinstance(one, torch.jit.ScriptModule) or type(one).__module__.startswith(_NO_EXPORT)
        for one in within
    )
    return tuple(
        form for form in FORMS if form != "eager" and not (fixed and form in {"export", "aoti"})
    )


def is_compiled(model: object) -> bool:
    """Whether ``torch.compile`` made this callable, or compiled this module in place."""
    return (
        hasattr(model, "_orig_mod")
        or hasattr(model, "_torchdynamo_orig_callable")
        or getattr(model, "_compiled_call_impl", None) is not None
    )


def _replays_graphs(function: Any) -> bool:
    """Whether inductor replays CUDA graphs, by the mode of a function or by its own settings."""
    from torch._inductor import config  # a compiled function has imported it

    own = _compiler_config(function).get("triton.cudagraphs")
    return bool(config.triton.cudagraphs if own is None else own)


def _compiler_config(function: Any) -> dict[str, Any]:
    """The settings of inductor that a compiled function was made with; empty if unknown."""
    context = getattr(function, "dynamo_ctx", None)
    found = getattr(context, "compiler_config", None)
    if found is None and hasattr(function, "get_compiler_config"):
        found = function.get_compiler_config()
    return dict(found or {})


def compiled_graphs() -> int:
    """How many graphs ``torch.compile`` has made in this process so far."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])
