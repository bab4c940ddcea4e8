"""Several models as one target: each input belongs to one of them."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from inferload.errors import PlanError
from inferload.plan.arrivals.schedule import models_drawn
from inferload.records.spec import AND, ModelShare
from inferload.targets.base import Target
from inferload.targets.inputs.call_input import input_order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from types import ModuleType

    import torch

    from inferload.log.arrays import Int32s
    from inferload.records.figures import RunWarning
    from inferload.records.server import ServerSeen, ServerSpec
    from inferload.targets.inputs.call_input import CallInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of the models: its inputs, and the weight of its share of the calls.

    ``callers``: how many callers call it and no other; ``None``: all callers call all models.
    """

    name: str
    target: Target
    given: tuple[CallInput, ...]
    weight: float
    callers: int | None = None


class MixedTarget(Target):
    """Calls the model that an input belongs to.

    Inputs are numbered through: first all of the first model, then those of the second; or
    ``owners`` says for each of them which model it belongs to.
    """

    def __init__(self, members: Sequence[Member], owners: Sequence[int] | None = None) -> None:
        super().__init__(AND.join(member.name for member in members))
        self.form = AND.join(dict.fromkeys(member.target.form for member in members))
        self.members = tuple(members)
        #: Which model each input belongs to, and its number among that one's.
        self._owner = [n for n, member in enumerate(members) for _ in member.given]
        if owners is not None:
            self._owner = [*owners]
        #: The numbers of each model's inputs.
        self._numbers: list[list[int]] = [[] for _ in members]
        self._local = []
        for number, owner in enumerate(self._owner):
            self._local.append(len(self._numbers[owner]))
            self._numbers[owner].append(number)
        total = sum(member.weight for member in members)
        self._weights = [member.weight / total for member in members]
        self.notes = tuple(chain.from_iterable(member.target.notes for member in members))
        self.conversion_s = sum(member.target.conversion_s for member in members)

    def _each(self) -> Iterator[tuple[Member, list[int]]]:
        """Each model, and the numbers of its inputs."""
        return zip(self.members, self._numbers, strict=True)

    @property
    def given(self) -> tuple[CallInput, ...]:
        """The inputs of all models."""
        return tuple(chain.from_iterable(member.given for member in self.members))

    def shares(self) -> tuple[ModelShare, ...]:
        """What a result keeps of the models."""
        return tuple(
            ModelShare(
                name=member.name,
                target=member.target.name,
                form=member.target.form,
                weight=weight,
                first_input=numbers[0],
                inputs=len(numbers),
                callers=member.callers,
                may_become=member.target.may_become,
            )
            for member, weight, numbers in zip(
                self.members, self._weights, self._numbers, strict=True
            )
        )

    def load(self, callers: int) -> None:
        """Load what depends on the number of callers."""
        for member in self.members:
            member.target.load(callers)

    def bind(self, number: int, call_input: CallInput) -> CallInput:
        """Check one input against its model."""
        owner = self._owner[number]
        member = self.members[owner]
        try:
            return member.target.bind(self._local[number], call_input)
        except PlanError as error:
            raise PlanError(f"{member.name}: {error}") from error

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Prepare each model with its inputs."""
        for member, numbers in self._each():
            member.target.prepare([inputs[number] for number in numbers])
        firsts = [m.target.first_call_ms for m in self.members]
        self.first_call_ms = max((one for one in firsts if one is not None), default=None)

    def open(self, inputs: Sequence[Sequence[CallInput]], *, transfers: bool) -> None:
        """Open each model with its own inputs."""
        for member, numbers in self._each():
            own = [[one[number] for number in numbers] for one in inputs]
            member.target.open(own, transfers=transfers)

    @asynccontextmanager
    async def while_awaited(self, callers: int) -> AsyncIterator[None]:
        """What each model needs in the loop."""
        async with AsyncExitStack() as stack:
            for member in self.members:
                await stack.enter_async_context(member.target.while_awaited(callers))
            yield

    def servers(self) -> tuple[ServerSpec, ...]:
        """Those of all models."""
        return tuple(chain.from_iterable(member.target.servers() for member in self.members))

    def seen(self) -> tuple[ServerSeen, ...]:
        """What was seen of those of all models."""
        return tuple(chain.from_iterable(member.target.seen() for member in self.members))

    def values_of(self, number: int, output: Any) -> Any:
        """As the model says that an input belongs to."""
        if not self.servers():  # numbers of batches are those of their shapes
            return output
        member = self.members[self._owner[number]]
        return member.target.values_of(self._local[number], output)

    def items_of(self, number: int, given: CallInput) -> int:
        """As the model says that an input belongs to."""
        member = self.members[self._owner[number]]
        return member.target.items_of(self._local[number], given)

    def begin(self) -> None:
        """Tell each model."""
        for member in self.members:
            member.target.begin()

    def calls_of(self, caller: int, own: Sequence[CallInput]) -> list[Callable[[], Any]]:
        """The calls of each model."""
        found: dict[int, Callable[[], Any]] = {}
        for member, numbers in self._each():
            calls = member.target.calls_of(caller, [own[number] for number in numbers])
            found |= zip(numbers, calls, strict=True)
        return [found[number] for number in range(len(own))]

    def read_by_calls(self, caller: int, number: int, own: CallInput) -> CallInput:
        """What the model that an input belongs to reads."""
        owner = self._owner[number]
        member = self.members[owner].target
        return member.read_by_calls(caller, self._local[number], own)

    @contextmanager
    def while_called(self, callers: int) -> Iterator[None]:
        """What must hold for each model while it is called."""
        with ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member.target.while_called(callers))
            yield

    def python_callable(self) -> Callable[..., Any]:
        """There is no one callable for all inputs; see :meth:`callable_for`."""
        raise AssertionError("a mix has a callable for each input")

    def callable_for(self, number: int) -> Callable[..., Any]:
        """The model that an input belongs to."""
        return self.members[self._owner[number]].target.python_callable()

    def owner_of(self, number: int) -> int:
        """The place of the model that an input belongs to."""
        return self._owner[number]

    def model_of(self, owner: int) -> Target:
        """The model of that number."""
        return self.members[owner].target

    def for_shapes(self, inputs: Sequence[CallInput], owners: Sequence[int]) -> MixedTarget:
        """The same models with other inputs."""
        own: list[list[CallInput]] = [[] for _ in self.members]
        for one, owner in zip(inputs, owners, strict=True):
            own[owner].append(one)
        members = [
            replace(member, given=tuple(given))
            for member, given in zip(self.members, own, strict=True)
        ]
        return MixedTarget(members, owners)

    def native_callable(self, extension: ModuleType, inputs: Sequence[Sequence[CallInput]]) -> Any:
        """All models with each caller's own inputs."""
        models = []
        for member, numbers in self._each():
            own = [[one[number] for number in numbers] for one in inputs]
            model = member.target.native_callable(extension, own)
            if model is None:
                return None
            models.append(model)
        return extension.MixModel(models, self._owner, self._local)

    @property
    def answers_in_pieces(self) -> bool:
        """Whether one of the models does."""
        return any(member.target.answers_in_pieces for member in self.members)

    @property
    def asynchronous(self) -> bool:
        """Whether one of the models is."""
        return any(member.target.asynchronous for member in self.members)

    @property
    def is_coroutine(self) -> bool:
        """Whether all of the models are."""
        return all(member.target.is_coroutine for member in self.members)

    @property
    def runs_natively(self) -> bool:
        """Whether all of the models do."""
        return all(member.target.runs_natively for member in self.members)

    def modules(self) -> Sequence[torch.nn.Module]:
        """The modules of all models."""
        return [module for member in self.members for module in member.target.modules()]

    def run_warnings(self, callers: int) -> tuple[RunWarning, ...]:
        """The warnings of all models."""
        found = [member.target.run_warnings(callers) for member in self.members]
        return tuple(chain.from_iterable(found))

    def order(self, inputs: int, calls: int | None, seed: int | Sequence[int]) -> Int32s:
        """Which input each call takes: a model by its weight, then the next of its own inputs."""
        del inputs
        seeds = np.atleast_1d(seed).tolist()
        own = [
            input_order(len(member.given), None, [*seeds, 1 + number])
            for number, member in enumerate(self.members)
        ]
        owner = models_drawn(self._weights, len(own[0]), seeds)
        order = np.empty(len(owner), np.int32)
        for number, numbers in enumerate(self._numbers):
            mine = np.flatnonzero(owner == number)
            chosen = own[number][np.arange(len(mine)) % len(own[number])]
            order[mine] = np.array(numbers, np.int32)[chosen]
        return order if calls is None else order[:calls]

    def warmup_order(self, inputs: int) -> list[int]:
        """One input of each model after another."""
        del inputs
        columns = self._numbers
        longest = max(map(len, columns))
        # a model of few inputs takes them again, so that each has its turn
        rows = zip_longest(*[[c[n % len(c)] for n in range(longest)] for c in columns])
        return [number for row in rows for number in row]
