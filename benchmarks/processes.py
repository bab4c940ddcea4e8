"""One process against several: calls per second, memory, and how together they start.

    python benchmarks/processes.py [--rounds 9] [--starts 100] [--only PART] [--markdown FILE]

Each figure is a run of the command line, in rounds that alternate. Nothing else should run on the
machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cluster
from measuring import Row, alternated, machine, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve()
MINILM = str(HERE.parents[1] / "examples" / "minilm.py")
SMALL = f"{HERE.with_name('models.py')}:small"
RANKS = 256
LARGE = f"{HERE.with_name('models.py')}:large"


def run(model: str, *words: object) -> dict[str, Any]:
    """One run of the command line; what it saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.json"
        command = [sys.executable, "-m", "inferload", "run", model, "--quiet", "--json", str(path)]
        command += ["--threads-per-call", "1", *map(str, words)]
        subprocess.run(command, check=True, capture_output=True)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def per_s(result: dict[str, Any]) -> float:
    """Calls per second."""
    return float(result["summary"]["throughput_calls_per_s"]["value"])


def scaling_rows(name: str, model: str, rounds: int, seconds: int, reach: str) -> list[Row]:
    """Two processes against two threads of one, and against one process with one caller."""

    def measured(processes: int, callers: int) -> float:
        words = ("--processes", processes, "--callers", callers, "--duration", f"{seconds}s")
        return per_s(run(model, *words))

    one, threads, processes = alternated(
        rounds, lambda: measured(1, 1), lambda: measured(1, 2), lambda: measured(2, 1)
    )
    rows = []
    for other, what, wanted in (
        (threads, "2 processes x 1 caller, against 2 callers in one process", reach),
        (one, "the same, against 1 caller in one process", ">= 1.90x"),
    ):
        ratios = [a / b for a, b in zip(processes, other, strict=True)]
        rows.append(
            Row(
                measure=f"{name}: {what}",
                ours=f"{statistics.median(processes):,.0f}/s",
                reference=f"{statistics.median(other):,.0f}/s",
                figure=f"{statistics.median(ratios):.2f}x",
                spread=f"{min(ratios):.2f}-{max(ratios):.2f}",
                reach=wanted,
            )
        )
    return rows


def memory_row(rounds: int) -> Row:
    """Four processes that share one model of 500 MB, against one process."""

    def pss(processes: int) -> float:
        result = run(LARGE, "--processes", processes, "--calls", 400)
        shares = [max(one["memory"]["pss_bytes"]) for one in result["processes"]]
        return float(sum(shares) + (result["set_up"]["nursery_pss_bytes"] or 0))

    one, four = alternated(rounds, lambda: pss(1), lambda: pss(4))
    ratios = [b / a for a, b in zip(one, four, strict=True)]
    return Row(
        measure="500 MB model: PSS of 4 processes and their nursery, against 1 process",
        ours=f"{statistics.median(four) / 1e6:,.0f} MB",
        reference=f"{statistics.median(one) / 1e6:,.0f} MB",
        figure=f"{statistics.median(ratios):.2f}x",
        spread=f"{min(ratios):.2f}-{max(ratios):.2f}",
        reach="<= 1.5x",
    )


def start_row(starts: int) -> Row:
    """How far apart two processes begin their first calls."""
    skews = []
    for _ in range(starts):
        result = run(SMALL, "--processes", 2, "--calls", 200)
        began = [one["start_late_ms"] for one in result["processes"]]
        skews.append(max(began) - min(began))
    skews.sort()
    p99 = skews[-(-99 * starts // 100) - 1]
    return Row(
        measure=f"first calls of 2 processes: how far apart, p99 of {starts} starts",
        ours=f"{p99:.3f} ms",
        reference="-",
        figure=f"{p99:.3f} ms",
        spread=f"{skews[0]:.3f}-{skews[-1]:.3f}, median {statistics.median(skews):.3f}",
        reach="<= 1 ms",
    )


def line(r: Row) -> str:
    """A row of the table."""
    return (
        f"| {r.measure} | {r.ours} | {r.reference} | {r.figure} | {r.spread} | {r.reach} "
        f"| {r.met} |"
    )


def write_again(path: Path, rows: list[Row]) -> None:
    """Put rows that were measured again in the place of their older ones."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for row in rows:
        start = f"| {row.measure} |"
        lines = [line(row) if old.startswith(start) else old for old in lines]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def is_of_ranks(row: Row) -> bool:
    """Whether a row belongs into the table of ranks."""
    return row.measure.startswith(f"{RANKS} ranks") or "c10d" in row.measure


def page(rows: list[Row], rounds: int) -> str:
    """What ``make scaling`` writes."""
    several = [line(row) for row in rows if not is_of_ranks(row)]
    many = [line(row) for row in rows if is_of_ranks(row)]
    return f"""# One process and several

Written by `make scaling`: runs of the command line with one intra-op thread a call, in {rounds}
rounds that alternate (memory in {max(rounds // 3, 1)}); medians, and the median ratio of the rounds
with their range.

Machine: {machine()}.

| measure | several | one | figure | range | reach | met |
|---|---|---|---|---|---|---|
{chr(10).join(several)}

MiniLM is `examples/minilm.py`, eager, on eight sentences; the small model 20 x (Linear(32), ReLU),
eager, batch 1. What keeps two processes from twice the calls of one is what the cores share: memory
bandwidth, last-level cache and clock, and on a virtual machine the neighbours.

## Many ranks

What the first rank of a [cluster](cluster.md) has to do when all others have handed over: merge
their calls one by one, or their counts where all ranks together made more than two million.
{RANKS} ranks are simulated; half as many stand beside them.

| measure | {RANKS} ranks | beside it | figure | range | reach | met |
|---|---|---|---|---|---|---|
{chr(10).join(many)}
"""


def main() -> None:
    """Measure and print everything."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--starts", type=int, default=100)
    options.add_argument("--quick", action="store_true", help="one round of everything")
    options.add_argument("--only", help="minilm, small, memory, starts or ranks")
    options.add_argument("--markdown", type=Path, help="write the table to this file too")
    chosen = options.parse_args()
    rounds, starts, seconds = chosen.rounds, chosen.starts, 4
    if chosen.quick:
        rounds, starts, seconds = 1, 2, 1
    parts: dict[str, Callable[[], list[Row]]] = {
        "minilm": lambda: scaling_rows("MiniLM", MINILM, rounds, seconds, ">= 1.0x"),
        "small": lambda: scaling_rows("small model", SMALL, rounds, seconds, ">= 2.3x"),
        "memory": lambda: [memory_row(max(rounds // 3, 1))],
        "starts": lambda: [start_row(starts)],
        "ranks": lambda: [*cluster.rows(RANKS, rounds), *cluster.store_rows(rounds)],
    }
    rows = [row for name, part in parts.items() if chosen.only in {None, name} for row in part()]
    print_rows(rows, rounds)
    if chosen.markdown and chosen.only:
        write_again(chosen.markdown, rows)
    elif chosen.markdown:
        chosen.markdown.write_text(page(rows, rounds), encoding="utf-8")


if __name__ == "__main__":
    main()
