"""One self-contained HTML page: sections of text and charts, and all that draws them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.report.charts.chart import Chart

# Nothing may be fetched, from anywhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
# Before anything shows, so that nothing flickers.
_THEME = (
    "document.documentElement.dataset.theme = "
    "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
)
# Of longer series the table below a chart shows so many rows, evenly spaced.
MOST_ROWS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with text, as HTML, and charts below it; ``folded``: closed until asked for."""

    title: str
    body: str = ""
    charts: tuple[Chart, ...] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """What the page says first: a name, a line below it, and figures with their labels."""

    title: str
    subtitle: str
    figures: tuple[tuple[str, str, str], ...] = ()

    @property
    def title_html(self) -> str:
        """The title, escaped."""
        return escape(self.title)

    @property
    def subtitle_html(self) -> str:
        """The line below it, escaped."""
        return escape(self.subtitle)


def page_text(headline: Headline, sections: Sequence[Section], plotly_js: str) -> str:
    """The page; ``plotly_js`` is Plotly's own code, and stands last so that text shows first."""
    style, script = asset("page.css"), asset("page.js")
    charts = [chart for section in sections for chart in section.charts]
    specs = [
        {"name": one.name, "data": one.data, "layout": one.layout, "height": one.height}
        for one in charts
    ]
    title = escape(f"{headline.title} - inferload")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{title}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>{style}</style>",
            f"<script>{_THEME}</script>",
            "</head>",
            "<body>",
            _header(headline),
            "<main>",
            *map(_section, sections),
            "</main>",
            f'<script type="application/json" id="charts">{_json(specs)}</script>',
            f"<script>{plotly_js}</script>" if charts else "",
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def asset(name: str) -> str:
    """A file that goes into every page."""
    return (files("inferload.report.html") / "assets" / name).read_text(encoding="utf-8")


def _header(headline: Headline) -> str:
    cards = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}"
        + (f"<small>{escape(more)}</small>" if more else "")
        + "</dd></div>"
        for label, value, more in headline.figures
    )
    return (
        f"<header><button id=theme type=button>dark or light</button>"
        f"<h1>{escape(headline.title)}</h1><p>{escape(headline.subtitle)}</p>"
        + (f"<dl class=cards>{cards}</dl>" if cards else "")
        + "</header>"
    )


def _section(section: Section) -> str:
    inside = section.body + "".join(map(_figure, section.charts))
    title = escape(section.title)
    if section.folded:
        return f"<section><details><summary><h2>{title}</h2></summary>{inside}</details></section>"
    return f"<section><h2>{title}</h2>{inside}</section>"


def _figure(chart: Chart) -> str:
    says = escape(chart.says)
    return (
        f"<figure><h3>{escape(chart.title)}</h3>"
        f'<div class=chart id="chart-{chart.name}" role=img aria-label="{says}" '
        f'style="height:{chart.height}px"></div>'
        f"<figcaption><p>{says}</p><p class=dim>{escape(chart.how)}</p>"
        f"{table_of(chart.columns)}</figcaption></figure>"
    )


def table_of(columns: dict[str, Sequence[Any]], *, is_open: bool = False) -> str:
    """Series as a table, that can be opened unless it is, of at most 60 rows."""
    rows = min(map(len, columns.values()), default=0)
    if not rows:
        return ""
    shown = range(rows)
    note = ""
    if rows > MOST_ROWS:
        places = np.linspace(0, rows - 1, MOST_ROWS).round().astype(int)
        shown, note = places.tolist(), f", {MOST_ROWS} of {rows:,} rows"
    head = "".join(f"<th scope=col class=number>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td class=number>{_number(own[row])}</td>" for own in columns.values())
        + "</tr>"
        for row in shown
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    if is_open:
        return f"<div class=scroll>{table}</div>"
    return f"<details><summary>as a table{note}</summary><div class=scroll>{table}</div></details>"


def _number(value: Any) -> str:
    if isinstance(value, str):
        return escape(value)
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,}" if isinstance(value, int | np.integer) else f"{value:,.4g}"


def _json(value: Any) -> str:
    """JSON that may stand within ``<script>``: nothing in it ends the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
