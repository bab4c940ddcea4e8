"""The sections that pages of runs and of studies have alike."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from inferload.report.html.explanations import OF_A_RUN
from inferload.report.html.page import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.figures import RunWarning


def warnings_section(warnings: Sequence[RunWarning]) -> Section:
    """What is doubtful, each with what to do."""
    lines = "".join(
        f"<li><span class=doubtful>{escape(one.message)}</span> [{escape(one.code)}]<br>"
        f"{escape(one.hint)}</li>"
        for one in warnings
    )
    return Section(
        title="What is doubtful", body=f"<ul class=warnings>{lines}</ul>" if lines else ""
    )


def how_section() -> Section:
    """How the figures are made."""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in OF_A_RUN.items()
    )
    return Section(
        title="How the figures are made", body=f"<table><tbody>{rows}</tbody></table>", folded=True
    )


def reproduce_section(text: str) -> Section:
    """The command, to be copied."""
    return Section(
        title="How to make it again",
        body=f"<pre class=copied>{escape(text)}</pre>",
    )


def environment_section(environment: dict[str, Any], title: str = "Environment") -> Section:
    """Machine, build and settings."""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{_value(value)}</td></tr>"
        for name, value in environment.items()
    )
    body = f"<div class=scroll><table><tbody>{rows}</tbody></table></div>" if rows else ""
    return Section(title=title, body=body, folded=True)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{escape(str(k))}={escape(str(v))}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return "<br>".join(escape(str(one)) for one in value) or "-"
    text = "-" if value is None else str(value)
    return f"<pre>{escape(text)}</pre>" if "\n" in text else escape(text)
