"""What a report says of calls that answer in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from inferload.log.piece_times import MOST_OF_A_CALL
from inferload.report.text.parts import captioned, quoted_text, wanting_note
from inferload.units import count_text, milliseconds_text, rate_text

if TYPE_CHECKING:
    from inferload.records.distribution import Distribution
    from inferload.records.figures import Summary
    from inferload.records.pieces import PieceFigures

#: What a quantile of a gap is in the field's words, for those who look for them.
FIELD_NAMES = {
    "queue + first": "TTFT",
    "first piece": "",
    "gap": "ITL",
    "gap, a call's mean": "TPOT",
    "whole": "E2E",
}


def pieces_text(found: PieceFigures, callers: int) -> str:
    """How many pieces and tokens there were, in a line."""
    rate = found.pieces_per_s.value
    text = f"{rate_text(rate)} pieces/s"
    if callers > 1:
        text += f", {rate_text(rate / callers)} a caller"
    text += f"; {rate_text(found.mean_pieces)} a call"
    if found.tokens != found.pieces:
        text += f"; {rate_text(found.tokens_per_s.value)} tokens/s"
    return text


def piece_durations(summary: Summary) -> dict[str, Distribution]:
    """The durations of calls that answer in pieces, those that there are, by what they are."""
    found = summary.pieces
    if found is None:
        return {}
    own = (
        found.first_response_ms, found.first_ms, found.gap_ms, found.call_gap_ms,
        summary.response_ms,
    )  # fmt: skip
    return {name: one for name, one in zip(FIELD_NAMES, own, strict=True) if one is not None}


def pieces_table(summary: Summary) -> Table:
    """First piece, gaps and whole answers beside each other, under the field's names, too."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    table.add_column("also", no_wrap=True)
    for name in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = piece_durations(summary)
    for label, one in rows.items():
        table.add_row(
            label,
            FIELD_NAMES[label],
            "-" if one.not_quoted is not None else milliseconds_text(one.mean),
            *map(quoted_text, (one.p50, one.p90, one.p99)),
            milliseconds_text(one.max),
        )
    table.caption = wanting_note([one.more_calls for one in rows.values()], ("p50", "p90", "p99"))
    table.caption = captioned(str(table.caption or ""))
    return table


def piece_notes(found: PieceFigures) -> list[str]:
    """What else is to be known of the pieces."""
    notes = []
    if found.share < 1:
        notes.append(f"gaps are those of {found.share:.3g} of the calls, drawn by the seed")
    if found.cut_calls:
        notes.append(
            f"of {count_text(found.cut_calls, 'long call')} gaps are those of the first "
            f"{MOST_OF_A_CALL:,} pieces: a call's mean is of all"
        )
    if found.empty_calls:
        notes.append(f"{count_text(found.empty_calls, 'call')} returned without a piece")
    if found.broken_calls:
        notes.append(
            f"{count_text(found.broken_calls, 'call')} raised after "
            f"{count_text(found.broken_pieces, 'piece')}, which no figure has"
        )
    return notes
