"""What a row of the table is, and how the files of the zoo put theirs into it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    #: The model, and its inputs as ``inferload.run`` takes them.
    Made = tuple[Any, list[Any]]
    Maker = Callable[[], Made]

#: The files of the zoo, in the order of the table.
PARTS = ("hugging_face", "vision", "layers", "modules", "tensors", "habits", "states", "packed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model: ``make`` builds it and its inputs, ``needs`` are packages beyond torch's own.

    ``flags`` are options of ``inferload run`` that this model needs.
    """

    name: str
    group: str
    make: Maker
    needs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed here."""
        return tuple(name for name in self.needs if find_spec(name) is None)


_ROWS: dict[str, Row] = {}


def row(
    group: str, name: str | None = None, *, needs: tuple[str, ...] = (), flags: tuple[str, ...] = ()
) -> Callable[[Maker], Maker]:
    """Put a function that builds a model and its inputs into the table."""

    def kept(make: Maker) -> Maker:
        known = name or make.__name__
        if known in _ROWS:
            raise ValueError(f"two rows are called {known!r}")
        _ROWS[known] = Row(name=known, group=group, make=make, needs=needs, flags=flags)
        return make

    return kept


def rows() -> dict[str, Row]:
    """Every row by name, in the order of the table."""
    for part in PARTS:
        importlib.import_module(part)
    return dict(_ROWS)
