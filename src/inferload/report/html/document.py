"""Reports as one HTML file that opens offline, with charts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.files import replacing
from inferload.records.result import RunResult
from inferload.report.html.page import page_text
from inferload.report.html.run import run_page, several_page
from inferload.report.html.studies import study_page

if TYPE_CHECKING:
    from pathlib import Path

    from inferload.records.shown import Shown
    from inferload.report.html.page import Headline, Section


def check_plotly() -> None:
    """Refuse a report with charts where Plotly is not installed.

    Raises:
        PlanError: saying how to install it.
    """
    if find_spec("plotly") is None:
        raise PlanError(
            "a report in HTML is drawn by Plotly, which is not installed: "
            "pip install 'inferload[report]'"
        )


def html_text(found: Shown | dict[str, RunResult]) -> str:
    """The report of a run, of a study, or of several runs side by side.

    Raises:
        PlanError: Plotly is not installed.
    """
    check_plotly()
    from plotly.offline import get_plotlyjs

    headline, sections = page_of(found)
    return page_text(headline, sections, get_plotlyjs())


def write_html(found: Shown | dict[str, RunResult], path: Path) -> None:
    """Write the report, whole or not at all.

    Raises:
        PlanError: Plotly is not installed.
        OSError: the file could not be written.
    """
    text = html_text(found)
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8")


def page_of(found: Any) -> tuple[Headline, list[Section]]:
    """What is said first, and the sections below it."""
    if isinstance(found, RunResult):
        return run_page(found)
    return several_page(found) if isinstance(found, dict) else study_page(found)
