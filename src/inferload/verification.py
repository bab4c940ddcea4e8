"""Whether a model computes the same under load as it does alone."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from inferload.inputs import owned
from inferload.outputs import (
    Difference,
    Opaque,
    Structure,
    difference,
    leaves,
    not_compared,
    tensors_among,
)
from inferload.records import Verification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.inputs import CallInput
    from inferload.targets.base import Target


def reference_outputs(target: Target, inputs: Sequence[CallInput]) -> list[list[Any]] | str:
    """The leaves of the output for each input, computed alone; or why there is nothing to compare.

    Every input is called twice: a model that gives two answers when it is alone (dropout, sampling,
    state that calls change) cannot be verified under load.
    """
    outputs = []
    for number, one in enumerate(inputs):
        function = target.callable_for(number)
        found = []
        for _ in range(2):
            own, began = owned(one), time.perf_counter()
            try:
                output = function(*own.args, **own.kwargs)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - what the run does with it is shown
                return f"computed alone it raised {type(error).__name__} on input {number}"
            if target.first_call_ms is None:
                target.first_call_ms = (time.perf_counter() - began) * 1e3
            found.append(leaves(output))
        if all(isinstance(one, Structure | Opaque) for one in found[0]) and not_compared(found[0]):
            return f"{' and '.join(not_compared(found[0]))} cannot be compared"
        if difference(found[0], found[1]) is not None:
            return f"computed twice alone its outputs differ on input {number}"
        outputs.append(found[0])
    return outputs


def verified(
    references: list[list[Any]] | str,
    kept: Sequence[Sequence[tuple[int, Any]]],
    *,
    tensors_only: bool,
) -> Verification:
    """Compare the outputs that callers kept with the references.

    ``tensors_only``: native callers of a package return its tensors, and no constants.
    """
    if isinstance(references, str):
        return Verification(compared=0, differing=0, reason=references)
    compared, differing = 0, 0
    worst: tuple[Difference, int, int] | None = None
    unknown: dict[str, None] = {}
    for caller, pairs in enumerate(kept):
        for number, output in pairs:
            expected = references[number]
            actual = leaves(output)
            if tensors_only:
                expected, actual = tensors_among(expected), tensors_among(actual)
            unknown.update(dict.fromkeys([*not_compared(expected), *not_compared(actual)]))
            found = difference(expected, actual)
            compared += 1
            if found is not None:
                differing += 1
                if worst is None or found.size > worst[0].size:
                    worst = (found, caller, number)
    if worst is None:
        return Verification(compared=compared, differing=0, not_compared=tuple(unknown))
    size = worst[0].size
    return Verification(
        compared=compared,
        differing=differing,
        caller=worst[1],
        input=worst[2],
        difference=size if math.isfinite(size) else None,
        how=worst[0].how,
        not_compared=tuple(unknown),
    )
