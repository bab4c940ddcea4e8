"""Reports as one HTML file that opens offline, with charts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.files import replacing
from inferload.records.result import RunResult
from inferload.report.html.page import asset, page_text
from inferload.report.html.run import run_page, several_page
from inferload.report.html.studies import study_page

if TYPE_CHECKING:
    from pathlib import Path

    from inferload.records.shown import Shown
    from inferload.report.html.page import Headline, Section


def html_text(found: Shown | dict[str, RunResult]) -> str:
    """The report of a run, of a study, or of several runs side by side."""
    headline, sections = page_of(found)
    return page_text(headline, sections, asset("plotly-basic.min.js"))


def write_html(found: Shown | dict[str, RunResult], path: Path) -> None:
    """Write the report, whole or not at all.

    Raises:
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
