"""What every target can do; one subclass per form a model ships in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from inferload.targets.inputs.call_input import input_order, item_count, tensors_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractContextManager
    from types import ModuleType

    from inferload.log.arrays import Int32s
    from inferload.records.figures import RunWarning
    from inferload.records.server import ServerSeen, ServerSpec
    from inferload.records.spec import ModelShare
    from inferload.targets.inputs.call_input import CallInput


class Target(ABC):
    """A model in one of its forms.

    ``form`` names the form; ``name`` is what reports call the target; ``notes`` are warnings
    that loading or converting it gave rise to.
    """

    form: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: tuple[RunWarning, ...] = ()
        #: The forms that the model could be asked for instead, as far as that can be told.
        self.may_become: tuple[str, ...] = ()
        #: How long it took to turn the model into this form, if that was done here.
        self.conversion_s = 0.0
        #: The very first call, where it was made before any caller's.
        self.first_call_ms: float | None = None

    def load(self, callers: int) -> None:
        """Load what depends on the number of callers.

        Raises:
            PlanError: a file cannot be loaded.
        """
        del callers

    def bind(self, number: int, call_input: CallInput) -> CallInput:
        """Check one input before any caller starts.

        Raises:
            PlanError: naming the input's number and the argument that is wrong.
        """
        del number
        return call_input

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Do once, in the calling thread, what must be done before callers start."""
        del inputs

    def while_called(self, callers: int) -> AbstractContextManager[None]:
        """What must hold in this process while so many callers call."""
        del callers
        return nullcontext()

    @abstractmethod
    def python_callable(self) -> Callable[..., Any]:
        """What a Python caller calls."""

    def open(self, inputs: Sequence[Sequence[CallInput]], *, transfers: bool) -> None:
        """Make, in the calling thread, what each caller needs of its own.

        ``inputs[caller]`` are that caller's own inputs; with ``transfers`` they are written to
        before each call.

        Raises:
            PlanError: it cannot be had.
        """
        del inputs, transfers

    def callable_for(self, number: int) -> Callable[..., Any]:
        """What computes one of the inputs alone."""
        del number
        return self.python_callable()

    def calls_of(self, caller: int, own: Sequence[CallInput]) -> list[Callable[[], Any]]:
        """What a Python caller calls, for each of its own inputs."""
        del caller
        function = self.python_callable()
        return [partial(function, *one.args, **one.kwargs) for one in own]

    def call_of(self, caller: int, number: int, own: CallInput) -> Callable[[], Any]:
        """What a Python caller calls once, for a fresh copy of one of the inputs."""
        del caller
        return partial(self.callable_for(number), *own.args, **own.kwargs)

    def read_by_calls(self, caller: int, number: int, own: CallInput) -> CallInput:
        """The tensors that a call with an input reads: it is they that transfers write to."""
        del caller, number
        return own

    def order(self, inputs: int, calls: int | None, seed: int | Sequence[int]) -> Int32s:
        """Which input each call takes; repeated when it has come to its end."""
        return input_order(inputs, calls, seed)

    def warmup_order(self, inputs: int) -> Sequence[int]:
        """Which input each warm-up call of a caller takes; repeated."""
        return range(inputs)

    def shares(self) -> tuple[ModelShare, ...]:
        """The models of a mix; none of a single one."""
        return ()

    def owner_of(self, number: int) -> int:
        """Which model of a mix an input belongs to; requests of several never share a batch."""
        del number
        return 0

    def model_of(self, owner: int) -> Target:
        """The model of that number of a mix, itself of a single one."""
        del owner
        return self

    def for_shapes(self, inputs: Sequence[CallInput], owners: Sequence[int]) -> Target:
        """What is called with these inputs in place of those given; ascending by their owners."""
        del inputs, owners
        return self

    def native_callable(self, extension: ModuleType, inputs: Sequence[Sequence[CallInput]]) -> Any:
        """What native callers call, or ``None`` where the target needs Python.

        ``inputs[caller]`` are that caller's own inputs.
        """
        del extension, inputs
        return None

    @asynccontextmanager
    async def while_awaited(self, callers: int) -> AsyncIterator[None]:
        """What must hold in an event loop while so many of its tasks call."""
        del callers
        yield

    def begin(self) -> None:  # noqa: B027 - most targets have nothing to note
        """Take note, in the thread that opens the start line, that calls are measured from now."""

    def servers(self) -> tuple[ServerSpec, ...]:
        """The servers that models are behind, and how they are asked."""
        return ()

    def seen(self) -> tuple[ServerSeen, ...]:
        """What this process has seen of each of the servers."""
        return ()

    def values_of(self, number: int, output: Any) -> Any:
        """What a call with an input returned, as what is compared."""
        del number
        return output

    def items_of(self, number: int, given: CallInput) -> int:
        """How many samples an input has, once it is bound."""
        del number
        return item_count(given)

    @property
    def answers_in_pieces(self) -> bool:
        """Whether calls return generators, as far as that can be told before any is made."""
        return False

    @property
    def asynchronous(self) -> bool:
        """Whether calls return coroutines or asynchronous generators, as far as can be told."""
        return False

    @property
    def is_coroutine(self) -> bool:
        """Whether all calls return coroutines, which can be awaited as they are."""
        return False

    @property
    def runs_natively(self) -> bool:
        """Whether :meth:`native_callable` gives something."""
        return type(self).native_callable is not Target.native_callable

    def modules(self) -> Sequence[torch.nn.Module]:
        """The ``nn.Module`` behind the target, where there is one."""
        return ()

    def run_warnings(self, callers: int) -> tuple[RunWarning, ...]:
        """What a reader of a run with so many callers should know about this target."""
        del callers
        return self.notes

    def devices(self, inputs: Sequence[CallInput]) -> set[torch.device]:
        """The devices other than the CPU on which the target or its inputs live."""
        tensors = [t for one in inputs for t in tensors_of((one.args, dict(one.kwargs)))]
        for module in self.modules():
            tensors += [*module.parameters(), *module.buffers()]
        return {tensor.device for tensor in tensors} - {torch.device("cpu")}
