"""The table of several runs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from inferload.report.text.parts import captioned, quoted_text, wanting_note
from inferload.studies.same_model import other_model
from inferload.units import rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.result import RunResult

QUOTED = ("p50", "p90", "p99")


def several_table(results: dict[str, RunResult]) -> Table:
    """A line for each run by name: throughput with its interval, quantiles of the response time."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    failed = any(one.summary.failed_calls for one in results.values())
    ended = any(one.status != "complete" for one in results.values())
    names = ("run", "items/s", "from", "to", *QUOTED, *["failed"] * failed)
    for name in (*names, *["status"] * ended, "!"):
        is_name = name == "run"
        table.add_column(
            name,
            justify="left" if is_name else "right",
            no_wrap=not is_name,
            overflow="fold" if is_name else "ellipsis",
        )
    whole = [one for one in results.values() if one.status == "complete"]
    most = max((one.summary.throughput_items_per_s.value for one in whole), default=None)
    for name, one in results.items():
        rate, response = one.summary.throughput_items_per_s, one.summary.response_ms
        bounds = ["-" if end is None else rate_text(end) for end in (rate.low, rate.high)]
        quantiles = [None if response is None else getattr(response, which) for which in QUOTED]
        cells = [*map(quoted_text, quantiles)]
        cells += [f"{one.summary.failed_calls:,}"] * failed
        cells += ["" if one.status == "complete" else one.status] * ended
        table.add_row(
            name, rate_text(rate.value), *bounds, *cells, str(len(one.warnings) or ""),
            style="bold" if one.status == "complete" and rate.value == most else None,
        )  # fmt: skip
    known = [one.summary.response_ms for one in results.values()]
    wanted = [one.more_calls for one in known if one is not None]
    table.caption = captioned("!: how many warnings a run has", wanting_note(wanted, QUOTED))
    return table


def _name(one: RunResult, all_of_them: Sequence[RunResult]) -> str:
    """Target, form and callers; and its size, if another model of that name has other weights."""
    name = f"{one.spec.target} ({one.spec.form}), {one.spec.callers}x"
    own = one.spec.fingerprint
    namesakes = [other.spec for other in all_of_them if other.spec.target == one.spec.target]
    if own is None or all(other_model(one.spec, other) is None for other in namesakes):
        return name
    return f"{name}, {own.values_held:,} values in its {own.of}"


def side_by_side(results: Sequence[RunResult]) -> dict[str, RunResult]:
    """Runs by names that tell them apart: target, form and callers, or else a number too."""
    names = [_name(one, results) for one in results]
    return {
        name if names.count(name) == 1 else f"{name} #{number}": one
        for number, (name, one) in enumerate(zip(names, results, strict=True), start=1)
    }
