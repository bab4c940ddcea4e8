"""Whether two models, or two forms of one, compute the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.inputs import owned
from inferload.outputs import difference
from inferload.verification import reference_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.inputs import CallInput
    from inferload.targets.base import Target

Outputs = list[list[Any]] | str


def outputs_of(target: Target, given: Sequence[CallInput]) -> Outputs:
    """The leaves of the output for each input, computed alone; or why there are none."""
    target.load(1)
    bound = [target.bind(number, one) for number, one in enumerate(given)]
    target.prepare([owned(one) for one in bound])
    found = reference_outputs(target, bound)
    return [list(one) for one in found.outputs] if found.reason is None else found.reason


def told_apart(a: Outputs, b: Outputs) -> tuple[bool, str]:
    """Whether outputs are the same by ``torch.testing``'s tolerances, and that in words."""
    for side, own in (("A", a), ("B", b)):
        if isinstance(own, str):
            return True, f"not compared, of {side}: {own}"
    if len(a) != len(b):
        raise PlanError(f"A has {len(a)} inputs and B {len(b)}: give both the same, to be compared")
    for number, (one, other) in enumerate(zip(a, b, strict=True)):
        found = difference(one, other)
        if found is not None:
            return False, f"differ on input {number}, {found.how}"
    return True, f"the same on {'all ' * (len(a) > 1)}{len(a)} input{'s' * (len(a) > 1)}"
