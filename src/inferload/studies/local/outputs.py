"""Whether two models, or two forms of one, compute the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.targets.fingerprint import fingerprint_of, shares_of, values_of
from inferload.targets.inputs.call_input import owned
from inferload.targets.outputs.comparing import difference, tensors_among
from inferload.targets.outputs.verification import reference_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.figures import Fingerprint
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What one side computes alone, and of what.

    ``leaves`` are those of the output for each input; ``reason``: why there are none. ``weights``
    are the fingerprints of its models, ``inputs`` hashes of what its inputs hold. ``origin``: the
    words that the model was loaded by, ``None`` where the same words may mean other code.
    """

    leaves: list[list[Any]] = field(default_factory=list)
    reason: str | None = None
    form: str = "eager"
    weights: tuple[Fingerprint | None, ...] = ()
    inputs: tuple[str, ...] = ()
    origin: str | None = None


def outputs_of(target: Target, given: Sequence[CallInput], origin: str | None = None) -> Outputs:
    """The leaves of the output for each input, computed alone; or why there are none."""
    target.load(1)
    side = Outputs(
        form=target.form,
        weights=(fingerprint_of(target), *(one.fingerprint for one in shares_of(target))),
        inputs=tuple(values_of((tuple(one.args), dict(one.kwargs))) for one in given),
        origin=origin,
    )
    bound = [target.bind(number, one) for number, one in enumerate(given)]
    target.prepare([owned(one) for one in bound])
    found = reference_outputs(target, bound)
    return replace(side, leaves=[list(one) for one in found.outputs], reason=found.reason)


def told_apart(a: Outputs, b: Outputs) -> tuple[bool, str]:
    """Whether outputs are the same by ``torch.testing``'s tolerances, and that in words.

    One model that is loaded twice with other weights or inputs cannot be compared with itself.
    """
    for side, own in (("A", a), ("B", b)):
        if own.reason is not None:
            return True, f"not compared, of {side}: {own.reason}"
    if len(a.leaves) != len(b.leaves):
        raise PlanError(
            f"A has {len(a.leaves)} inputs and B {len(b.leaves)}: give both the same, to be "
            "compared"
        )
    for number, (one, other) in enumerate(zip(a.leaves, b.leaves, strict=True)):
        found = difference(one, other)
        if found is not None and a.form != b.form:  # forms may return tensors, and all else apart
            found = difference(tensors_among(one), tensors_among(other))
        if found is None:
            continue
        why = _made_anew(a, b)
        if why and a.origin is not None and a.origin == b.origin:
            return True, f"not compared: {why} ({found.how} on input {number})"
        return False, f"differ on input {number}, {found.how}" + (f"; but {why}" if why else "")
    number = len(a.leaves)
    return True, f"the same on {'all ' * (number > 1)}{number} input{'s' * (number > 1)}"


def _made_anew(a: Outputs, b: Outputs) -> str:
    """What two sides differ by that no form or code of theirs accounts for, in words."""
    what = []
    for one, other in zip(a.weights, b.weights, strict=False):
        if one is None or other is None or one.layout is None:
            continue
        if (one.of, one.layout) == (other.of, other.layout) and one.content != other.content:
            what.append("model()")
    what += ["inputs()"] * (a.inputs != b.inputs)
    if not what:
        return ""
    made = {"model()": "weights", "inputs()": "inputs"}
    things = " and ".join(made[one] for one in dict.fromkeys(what))
    places = " and ".join(dict.fromkeys(what))
    return (
        f"A and B have other values in their {things}, so their outputs differ whatever computes "
        f"them; where these are made at random, torch.manual_seed(0) in {places} makes them the "
        "same each time"
    )
