"""What a report says of servers, and of calls that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from inferload.units import count_text, duration_text, milliseconds_text, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferload.records.result import RunResult
    from inferload.records.server import ServerFigures, ServerSpec

# Classes of failures that are shown, each with an example of so many characters.
MOST_CLASSES = 12


def server_lines(result: RunResult) -> Iterator[tuple[str, str | Text]]:
    """Of each server: what it is, and what connections to it took."""
    for number, spec in enumerate(result.spec.servers):
        seen = result.servers[number] if number < len(result.servers) else None
        yield "server", _what(spec, seen)
        yield "connections", _connections(spec, seen, result.spec.callers)
        if spec.insecure:
            yield (
                "insecure",
                Text("its certificate was not verified (--insecure)", style="bold red"),
            )


def is_here(seen: ServerFigures) -> bool:
    """Whether a server shares the machine of what sends."""
    where = "" if seen.reached is None else seen.reached.address
    return where.startswith(("127.", "[::1]"))


def _what(spec: ServerSpec, seen: ServerFigures | None) -> str:
    parts = [f"{spec.protocol}, {spec.http}"]
    if seen is not None and seen.software:
        parts.append(f"says it is {printable(seen.software)[:60]}")
    if spec.model is not None:
        versions = ", ".join(map(printable, spec.model.versions))
        own = f"model {printable(spec.model.name)}" + (f" version {versions}" if versions else "")
        own += f" ({printable(spec.model.platform)})" if spec.model.platform else ""
        parts.append(own)
    if spec.headers:
        parts.append("headers " + ", ".join(name for name, _ in spec.headers))
    return "; ".join(parts)


def _connections(spec: ServerSpec, seen: ServerFigures | None, callers: int) -> str:
    new = spec.connections == "new"
    parts = ["a new one for each call" if new else f"{callers:,}, kept: one a caller"]
    if seen is None:
        return parts[0]
    if seen.reached is not None:
        one = seen.reached
        took = f"to {one.address}: name {milliseconds_text(one.resolve_ms)}"
        took += f", connect {milliseconds_text(one.connect_ms)}"
        if one.tls_ms is not None:
            took += f", {one.tls} {milliseconds_text(one.tls_ms)}"
        parts.append(took)
    if seen.open_p50_ms is not None and seen.open_max_ms is not None:
        parts.append(
            f"{count_text(seen.opened, 'connection')} opened in the run, each within "
            f"{milliseconds_text(seen.open_p50_ms)} (p50; {milliseconds_text(seen.open_max_ms)} at "
            "most), a part of its call"
        )
    return "; ".join(parts)


def failures_table(result: RunResult) -> Table:
    """A line for each class of failures, with the first one as an example."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("failed", style="red", no_wrap=True)
    unit = f"{result.spec.unit}s"
    for name in (unit, "share", "first", "last"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("such as", overflow="fold")
    made = max(result.log.calls_made, 1)
    for one in result.failures[:MOST_CLASSES]:
        table.add_row(
            printable(one.type),
            f"{one.calls:,}",
            f"{one.calls / made:.1%}",
            duration_text(one.first_s),
            duration_text(one.last_s),
            printable(one.example),
        )
    if len(result.failures) > MOST_CLASSES:
        table.caption = f"and {len(result.failures) - MOST_CLASSES} more classes"
    return table
