"""The page of models and forms, of what trials found."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from bare import DIFFERS
from trial import CALLS, COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalogue import Row
    from trial import Trial

SHOWN = ("eager", "verify", *COLUMNS[1:])
_PACKAGES = ("torch", "transformers", "torchvision", "timm", "torchao")
_LONGEST = 420


class Notes:
    """Sentences below the table, each once, numbered as they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, cell: str, sentence: str) -> str:
        """The cell with the number of its sentence."""
        number = self._numbers.setdefault(_plain(sentence), len(self._numbers) + 1)
        return f"{cell} [{number}](#notes)"

    def lines(self) -> str:
        """The list."""
        return "\n".join(f"{number}. {text}" for text, number in self._numbers.items())


def page(known: Mapping[str, Row], trials: Sequence[Trial]) -> str:
    """The page that ``benchmarks/forms.py --markdown`` writes."""
    found = {(one.row, one.column): one for one in trials}
    notes = Notes()
    tables, group = [], ""
    for row in known.values():
        tried = [found.get((row.name, column)) for column in COLUMNS]
        if not any(tried):
            continue
        if row.group != group:
            group = row.group
            head = " | ".join(SHOWN)
            tables.append(f"\n## {group}\n\n| model | {head} |\n|{'---|' * (len(SHOWN) + 1)}")
        cells = [cell(one, notes) for one in tried]
        cells.insert(1, _verify(tried[0], notes))
        tables.append(f"| {_plain(row.name)} | {' | '.join(cells)} |")
    absent = [row for row in known.values() if row.missing and (row.name, "eager") not in found]
    return (
        _head(trials)
        + _counts(trials)
        + "\n".join(tables)
        + f"\n\n## Notes\n\n{notes.lines()}\n"
        + _left_out(absent)
    )


def cell(one: Trial | None, notes: Notes) -> str:
    """What a form does for a model, in a word and the number of a note."""
    if one is None:
        return "not run"
    if one.works:
        told = [text for code, text in one.warnings.items() if code != "not-verified"]
        return notes.mark("yes", "; ".join(told)) if told else "yes"
    if one.out_of_time:
        return "out of time"
    if one.torch:
        return notes.mark("torch differs" if _differs(one) else "torch cannot", one.said)
    return notes.mark("**no**", one.said)


def _differs(one: Trial) -> bool:
    return one.torch == DIFFERS


def _verify(one: Trial | None, notes: Notes) -> str:
    if one is None or not one.works:
        return "-" if one else "not run"
    return "same" if one.verified == "yes" else notes.mark("told", one.verified)


def _head(trials: Sequence[Trial]) -> str:
    made_with = {one.version for one in trials}
    names = [f"{name} {found}" for name in _PACKAGES[1:] if (found := _version(name))]
    return f"""# Models and forms

Written by `python benchmarks/forms.py --markdown docs/models.md` (`make accuracy` does so): models
as people ship them, small and with random weights, each built by a function of `benchmarks/zoo/`
and run, with its name in `ZOO_ROW`, by
`inferload run benchmarks/zoo/chosen.py --form FORM {" ".join(CALLS)} --verify`
in the command's own process (`--no-isolate`). torch {" and ".join(sorted(made_with))},
{", ".join(names)}, Python {platform.python_version()}, CPU.

**yes**: both callers made their calls, and the form's outputs were compared with the eager model's
on every input before; a note has what was printed beside. **torch cannot**: torch's own conversion
and call, without inferload, fail, too; the note has what inferload printed. **torch differs**: it
can, but computes something else, which inferload refuses unless told not to compare. **no**: torch
alone can. *verify*: outputs of the eager model under load are the *same* as those made alone, or
what is told instead. *processes*: eager, two processes of two callers.

"""


def _counts(trials: Sequence[Trial]) -> str:
    heads = ("form", "models", "yes", "torch cannot", "torch differs", "no")
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for column in COLUMNS:
        mine = [one for one in trials if one.column == column and not one.out_of_time]
        works = sum(one.works for one in mine)
        differ = sum(not one.works and _differs(one) for one in mine)
        cannot = sum(not one.works and bool(one.torch) for one in mine) - differ
        counts = (len(mine), works, cannot, differ, len(mine) - works - cannot - differ)
        lines.append(f"| {column} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def _left_out(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    names = "\n".join(
        f"- {_plain(one.name)}: {' and '.join(one.missing)} is not installed" for one in rows
    )
    return f"\n## Left out\n\n{names}\n"


def _plain(text: str) -> str:
    """A sentence as Markdown shows it, without the paths of one machine."""
    text = re.sub(r"/\S*/(site-packages|lib/python3\.\d+|benchmarks)/", "", " ".join(text.split()))
    text = re.sub(r"/tmp/\S+", "FOLDER", text)  # noqa: S108 - a pattern, not a path
    text = re.sub(r"0x[0-9a-f]{6,}", "0x...", text)
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rsplit(" ", 1)[0] + " ..."
    return re.sub(r"([\\`*_\[\]<>{}|$#~])", r"\\\1", text)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
