"""Whether two runs are of one model, by the fingerprints that they have kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferload.records.figures import Fingerprint
    from inferload.records.spec import RunSpec


def other_model(a: RunSpec, b: RunSpec) -> str | None:
    """In words that the models of two runs are not the same, if that is known.

    By the names, shapes and dtypes of their weights. What these hold is another question, which
    :func:`other_content` answers: speed rarely depends on it.
    """
    for name, one, other in _pairs(a, b):
        if one.layout is None or one.layout == other.layout:
            continue
        held = [f"{found.values_held:,}" for found in (one, other)]
        if held[0] != held[1]:
            return f"{name} has {held[0]} values in its {one.of} in A and {held[1]} in B"
        return f"{name} has {held[0]} values in its {one.of}, in other shapes, dtypes or names in B"
    return None


def other_content(a: RunSpec, b: RunSpec) -> str | None:
    """In words that models of one layout hold other values, or are other code."""
    for name, one, other in _pairs(a, b):
        if one.layout == other.layout and one.content != other.content:
            if one.layout is not None:
                return f"{name} has other values in its {one.of} in B, of the same shapes"
            return f"{name} has another {one.of} in B: made anew, or another model"
    return None


def _pairs(a: RunSpec, b: RunSpec) -> list[tuple[str, Fingerprint, Fingerprint]]:
    """The fingerprints of each model in both, where both have one of the same."""
    name = a.target if a.target == b.target else "it"
    found = [(name, a.fingerprint, b.fingerprint)]
    if a.models and len(a.models) == len(b.models):
        found = [
            (one.name, one.fingerprint, other.fingerprint)
            for one, other in zip(a.models, b.models, strict=True)
        ]
    return [
        (name, one, other)
        for name, one, other in found
        if one is not None and other is not None and one.of == other.of
    ]
