"""What a sweep or a search came to, as tables with bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferload.report.text.parts import (
    bar,
    captioned,
    quoted_text,
    study_header,
    study_warnings,
    wanting_note,
)
from inferload.report.text.studies.comparison import comparison_report
from inferload.report.text.studies.explanation import explanation_report
from inferload.report.text.studies.forecast import forecast_report
from inferload.report.text.studies.rivals import rivals_table
from inferload.report.text.studies.tuning import tuning_report
from inferload.studies.records.comparison import Comparison, value_of
from inferload.studies.records.explanation import Explanation
from inferload.studies.records.forecast import Forecast
from inferload.studies.records.settings import Settings, delay_text, setting_text, unit_of
from inferload.studies.records.sweep import Sweep
from inferload.studies.records.tuning import Tuning
from inferload.studies.search import VERDICTS, value_text
from inferload.units import count_text, duration_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.records.distribution import Estimate
    from inferload.stats.limits.judging import Judgement
    from inferload.studies.records.files import Study
    from inferload.studies.records.max_rate import MaxRate, Probe
    from inferload.studies.records.sweep import SweepPoint, UslFit

HEADINGS = {
    "callers": "callers",
    "rate_per_s": "due/s",
    "processes": "processes",
    "threads_per_call": "threads",
    "batch_size": "batch",
    "form": "form",
    "max_batch": "up to",
    "max_delay_s": "delay",
}
BAR_CELLS = 14
# Of the rate that was due; what serves less does not keep up.
KEPT_UP = 0.95


def study_report(study: Study) -> RenderableType:
    """The report of a study as something rich can print."""
    if isinstance(study, Tuning):
        return tuning_report(study)
    if isinstance(study, Comparison):
        return comparison_report(study)
    if isinstance(study, Forecast):
        return forecast_report(study)
    if isinstance(study, Explanation):
        return explanation_report(study)
    return sweep_report(study) if isinstance(study, Sweep) else search_report(study)


def parts_of(study: Study) -> list[RenderableType]:
    """What the report of a study is made of, less its warnings, for media that show them apart."""
    report = study_report(study)
    parts = list(report.renderables) if isinstance(report, Group) else [report]
    return parts[: -len(study_warnings(study.warnings)) or None]


def sweep_report(sweep: Sweep) -> RenderableType:
    """A line for each point with bars of throughput and p99, what is most, and how it grows."""
    parts: list[RenderableType] = [
        study_header({"target": sweep.target, "runs": _runs_text(sweep)}, sweep.environment),
        Text(),
        _points_table(sweep),
    ]
    if sweep.peak is not None:
        parts += [Text(), Text(_peak_text(sweep, sweep.peak), style="bold")]
    if sweep.usl is not None:
        parts += [Text(line) for line in _usl_texts(sweep.usl)]
    elif sweep.no_usl is not None:
        parts.append(Text(f"{sweep.no_usl[0].upper()}{sweep.no_usl[1:]}.", style="dim"))
    note = "Each figure is the median of a point's runs, with the range of their intervals."
    if sweep.why_runs is not None:
        note += f" They are whole runs: {sweep.why_runs}."
    parts.append(Text(note, style="dim"))
    return Group(*parts, *study_warnings(sweep.warnings))


def _runs_text(sweep: Sweep) -> str:
    fixed = [
        setting_text(name, values[0]) for name, values in sweep.axes.items() if len(values) == 1
    ]
    blocks = count_text(sweep.blocks, "block")
    how = "shuffled within each"
    if sweep.slice_s is not None:
        how = f"by slices of {duration_text(sweep.slice_s)} in turn"
    text = f"{len(sweep.points)} points x {blocks}, {how}"
    if sweep.status != "complete":
        text += f"; interrupted after {len(sweep.runs)} runs"
    return text + "".join(f", {one}" for one in fixed)


def _points_table(sweep: Sweep) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    varied = [name for name, values in sweep.axes.items() if len(values) > 1]
    items = "batch_size" in varied
    what = "items/s" if items else f"{unit_of(sweep.runs)}/s"
    per_core = any(one.efficiency_fraction is not None for one in sweep.points)
    most = max((_value(_throughput(one)) for one in sweep.points), default=0.0)
    # what has more columns, or wider ones, has shorter bars, or none
    cells_of_bar = BAR_CELLS if len(varied) == 1 and most < 1e5 else 4 if most < 1e6 else 0
    drawn = [""] if cells_of_bar else []
    names = [*(HEADINGS[name] for name in varied), what, "from", "to", *drawn, "p50", "p99"]
    for name in [*names, *["per core"] * per_core]:
        table.add_column(name, justify="left" if name in {"", "form"} else "right", no_wrap=True)
    due = _due(sweep)
    for one in sweep.points:
        rate = _throughput(one)
        cells = [_shown(name, getattr(one.settings, name)) for name in varied]
        cells += [_rate(rate), _bound(rate, "low"), _bound(rate, "high")]
        if cells_of_bar:
            cells.append(bar(_value(rate) / most, cells_of_bar) if most else "")
        cells += [quoted_text(one.p50_ms), quoted_text(one.p99_ms)]
        if per_core:
            share = one.efficiency_fraction
            cells.append("-" if share is None else f"{share:.0%}")
        best = not due and sweep.peak is not None and one.settings == sweep.peak.settings
        table.add_row(*cells, style="bold" if best else None)
    failures = [one.failure for one in sweep.points if _throughput(one) is None and one.failure]
    known = [one.summary.response_ms for one in sweep.runs if one.summary is not None]
    table.caption = captioned(
        *[f"-  a point that failed: {one}" for one in failures[-1:]],
        wanting_note([one.more_calls for one in known if one is not None], ("p50", "p99")),
    )
    return table


def _throughput(point: SweepPoint) -> Estimate | None:
    batched = point.settings.batch_size is not None
    return point.throughput_items_per_s if batched else point.throughput_calls_per_s


def _shown(name: str, value: Any) -> str:
    if name == "max_delay_s" and value is not None:
        return delay_text(value)
    return rate_text(value) if isinstance(value, float) else f"{value}"


def _value(estimate: Estimate | None) -> float:
    return 0.0 if estimate is None else estimate.value


def _rate(estimate: Estimate | None) -> str:
    return "-" if estimate is None else rate_text(estimate.value)


def _bound(estimate: Estimate | None, which: str) -> str:
    found = None if estimate is None else getattr(estimate, which)
    return "-" if found is None else rate_text(found)


def _due(sweep: Sweep) -> float | None:
    """The rate at which all requests were due, where it is one and was kept up with."""
    rates = {one.spec.rate_per_s for one in sweep.runs if one.spec is not None}
    rate = rates.pop() if len(rates) == 1 else None
    kept = [_throughput(one) for one in sweep.points]
    if rate is None or any(one is None or one.value < KEPT_UP * rate for one in kept):
        return None
    return rate


def _peak_text(sweep: Sweep, peak: SweepPoint) -> str:
    varied = [name for name, values in sweep.axes.items() if len(values) > 1]
    own = Settings(**{name: getattr(peak.settings, name) for name in varied})
    rate = _throughput(peak)
    what = "items/s" if "batch_size" in varied else f"{unit_of(sweep.runs)}/s"
    if due := _due(sweep):
        known = [one for one in sweep.points if one.p99_ms is not None]
        text = f"throughput is what was due, {rate_text(due)}/s"
        if not known:
            return f"{text}; no p99 can be quoted, a longer --duration has the calls"
        best = min(known, key=lambda one: value_of(one.p99_ms))
        own = Settings(**{name: getattr(best.settings, name) for name in varied})
        return f"{text}; the lowest p99 that can be quoted is {quoted_text(best.p99_ms)} with {own}"
    text = f"most: {_rate(rate)} {what} with {own}"
    return text if peak.p99_ms is None else f"{text}, p99 {milliseconds_text(peak.p99_ms.value)}"


def _usl_texts(fit: UslFit) -> list[str]:
    lines = [
        (
            f"Universal Scalability Law: one makes {_rate(fit.rate_of_one_per_s)}/s, contention "
            f"{_three(fit.contention)}, coherency {_three(fit.coherency)}; it fits within "
            f"{fit.error_fraction:.1%} (rms)"
        )
    ]
    if fit.peak_callers is not None:
        lines.append(f"Its peak lies at {_three(fit.peak_callers)} callers.")
    elif fit.no_peak is not None:
        lines.append(f"{fit.no_peak[0].upper()}{fit.no_peak[1:]}.")
    return lines


def _three(estimate: Estimate) -> str:
    low = "-" if estimate.low is None else f"{estimate.low:.3g}"
    high = "-" if estimate.high is None else f"{estimate.high:.3g}"
    return f"{estimate.value:.3g} ({low} to {high})"


def search_report(search: MaxRate) -> RenderableType:
    """The answer, how sure it is, what stopped it, and a line for each probe."""
    limits = " and ".join(map(str, search.limits))
    every = [search, *search.rivals]
    took_s = sum(one.took_s for one in every)
    runs = f"{sum(len(one.probes) for one in every)} probes in {duration_text(took_s)}"
    if search.status != "complete":
        runs += f"; {search.status}"
    parts: list[RenderableType] = [
        study_header({"target": search.target, "runs": runs}, search.environment),
        Text(),
    ]
    parts += [Text(answer_text(search, limits), style="bold")]
    parts += [Text(line) for line in _answer_details(search)]
    if search.rivals:
        parts += [Text(), rivals_table(search)]
    if search.probes:
        parts += [Text(), _probes_table(search)]
    return Group(*parts, *study_warnings(search.warnings))


def answer_text(search: MaxRate, limits: str) -> str:
    """What a search found, and no more than that."""
    if search.rate_per_s is None:
        if search.reason == "time":
            return f"the time was over before a rate was found that keeps {limits} (--time-limit)"
        reason = f": {search.reason}" if search.reason else ""
        return f"no rate that keeps {limits}{reason}"
    rate = f"{rate_text(search.rate_per_s)} {unit_of(one.run for one in search.probes)}/s"
    if search.rivals and search.settings is not None:
        rate += f" with {search.settings}"
    if not search.confirmed:
        return f"{rate} may keep {limits}, which could not be confirmed"
    if search.confirmation is not None and search.confirmation.verdict == "kept":
        return f"{rate} keep {limits}"
    return f"{rate} stayed within {limits}; more calls would make it certain"


def _answer_details(search: MaxRate) -> list[str]:
    lines = []
    confirmation = search.confirmation
    if confirmation is not None:
        lines += [_judgement_text(one, confirmation) for one in confirmation.judgements]
    if search.next_rate_per_s is not None and search.next_verdict is not None:
        lines.append(
            f"next above: {rate_text(search.next_rate_per_s)}/s, {VERDICTS[search.next_verdict]}"
        )
    if search.closed_loop_per_s is not None:
        lines.append(f"without a pause (closed loop): {rate_text(search.closed_loop_per_s)}/s")
    if search.rate_per_s is not None:
        ended = {
            "resolution": "the two rates came near enough to each other (--resolution)",
            "time": "its time was over (--time-limit)",
        }.get(search.reason, search.reason)
        lines.append(f"the search ended when {ended}" if ended else "")
    return [line for line in lines if line]


def _judgement_text(one: Judgement, probe: Probe) -> str:
    calls = 0 if probe.run.summary is None else probe.run.summary.completed_calls
    if one.value is None and probe.verdict == "unstable":
        return f"confirmation: {one.limit.name} has no value, because calls piled up"
    if one.value is None:
        return f"confirmation: {one.limit.name} lies among calls that did not finish"
    text = f"confirmation: {one.limit.name} {value_text(one)}"
    if one.low is not None and one.high is not None:
        text += f" ({one.limit.text_of(one.low)} to {one.limit.text_of(one.high)})"
    if one.limit.at_least:
        return f"{text}, {'as much as' if one.verdict == 'kept' else 'less than'} is asked for"
    if one.room_fraction is not None:
        text += f", {abs(one.room_fraction):.0%} {'below' if one.room_fraction >= 0 else 'above'}"
        text += " the limit"
    text += f", in {calls:,} calls"
    if one.verdict == "kept":
        text += "; kept at a risk of 1 %"
    elif one.calls_missing:
        text += f"; a risk of 1 % takes {one.calls_missing:,} more calls"
    return text


def _probes_table(search: MaxRate) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    judged = [one for one in search.limits if one.figure != "throughput"]
    for name in ["due/s", "calls", *(one.name for one in judged), "of limit", ""]:
        table.add_column(
            name, justify="left" if name in {"of limit", ""} else "right", no_wrap=True
        )
    for probe in sorted(search.probes, key=lambda one: (one.rate_per_s, one.confirms)):
        summary = probe.run.summary
        values = [value_text(one) for one in probe.judgements]
        shares = [
            1 - one.room_fraction for one in probe.judgements if one.room_fraction is not None
        ]
        share = max(shares, default=None)
        # the bar of what is at its limit ends in the middle
        drawn = "" if share is None else bar(share / 2, BAR_CELLS)
        note = VERDICTS[probe.verdict] + (", to confirm" if probe.confirms else "")
        mine = probe.confirms and probe.rate_per_s == search.rate_per_s
        table.add_row(
            rate_text(probe.rate_per_s),
            f"{0 if summary is None else summary.completed_calls:,}",
            *values,
            drawn if share is None or share <= 2 else drawn + ">",
            note,
            style="bold" if mine else None,
        )
    table.caption = "a bar that ends in the middle is at the limit; ~ of too few calls to quote"
    return table
