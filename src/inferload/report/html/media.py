"""What a report says in the terminal, as HTML: the same words in another medium."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import Preformatted
from inferload.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

# What a style of the terminal is called in the page's style sheet.
_CLASSES = {
    "bold": "strong",
    "dim": "dim",
    "green": "good",
    "red": "bad",
    "yellow": "doubtful",
}


def html_of(part: RenderableType) -> str:
    """A text as a paragraph, a table as a table, a group as one after another.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(part, Group):
        return html_of_all(part.renderables)
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Preformatted):
        return f"<pre>{escape(str(part))}</pre>" if part.lines else ""
    if isinstance(part, Text | str):
        text = printable(str(part))
        return f"<p{_class(_style(part))}>{escape(text)}</p>" if text.strip() else ""
    raise TypeError(f"{type(part).__name__} is nothing that a report is made of")


def html_of_all(parts: Iterable[RenderableType]) -> str:
    """One after another."""
    return "\n".join(filter(None, map(html_of, parts)))


def _table(table: Table) -> str:
    rows = rows_of(table)
    head = ""
    if table.show_header and table.columns:
        cells = "".join(
            f"<th scope=col{_align(column.justify)}>{escape(str(column.header))}</th>"
            for column in table.columns
        )
        head = f"<thead><tr>{cells}</tr></thead>"
    body = []
    for style, cells_of_row in rows:
        cells = "".join(
            f"<{tag}{_align(column.justify)}>{_cell(cell)}</{tag.split()[0]}>"
            for number, (column, cell) in enumerate(zip(table.columns, cells_of_row, strict=True))
            for tag in ["th scope=row" if number == 0 and not table.show_header else "td"]
        )
        body.append(f"<tr{_class(style)}>{cells}</tr>")
    caption = f"<p class=dim>{escape(str(table.caption))}</p>" if table.caption else ""
    return f"<div class=scroll><table>{head}<tbody>{''.join(body)}</tbody></table></div>{caption}"


def rows_of(table: Table) -> list[tuple[str, list[RenderableType]]]:
    """The rows of a table, each with its style."""
    columns = [list(column.cells) for column in table.columns]
    return [
        (str(row.style or ""), [column[number] for column in columns])
        for number, row in enumerate(table.rows)
    ]


def _cell(cell: RenderableType) -> str:
    text = escape(printable(str(cell)))
    style = _class(_style(cell))
    return f"<span{style}>{text}</span>" if style else text


def _style(part: object) -> str:
    return str(part.style) if isinstance(part, Text) else ""


def _class(style: str) -> str:
    names = [_CLASSES[word] for word in style.split() if word in _CLASSES]
    return f' class="{" ".join(names)}"' if names else ""


def _align(justify: str) -> str:
    return " class=number" if justify == "right" else ""
