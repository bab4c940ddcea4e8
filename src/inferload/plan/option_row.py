"""A row of the table of options: all that is known of one option before it is used."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.units import duration_s, fraction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

#: The verbs that call a model.
VERBS = ("run", "sweep", "search", "tune", "compare", "explain")
#: What options are of, in the order in which they are told.
GROUPS = (
    "callers", "end", "arrivals", "inputs", "server", "form", "device", "threads", "state",
    "errors", "output",
)  # fmt: skip
#: What a value is on the command line a text of, and how that is read.
UNITS: dict[str, Callable[[str], Any]] = {"time": duration_s, "fraction": fraction}
_KINDS: dict[str, type] = {
    "bool": bool, "int": int, "float": float, "str": str, "Path": Path, "list[str]": list,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One option.

    ``name`` is Python's, ``flag`` the command line's and the run file's, there with underscores;
    ``None`` where it can be given in Python alone. ``kind`` is the type of its value, ``unit``
    whether that is read from a text: ``"time"`` (seconds) or ``"fraction"``. ``one_of``: the words
    that it may be. ``check`` is given the option's name and a value that is not ``None``.
    ``completes``: what a shell completes to, beside ``one_of``. ``verbs`` have the flag; ``told``:
    a result's spec has it as it was asked for. ``in_file``: its type in a run file, if that is not
    the kind. ``stands_for``: words that are another value's.
    """

    name: str
    default: Any
    kind: type
    group: str
    flag: str | None = None
    unit: str | None = None
    one_of: tuple[str, ...] = ()
    check: Callable[[str, Any], None] | None = None
    help: str = ""
    metavar: str | None = None
    completes: tuple[str, ...] = ()
    verbs: Collection[str] = VERBS
    told: bool = False
    in_file: Any = None
    stands_for: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name on the command line and in a run file, as Python writes it."""
        return (self.flag or self.name).replace("-", "_")

    def read(self, word: Any) -> Any:
        """The value of what stands on the command line.

        Raises:
            PlanError: it is not understood.
        """
        if word is None or self.unit is None:
            return self.stands_for.get(word, word) if isinstance(word, str) else word
        return UNITS[self.unit](word)

    def checked(self, value: Any) -> None:
        """Refuse what the option cannot be.

        Raises:
            PlanError: naming the option, and its value.
        """
        if self.kind is bool and value is not None and not isinstance(value, bool):
            raise PlanError(f"{self.name} is {value!r}: it must be True or False")
        if self.one_of and value is not None and value not in self.one_of:
            raise PlanError(f"{self.name} {value!r} is unknown: choose {_listed(self.one_of)}")
        if self.check is not None and value is not None:
            self.check(self.name, value)


def option(default: Any, group: str, **known: Any) -> Any:
    """A field of the table; ``known`` is what :class:`Row` has beside name, default and kind."""
    return field(default=default, metadata={"group": group} | known)


def rows_of(table: type) -> tuple[Row, ...]:
    """The options among the fields of a table, in its order."""
    found = []
    for one in fields(table):
        if one.metadata:
            known: dict[str, Any] = {"kind": _KINDS.get(str(one.type).removesuffix(" | None"), str)}
            found.append(Row(name=one.name, default=one.default, **known | dict(one.metadata)))
    return tuple(found)


def ordered(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Those that have a flag, group by group."""
    flags = [row for row in rows if row.flag is not None]
    return tuple(sorted(flags, key=lambda row: GROUPS.index(row.group)))


def _listed(words: tuple[str, ...]) -> str:
    return " or ".join(words) if len(words) < 3 else ", ".join(words)
