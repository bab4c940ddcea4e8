"""Reports in a notebook: tables as HTML, and charts as Plotly's own figures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.report.html.document import page_of
from inferload.report.html.page import asset

if TYPE_CHECKING:
    from inferload.records.shown import Shown

# What a notebook's own style has no word for.
_STYLE = (
    ".inferload .bad{color:#b42318}.inferload .good{color:#116329}"
    ".inferload .doubtful{color:#8a5300}.inferload .strong{font-weight:600}"
    ".inferload .dim{opacity:.7}.inferload .number{text-align:right}"
    ".inferload td,.inferload th{text-align:left}"
)
_COLOUR = re.compile(r"var\((--[\w-]+)\)")


def notebook_html(found: Shown) -> str:
    """The words and tables of a report, without charts or scripts."""
    headline, sections = page_of(found)
    parts = [f"<h3>{headline.title_html}</h3>", f"<p>{headline.subtitle_html}</p>"]
    for one in sections:
        if not one.body:
            continue
        if one.folded:
            parts.append(f"<details><summary>{one.title}</summary>{one.body}</details>")
        else:
            parts.append(f"<h4>{one.title}</h4>{one.body}")
    return f"<div class=inferload><style>{_STYLE}</style>{''.join(parts)}</div>"


def figures(found: Shown) -> dict[str, Any]:
    """Every chart of a report as a ``plotly.graph_objects.Figure``, by name.

    Raises:
        PlanError: Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise PlanError(
            "figures are Plotly's, which is not installed: pip install 'inferload[report]'"
        ) from error

    colours = dict(re.findall(r"(--[\w-]+): ([^;]+);", asset("page.css").partition("}")[0]))

    def coloured(value: Any) -> Any:
        if isinstance(value, str):
            match = _COLOUR.fullmatch(value)
            return value if match is None else colours[match[1]]
        if isinstance(value, list):
            return [coloured(one) for one in value]
        if isinstance(value, dict):
            return {name: coloured(one) for name, one in value.items()}
        return value

    _, sections = page_of(found)
    return {
        chart.name: go.Figure(
            data=coloured(chart.data),
            layout={"title": {"text": chart.title}, "height": chart.height + 60,
                    "template": "plotly_white", **coloured(chart.layout)},
        )
        for one in sections
        for chart in one.charts
    }  # fmt: skip


def display_in_notebook(found: Shown) -> None:
    """Show tables and, where Plotly is installed, charts below them."""
    from importlib.util import find_spec

    from IPython.display import HTML, display

    display(HTML(notebook_html(found)))
    if find_spec("plotly") is not None and find_spec("nbformat") is not None:
        for figure in figures(found).values():
            display(figure)
