"""What a report says of requests that were called in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from inferload.report.text.latencies import BAR_WIDTH
from inferload.report.text.parts import bar, quoted_text, wanting_note
from inferload.units import milliseconds_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.records.batches import BatchFigures, BatchSpec
    from inferload.records.result import RunResult

# Sizes of batches that are told one by one; more are told in ranges.
MOST_SIZES = 12


def batching_text(spec: BatchSpec, processes: int) -> str:
    """How requests were put together, of so many processes that have some each."""
    found = f"up to {spec.max_batch:,} requests"
    if spec.max_delay_s:
        found += f", held back {milliseconds_text(spec.max_delay_s * 1e3)} at most"
    if spec.pad:
        each = [f"{value:g}" if name == "*" else f"{name} {value:g}"
                for name, value in spec.pad.items()]  # fmt: skip
        found += f"; padded with {', '.join(each)}"
    else:
        found += "; of equal shapes"
    if spec.sizes_allowed:
        found += f"; filled up to {', '.join(map(str, spec.sizes_allowed))} items"
    if processes > 1:
        found += f"; each of {processes:,} processes has its own"
    return found


def batches_text(found: BatchFigures) -> str:
    """What came of it, in a line."""
    least, most = found.sizes[0][0], found.sizes[-1][0]
    between = f" ({least:,} to {most:,})" if least != most else ""
    text = (
        f"{rate_text(found.calls_per_s.value)} calls of the model/s, of "
        f"{rate_text(found.mean_size)} requests{between}"
    )
    if found.padding_fraction >= 0.0005:
        text += f"; {found.padding_fraction:.1%} of what it was given is padding"
    return text


def waits_table(result: RunResult) -> Table:
    """Where the time of requests went: waits of each, and stages of their batches."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in ("stage", "mean", "p50", "p99", "of response"):
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    summary = result.summary
    found, response = summary.batches, summary.response_ms
    if found is None or response is None:
        return table
    rows = {
        "wait for an instance": found.instance_wait_ms,
        "wait for the batch": found.batch_wait_ms,
        "lateness": summary.lateness_ms,
        "service": summary.service_ms,
        "  of it, gather": found.gather_ms,
    }
    if summary.stages is None:
        rows["  of it, the device"] = found.device_ms
    for label, one in rows.items():
        if one is not None:
            table.add_row(
                label,
                milliseconds_text(one.mean),
                *map(quoted_text, (one.p50, one.p99)),
                f"{one.mean / (response.mean or 1.0):.0%}",
                style="dim" if label.startswith(" ") else None,
            )
    known = [one for one in rows.values() if one is not None]
    table.caption = wanting_note([one.more_calls for one in known], ("p50", "p99")) or None
    return table


def sizes_grid(found: BatchFigures) -> Table:
    """How many batches had how many requests, on bars of equal scale."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    rows = size_ranges(found.sizes)
    most = max(count for _, count in rows)
    for label, count in rows:
        table.add_row(
            label,
            Text(bar(count / most, BAR_WIDTH), style="cyan"),
            f"{count / max(found.batches, 1):.1%}" if count else "0",
        )
    return table


def size_ranges(sizes: Sequence[tuple[int, int]]) -> list[tuple[str, int]]:
    """How many batches there were of each size, or of sizes in ranges of equal width.

    >>> size_ranges([(1, 4), (3, 2)])
    [('1 request', 4), ('2', 0), ('3', 2)]
    """
    least, most = sizes[0][0], sizes[-1][0]
    width = -(-(most - least + 1) // MOST_SIZES)
    counts = dict(sizes)
    found = []
    for first in range(least, most + 1, width):
        last = min(first + width - 1, most)
        label = f"{first:,}" if first == last else f"{first:,} - {last:,}"
        found.append((label, sum(counts.get(size, 0) for size in range(first, last + 1))))
    first_label, count = found[0]
    found[0] = (f"{first_label} request{'s' * (first_label != '1')}", count)
    return found
