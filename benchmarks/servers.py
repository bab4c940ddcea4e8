"""inferload as a client of servers: against raw sockets, loops by hand, AIPerf and guidellm.

    python benchmarks/servers.py [--only rate,streams,stall,connections] [--rounds 5] [--quick]

Tools run in turn, each as its users run it, on one core of this machine; the server has another.
Nothing else should run. nginx must be installed; AIPerf and guidellm are held beside where
INFERLOAD_AIPERF and INFERLOAD_GUIDELLM say where their programs are.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from measuring import Row, machine
from serving.connections import connection_rows
from serving.parts import Effort
from serving.rate import rate_rows
from serving.stall import stall_rows
from serving.streams import stream_rows

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS: dict[str, Callable[[Effort], list[Row]]] = {
    "rate": rate_rows,
    "streams": stream_rows,
    "stall": stall_rows,
    "connections": connection_rows,
}


def printed(name: str, rows: list[Row], effort: Effort) -> str:
    """The table of a part."""
    lines = [
        f"| {one.measure} | {one.ours} | {one.reference} | {one.figure} | {one.spread} "
        f"| {one.reach} | {one.met} |"
        for one in rows
    ]
    how = f"{effort.rounds} alternating rounds, medians"
    short = " A quick look, which says nothing of speed." if effort.quick else ""
    return "\n".join(
        [
            f"### {name}",
            "",
            f"{how}.{short} {machine()}.",
            "",
            "| measure | inferload | other | figure | range | reach | met |",
            "|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Measure and print, part by part."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--quick", action="store_true", help="one short round: does all run?")
    options.add_argument("--only", help=", ".join(PARTS))
    chosen = options.parse_args()
    wanted = list(PARTS) if chosen.only is None else chosen.only.split(",")
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        options.error(f"--only takes {', '.join(PARTS)}, and not {', '.join(unknown)}")
    effort = Effort(rounds=1 if chosen.quick else chosen.rounds, quick=chosen.quick)
    for name in wanted:
        print(printed(name, PARTS[name](effort), effort), flush=True)


if __name__ == "__main__":
    main()
