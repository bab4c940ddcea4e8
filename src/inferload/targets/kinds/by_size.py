"""A model in a program for each size of its batches, as compilers make them of fixed shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.targets.base import Target
from inferload.targets.inputs.joining import size_of
from inferload.targets.kinds.mixed import Member, MixedTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    import torch

    from inferload.records.figures import RunWarning
    from inferload.targets.inputs.call_input import CallInput


class BySizeTarget(Target):
    """Calls the program that was made for the size of dimension 0 that it is given.

    ``programs`` maps that size to a program; batches are filled up to the next size there is.
    """

    def __init__(self, programs: Mapping[int, Target], name: str | None = None) -> None:
        first = next(iter(programs.values()))
        super().__init__(name or first.name)
        self.form = first.form
        self.programs = dict(sorted(programs.items()))
        self.notes = tuple(dict.fromkeys(note for one in programs.values() for note in one.notes))
        self.conversion_s = sum(one.conversion_s for one in programs.values())

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that there are programs for, ascending."""
        return tuple(self.programs)

    def load(self, callers: int) -> None:
        """Load each program for so many callers."""
        for one in self.programs.values():
            one.load(callers)

    def bind(self, number: int, call_input: CallInput) -> CallInput:
        """Check an input against the program of its size.

        Raises:
            PlanError: there is none, or it does not fit.
        """
        return self._of(call_input.args, call_input.kwargs).bind(number, call_input)

    def prepare(self, inputs: Sequence[CallInput]) -> None:
        """Prepare each program with the inputs of its size."""
        for size, program in self.programs.items():
            own = [one for one in inputs if size_of(one.args, one.kwargs) == size]
            if own:
                program.prepare(own)

    def python_callable(self) -> Callable[..., Any]:
        """What calls the program of the size that it is given."""
        return lambda *args, **kwargs: self._of(args, kwargs).python_callable()(*args, **kwargs)

    def for_shapes(self, inputs: Sequence[CallInput], owners: Sequence[int]) -> Target:
        """The programs as models of a mix, each with the inputs of its size."""
        del owners
        sizes = [size_of(one.args, one.kwargs) for one in inputs]
        used = sorted(set(sizes))
        members = [
            Member(
                name=f"{self.name} ({size})",
                target=self.programs[size],
                given=tuple(one for one, own in zip(inputs, sizes, strict=True) if own == size),
                weight=1.0,
            )
            for size in used
        ]
        found = MixedTarget(members, [used.index(size) for size in sizes])
        found.name, found.form = self.name, self.form
        return found

    def native_callable(self, extension: ModuleType, inputs: Sequence[Sequence[CallInput]]) -> Any:
        """Each program with the inputs of its size."""
        return self.for_shapes(inputs[0], ()).native_callable(extension, inputs)

    @property
    def runs_natively(self) -> bool:
        """Whether its programs do."""
        return all(one.runs_natively for one in self.programs.values())

    def modules(self) -> Sequence[torch.nn.Module]:
        """The modules of one program: all have the same weights."""
        return next(iter(self.programs.values())).modules()

    def run_warnings(self, callers: int) -> tuple[RunWarning, ...]:
        """Those of all programs, each once."""
        found = [note for one in self.programs.values() for note in one.run_warnings(callers)]
        return tuple(dict.fromkeys(found))

    def _of(self, args: Any, kwargs: Any) -> Target:
        size = size_of(tuple(args), kwargs)
        if size not in self.programs:
            raise PlanError(
                f"{self.name} has programs for {', '.join(map(str, self.programs))} items, and "
                f"was called with {size}: call it in batches (--max-batch), which are filled up"
            )
        return self.programs[size]
