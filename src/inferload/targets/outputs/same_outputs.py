"""Whether a model still computes the same in another form; where that cannot be said, why."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import UninitializedBuffer

from inferload.errors import PlanError
from inferload.log.reasons import reason_of, way_round, with_type
from inferload.records.figures import RunWarning
from inferload.targets.inputs.call_input import described, owned
from inferload.targets.outputs.comparing import (
    Structure,
    leaves,
    not_compared,
    tensors_among,
    widest,
)
from inferload.targets.outputs.seeding import MOST_DRAWS, generator_states, seeded
from inferload.targets.outputs.settling import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from inferload.targets.inputs.call_input import CallInput

# Fused and reordered arithmetic differs from eager's by this much: of each value, and of the root
# mean square of all. A form that computes something else differs by far more.
_RELATIVE, _OF_ALL, _LEAST = 1e-2, 1e-3, 1e-5
# Devices multiply in shorter formats (TF32); rounding to these types happens in other places once
# operators are fused.
_OF_ALL_ON_DEVICE, _ROUNDED, _LEAST_ROUNDED = 5e-3, 5e-2, 1e-3
_MOST_PLACES = 4


class Eager:
    """An eager model as it is before it is turned into another form: what it computes alone.

    It is called with the first input, twice with one seed and then with another, several times if
    it draws numbers. ``changes`` says why these outputs differ: then nobody can say whether another
    form computes the same.
    """

    def __init__(
        self,
        name: str,
        call: Callable[..., Any],
        first: CallInput,
        module: torch.nn.Module | None = None,
    ) -> None:
        self.name = name
        self.module = module
        self._call = call
        self.changes: str | None = None
        self.changes_by_random_numbers = False
        before = _state_of(module)
        with seeded():
            one = self.outputs(0, first)
        with seeded():
            seeds = generator_states()
            other = self.outputs(0, first)
            draws = MOST_DRAWS if generator_states() != seeds else 1
        if _how(one, other) is not None:
            self.changes = _names_of_changed(before, _state_of(module))
        elif any(_how(one, self.outputs(0, first)) is not None for _ in range(draws)):
            self.changes, self.changes_by_random_numbers = "it draws random numbers", True

    def outputs(self, number: int, one: CallInput) -> list[Any]:
        """The leaves of its output.

        Raises:
            PlanError: it raised.
        """
        own = owned(one)
        try:
            return leaves(settled(self._call(*own.args, **own.kwargs), self.name))
        except PlanError:
            raise
        except KeyboardInterrupt:
            raise
        except (Exception, SystemExit) as error:
            raise PlanError(
                f"{self.name} raised {type(error).__name__} on input {number} as it is, before it "
                f"was turned into another form: {reason_of(error)}{way_round(str(error))}"
            ) from error


def differ(expected: Sequence[Any], actual: Sequence[Any]) -> bool:
    """Whether outputs differ by more than arithmetic in another order does."""
    return _how(expected, actual) is not None


def compared(
    eager: Eager,
    form: str,
    calls: Iterable[Callable[[], Any]],
    inputs: Sequence[CallInput],
) -> tuple[RunWarning, ...]:
    """Compare the outputs of a converted model, one call for each input, with the eager one's.

    What cannot be compared is told.

    Raises:
        PlanError: they differ.
    """
    unknown: list[str] = []
    calls = [partial(_settled, call, eager.name) for call in calls]
    for number, (one, call) in enumerate(zip(inputs, calls, strict=True)):
        actual = _called(eager.name, form, call, number, inputs)
        if number == 0 and eager.changes is not None:
            repeats = _how(actual, leaves(call())) is None
            return (_changing(eager, form, repeats=repeats),)
        expected = eager.outputs(number, one)
        unknown += not_compared(expected)
        how = _how(expected, actual)
        if number == 0 and how is None:
            how = _how(expected, leaves(call()), "its second call: ")
        if how is None:
            continue
        if _how(expected, eager.outputs(number, one)) is not None:
            eager.changes = f"it does so with input {number}"
            return (_changing(eager, form, repeats=False),)
        raise PlanError(
            f"{eager.name} computes something else in the form {form!r}, so its speed would mean "
            f"nothing: it differs from the eager model's output on input {number}: {how}. Choose "
            f"another form{_slow_path(eager.module)}; if this is right for you, leave the "
            "comparison out: --no-compare (compare=False)"
        )
    if not unknown:
        return ()
    return (
        RunWarning(
            code="partly-compared",
            message=(
                f"of what {eager.name} returns, {' and '.join(dict.fromkeys(unknown))} could not "
                f"be compared with the form {form!r}; the rest is the same"
            ),
            hint="return tensors, and containers of them",
        ),
    )


def _settled(call: Callable[[], Any], name: str) -> Any:
    return settled(call(), name)


def _called(
    name: str, form: str, call: Callable[[], Any], number: int, inputs: Sequence[CallInput]
) -> list[Any]:
    """The leaves of what a converted model returns.

    Raises:
        PlanError: it raised, where inputs differ in their sizes: some of them are fixed in it.
    """
    try:
        return leaves(call())
    except Exception as error:
        if isinstance(error, PlanError) or len({described(one) for one in inputs}) < 2:
            raise
        raise PlanError(
            f"{name} in the form {form!r} fails on input {number} ({described(inputs[number])}): "
            f"{with_type(type(error).__name__, reason_of(error))}. Where it does not on inputs of "
            "another size, the form has that size fixed: run inputs of one size apart, or --form "
            "compile"
        ) from error


def _slow_path(module: torch.nn.Module | None) -> str:
    """What makes a transformer encoder compute padded places, too, as its other forms do."""
    encoders = (torch.nn.TransformerEncoder, torch.nn.TransformerEncoderLayer)
    if torch.is_grad_enabled() or module is None:
        return ""
    if not any(isinstance(one, encoders) for one in module.modules()):
        return ""
    return (
        ", or --grad on (torch.enable_grad() in Python), with which nn.TransformerEncoder takes no "
        "fast path that leaves padded places out"
    )


def _changing(eager: Eager, form: str, *, repeats: bool) -> RunWarning:
    if repeats and not eager.changes_by_random_numbers:
        return RunWarning(
            code="state-dropped",
            message=(
                f"{eager.name} gives another output when it is called again with the same input "
                f"({eager.changes}), and in the form {form!r} it gives the same one each time: the "
                "form drops its state"
            ),
            hint="pass the state in as an input, and return it",
        )
    return RunWarning(
        code="not-compared",
        message=(
            f"{eager.name} gives another output when it is called again with the same input "
            f"({eager.changes}), so nobody can say whether it computes the same in the form "
            f"{form!r}"
        ),
        hint="eval mode, and randomness or state passed in as an input, can be compared",
    )


def _state_of(module: torch.nn.Module | None) -> dict[str, torch.Tensor]:
    if module is None:
        return {}
    return {
        name: tensor.detach().clone()
        for name, tensor in module.named_buffers()
        if not isinstance(tensor, UninitializedBuffer)
    }


def _names_of_changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> str:
    names = [
        name
        for name, tensor in after.items()
        if name in before
        and (before[name].shape != tensor.shape or not torch.equal(before[name], tensor))
    ]
    if not names:
        return "it keeps something from call to call"
    return f"it writes to its buffer{'s' * (len(names) > 1)} {', '.join(names[:_MOST_PLACES])}"


def _how(expected: Sequence[Any], actual: Sequence[Any], when: str = "") -> str | None:
    """How outputs differ, in words; ``None`` if they do not. Only tensors and numbers count."""
    actual = _numbers_as_in(expected, actual)
    ours, theirs = tensors_among(expected), tensors_among(actual)
    if len(ours) != len(theirs):
        return f"{when}it returns {len(theirs)} tensors, not {len(ours)}"
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        which = f"output {number}" if len(ours) > 1 else "the output"
        if one.shape != other.shape:
            return f"{when}{which} has the shape {tuple(other.shape)}, not {tuple(one.shape)}"
        wrong = _wrong(one, other)
        if bool(wrong.any()):
            return f"{when}{_in_words(which, one, other, wrong)}"
    numbers, others = ([x for x in each if _is_number(x)] for each in (expected, actual))
    if len(numbers) == len(others) and not all(map(_near, numbers, others)):
        return f"{when}it returns the numbers {others}, not {numbers}"
    if any(map(_is_something, expected)) and not any(map(_is_something, actual)):
        return f"{when}it returns nothing, and does no work"
    return None  # beside tensors some forms leave numbers out


def _numbers_as_in(expected: Sequence[Any], actual: Sequence[Any]) -> Sequence[Any]:
    """The leaves of an output, with numbers where a form has made tensors of numbers."""
    if len(expected) != len(actual):
        return actual
    return [
        found.item()
        if _is_number(one) and isinstance(found, torch.Tensor) and found.dim() == 0
        else found
        for one, found in zip(expected, actual, strict=True)
    ]


def _is_something(leaf: Any) -> bool:
    return leaf is not None and not isinstance(leaf, Structure)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | complex)


def _near(one: complex, other: complex) -> bool:
    return bool(abs(one - other) <= _RELATIVE * abs(one) or (one != one and other != other))  # noqa: PLR0124


def _wrong(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Where two tensors of one shape differ."""
    if not (expected.is_floating_point() or expected.is_complex()):
        return expected != found
    rounded = expected.element_size() <= 2 or torch.is_autocast_enabled(expected.device.type)
    one, other = widest(expected), widest(found)
    finite = one.abs()[one.isfinite()]
    scale = float((finite * finite).mean().sqrt()) if finite.numel() else 0.0
    of_all = _OF_ALL if expected.device.type == "cpu" else _OF_ALL_ON_DEVICE
    relative = _ROUNDED if rounded else _RELATIVE
    absolute = max(_ROUNDED * scale, _LEAST_ROUNDED) if rounded else max(of_all * scale, _LEAST)
    return ~torch.isclose(other, one, relative, absolute, equal_nan=True)


def _in_words(which: str, expected: torch.Tensor, found: torch.Tensor, wrong: torch.Tensor) -> str:
    gap = (widest(found) - widest(expected)).abs()[wrong]
    most = float(gap.nan_to_num(nan=math.inf).max())
    size = f"by up to {most:.3g}" if math.isfinite(most) else "in a NaN or an infinity"
    rows = wrong.any(dim=-1) if wrong.dim() > 1 else wrong
    places = [list(map(int, place)) for place in rows.nonzero()[: _MOST_PLACES + 1]]
    where = ""
    if wrong.dim() and places:
        where = ", at " + ", ".join(map(str, places[:_MOST_PLACES]))
        where += ", ..." * (len(places) > _MOST_PLACES) + f" of the shape {tuple(wrong.shape)}"
    zero = ", where the eager model's are all 0" if not bool(expected[wrong].any()) else ""
    return f"{int(wrong.sum()):,} of {wrong.numel():,} values of {which} differ {size}{where}{zero}"
