"""The pages of sweeps, searches, comparisons and tunings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.report.charts.comparisons import comparison_charts, tuning_charts
from inferload.report.charts.explanations import explanation_charts
from inferload.report.charts.forecasts import forecast_charts
from inferload.report.charts.studies import search_charts, sweep_charts
from inferload.report.html.media import html_of_all
from inferload.report.html.page import Headline, Section
from inferload.report.html.sections import (
    environment_section,
    how_section,
    reproduce_section,
    warnings_section,
)
from inferload.report.text.studies.sweeps import answer_text, parts_of
from inferload.studies.records.comparison import Comparison
from inferload.studies.records.explanation import Explanation
from inferload.studies.records.forecast import Forecast
from inferload.studies.records.max_rate import MaxRate
from inferload.studies.records.sweep import Sweep
from inferload.units import rate_text

if TYPE_CHECKING:
    from inferload.report.charts.chart import Chart
    from inferload.studies.records.files import Study


def study_page(study: Study) -> tuple[Headline, list[Section]]:
    """What is said first, and the sections below it."""
    sections = [
        warnings_section(study.warnings),
        Section(title="What was found", body=html_of_all(parts_of(study))),
        Section(title="Charts", charts=tuple(_charts(study))),
        how_section(),
    ]
    if study.made_by is not None:
        sections.append(reproduce_section(study.made_by))
    sections.append(environment_section(study.environment))
    return _headline(study), [one for one in sections if one.body or one.charts]


def _charts(study: Study) -> list[Chart]:
    if isinstance(study, Sweep):
        return sweep_charts(study)
    if isinstance(study, MaxRate):
        return search_charts(study)
    if isinstance(study, Forecast):
        return forecast_charts(study)
    if isinstance(study, Explanation):
        return explanation_charts(study)
    return comparison_charts(study) if isinstance(study, Comparison) else tuning_charts(study)


def _headline(study: Study) -> Headline:
    if isinstance(study, Comparison):
        return Headline(title=f"{study.b} against {study.a}", subtitle="comparison: B against A")
    if isinstance(study, MaxRate):
        limits = " and ".join(map(str, study.limits))
        rate = "none" if study.rate_per_s is None else f"{rate_text(study.rate_per_s)}/s"
        cards = (("highest rate", rate, answer_text(study, limits)),)
        return Headline(title=study.target, subtitle="search", figures=cards)
    if isinstance(study, Explanation):
        return Headline(title=study.target, subtitle=f"explanation: {study.says}")
    kind = type(study).__name__.lower()
    return Headline(title=study.target, subtitle=kind)
