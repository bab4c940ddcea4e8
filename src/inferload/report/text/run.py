"""The terminal report of one run."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from inferload.records.result import RunResult
from inferload.report.signs import SafeConsole
from inferload.report.text.devices import (
    devices_table,
    diagnosis,
    power_caps,
    stages_table,
    timed_calls,
)
from inferload.report.text.facts import figures_grid, header_grid
from inferload.report.text.latencies import histogram_grid, notes_on, percentiles_table
from inferload.report.text.parts import warnings_grid
from inferload.report.text.pieces import piece_notes, pieces_table
from inferload.report.text.requests import sizes_grid, waits_table
from inferload.report.text.servers import failures_table, said_tables
from inferload.report.text.studies.sweeps import study_report
from inferload.report.text.tables import (
    layout_table,
    load_stages_table,
    models_table,
    processes_table,
    ranks_table,
)

if TYPE_CHECKING:
    from rich.console import RenderableType


def plain_report(found: Any, width: int = 80) -> str:
    """The report of a run or a study as plain text, for ``print`` and for tickets."""
    return plain_text(report(found) if isinstance(found, RunResult) else study_report(found), width)


def plain_text(drawn: RenderableType, width: int = 80) -> str:
    """What rich would draw, as plain text without blanks at the ends of lines."""
    text = StringIO()
    console = SafeConsole(file=text, width=width, color_system=None, highlight=False, markup=False)
    console.print(drawn)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def report(result: RunResult) -> RenderableType:
    """The report as something rich can print: its blocks with a line between them."""
    parts: list[RenderableType] = []
    for block in blocks(result).values():
        parts += [*([Text()] if parts else []), *block]
    return Group(*parts)


def blocks(result: RunResult) -> dict[str, list[RenderableType]]:
    """What the report says, by name, in its order; only what there is."""
    summary = result.summary
    found: dict[str, list[RenderableType]] = {
        "header": [header_grid(result)],
        "figures": [figures_grid(result)],
    }
    if summary.response_ms is not None:
        notes = [Text(note, style="dim") for note in notes_on(result)]
        found["percentiles"] = [percentiles_table(result), *notes]
        found["histogram"] = [histogram_grid(summary.response_ms)]
    if result.load_stages:
        found["load stages"] = [load_stages_table(result)]
    found |= _batches_and_pieces(result)
    if summary.stages is not None:
        sampled = [Text(line, style="dim") for line in timed_calls(result)]
        bound = Text(diagnosis(result) or "", style="bold")
        found["stages"] = [stages_table(result), *sampled, bound]
    if result.devices:
        caps = [Text(line, style="dim") for line in power_caps(result)]
        found["devices"] = [devices_table(result), *caps]
    found |= _of_parts(result)
    if result.failures:
        found["failures"] = [failures_table(result)]
    if said := said_tables(result):
        found["server says"] = said
    if result.warnings:
        found["warnings"] = [warnings_grid(result.warnings)]
    return found


def _batches_and_pieces(result: RunResult) -> dict[str, list[RenderableType]]:
    """What requests were called in, and what calls answered in."""
    summary = result.summary
    found: dict[str, list[RenderableType]] = {}
    if summary.batches is not None:
        found["batches"] = [waits_table(result), Text(), sizes_grid(summary.batches)]
    if summary.pieces is not None:
        notes = [Text(note, style="dim") for note in piece_notes(summary.pieces)]
        found["pieces"] = [pieces_table(summary), *notes]
    return found


def _of_parts(result: RunResult) -> dict[str, list[RenderableType]]:
    """Tables of the models, ranks, processes and callers that a run is made up of."""
    spec = result.spec
    found: dict[str, list[RenderableType]] = {}
    if result.models:
        found["models"] = [models_table(result)]
    if result.ranks:
        found["ranks"] = [ranks_table(result.ranks, spec.unit)]
    if spec.processes > spec.ranks:
        found["processes"] = [processes_table(result.processes, spec.unit)]
    if spec.pin != "none":
        found["layout"] = [layout_table(result)]
    return found
