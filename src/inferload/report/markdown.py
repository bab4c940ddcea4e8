"""Reports as Markdown, for pull requests and tickets."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.files import replacing
from inferload.records.result import RunResult
from inferload.report.html.media import rows_of
from inferload.report.text.parts import STATUS, Preformatted
from inferload.report.text.reproduce import reproduction
from inferload.report.text.run import blocks, plain_report, plain_text
from inferload.report.text.several import several_table
from inferload.report.text.studies.sweeps import parts_of, study_report
from inferload.studies.records.comparison import Comparison
from inferload.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from inferload.records.figures import RunWarning
    from inferload.studies.records.files import Study

# What begins a list.
_LINE_START = re.compile(r"^(\s*\d*)([-+.)])(?=\s)")
# What is shown of a run beside its latencies; the rest is folded.
_TABLES = (
    "load stages",
    "batches",
    "pieces",
    "stages",
    "devices",
    "models",
    "ranks",
    "failures",
    "server says",
)
_SPECIAL = str.maketrans({one: f"\\{one}" for one in "\\`*_{}[]<>|#~"})


def write_markdown(found: RunResult | Study | dict[str, RunResult], path: Path) -> None:
    """Write the report, whole or not at all.

    Raises:
        OSError: the file could not be written.
    """
    text = markdown_text(found)
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def markdown_text(found: RunResult | Study | dict[str, RunResult]) -> str:
    """What a reader of a pull request asks first, and the rest folded below it."""
    if isinstance(found, RunResult):
        parts = _run(found)
    elif isinstance(found, dict):
        parts = _several(found)
    else:
        parts = _study(found)
    return "\n\n".join(filter(None, parts)) + "\n"


def _run(result: RunResult) -> list[str]:
    said = blocks(result)
    return [
        f"### {_plain(f'{result.spec.target} ({result.spec.form})')}",
        "" if result.status == "complete" else f"**{_plain(STATUS[result.status])}**",
        _of([*said["header"], *said["figures"]]),
        _of(said.get("percentiles", [])),
        *(_of(said[name]) for name in _TABLES if name in said),
        _warnings(result.warnings),
        _folded("the whole report", plain_report(result)),
        _folded("how to make it again", reproduction(result)),
    ]


def _several(results: dict[str, RunResult]) -> list[str]:
    return [
        f"### {len(results)} runs side by side",
        _of([several_table(results)]),
        *(_folded(name, plain_report(one)) for name, one in results.items()),
    ]


def _study(study: Study) -> list[str]:
    title = f"{study.b} against {study.a}" if isinstance(study, Comparison) else study.target
    return [
        f"### {_plain(title)}",
        _of(parts_of(study)),
        _warnings(study.warnings),
        _folded("the report as text", plain_text(study_report(study))),
        _folded("how to make it again", study.made_by) if study.made_by else "",
    ]


def _of(parts: Iterable[RenderableType]) -> str:
    return "\n\n".join(filter(None, map(_part, parts)))


def _part(part: Any) -> str:
    if isinstance(part, Group):
        return _of(part.renderables)
    if isinstance(part, Table):
        return _table(part)
    text = str(part)
    if not text.strip():
        return ""
    if isinstance(part, Preformatted):
        return _fenced(text)
    bold = isinstance(part, Text) and "bold" in str(part.style)
    return f"**{_plain(text.strip())}**" if bold else _plain(text.strip())


def _table(table: Table) -> str:
    rows = [[_plain(str(cell)) for cell in cells] for _, cells in rows_of(table)]
    if not table.show_header:  # a name and what it is
        return "\n".join(f"- **{name.strip()}** {' '.join(rest)}" for name, *rest in rows)
    lines = [
        [_plain(str(column.header)) for column in table.columns],
        ["---:" if column.justify == "right" else ":---" for column in table.columns],
        *rows,
    ]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return text + (f"\n\n{_plain(str(table.caption))}" if table.caption else "")


def _warnings(warnings: Sequence[RunWarning]) -> str:
    return "\n".join(
        f"- :warning: {_plain(one.message)} \\[{_plain(one.code)}\\]: {_plain(one.hint)}"
        for one in warnings
    )


def _folded(title: str, text: str) -> str:
    return (
        f"<details><summary>{escape(printable(title))}</summary>\n\n{_fenced(text)}\n\n</details>"
    )


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _plain(text: str) -> str:
    """Text that no renderer takes for markup, and that calls nobody by name."""
    text = printable(text).translate(_SPECIAL).replace("@", "@\u200b")
    return _LINE_START.sub(r"\1\\\2", text)
