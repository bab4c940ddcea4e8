"""Merging what many ranks of a cluster hand over: time and memory of the first rank.

    python benchmarks/cluster.py [--ranks 256] [--rounds 9] [--markdown FILE]

Ranks are simulated: a few of them in full, whose bytes stand for all. Each round is a process of
its own, in which nothing but the merging happens: reading the bytes, adding, summarizing, checking.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from inferload.machine.process_use import peak_rss_bytes
from inferload.runs.cluster.fleet import Fleet
from inferload.runs.cluster.handover import MOST_RAW_CALLS, handed_over, packed, unpacked
from inferload.runs.cluster.link import Link
from inferload.runs.result import result_of
from measuring import Row, alternated, print_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.ranks import execution_of, simulated_log

OWN = Path("/proc/self")
# So many ranks are simulated in full.
DISTINCT = 4
# Calls of each rank: more than are merged one by one, and as many as still are.
COUNTED_CALLS = 2_000_000
STORE_BYTES = 50_000_000
QUESTIONS = 20_000


def write_ranks(folder: Path, calls: int, ranks: int) -> None:
    """What a few ranks hand over, as files."""
    for rank in range(DISTINCT):
        done = execution_of(simulated_log(rank, calls, seconds=60.0))
        report, log = handed_over(
            done, rank=rank, ranks=ranks, host=f"host{rank}", late_ms=0.0, clock_error_ms=0.0
        )
        (folder / str(rank)).write_bytes(packed(report, log))


def merge(folder: Path, ranks: int) -> None:
    """Merge so many ranks, and print what it took."""
    before = peak_rss_bytes(OWN)
    began, fleet, received = time.perf_counter(), Fleet(MOST_RAW_CALLS), 0
    for rank in range(ranks):
        content = bytearray((folder / str(rank % DISTINCT)).read_bytes())
        received += len(content)
        report, log = unpacked(content, rank % DISTINCT)
        fleet.add(replace(report, rank=rank), log)
    added_s = time.perf_counter() - began
    result = result_of(fleet.execution({}, None))
    took_s = time.perf_counter() - began
    print(
        json.dumps(
            {
                "seconds": took_s,
                "seconds_a_rank": added_s / ranks,
                "peak_bytes": peak_rss_bytes(OWN),
                "before_bytes": before,
                "received_bytes": received,
                "calls": result.summary.completed_calls + result.summary.failed_calls,
            }
        )
    )


def measured(folder: Path, ranks: int) -> dict[str, float]:
    """One round, in a process of its own."""
    command = [sys.executable, __file__, "--merge", str(folder), "--ranks", str(ranks)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def rows(ranks: int, rounds: int) -> list[Row]:
    """Time, memory and linearity, of counted and of raw calls."""
    found = []
    for kind, calls in (("counted", COUNTED_CALLS), ("one by one", MOST_RAW_CALLS // ranks)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_ranks(folder, calls, ranks)
            half, whole = alternated(
                rounds, partial(measured, folder, ranks // 2), partial(measured, folder, ranks)
            )
        seconds = [one["seconds"] for one in whole]
        peaks = [one["peak_bytes"] for one in whole]
        ratios = [b["seconds"] / a["seconds"] for a, b in zip(half, whole, strict=True)]
        first = whole[0]
        each = f"{first['received_bytes'] / ranks / 1e6:.1f} MB a rank"
        measure = f"{ranks} ranks, {first['calls'] / 1e6:,.0f} million calls {kind}"
        found += [
            Row(
                measure=f"{measure}: merged and summarized",
                ours=f"{statistics.median(seconds):.2f} s",
                reference=each,
                figure=f"{statistics.median(seconds):.2f} s",
                spread=f"{min(seconds):.2f}-{max(seconds):.2f}",
                reach="<= 10 s",
            ),
            Row(
                measure=f"{measure}: peak RSS",
                ours=f"{statistics.median(peaks) / 1e6:,.0f} MB",
                reference=f"{first['before_bytes'] / 1e6:,.0f} MB before",
                figure=f"{statistics.median(peaks) / 1e9:.3f} GB",
                spread=f"{min(peaks) / 1e9:.3f}-{max(peaks) / 1e9:.3f}",
                reach="<= 1 GB",
            ),
            Row(
                measure=f"{measure}: against half as many ranks",
                ours=f"{statistics.median(seconds):.2f} s",
                reference=f"{statistics.median(one['seconds'] for one in half):.2f} s",
                figure=f"{statistics.median(ratios):.2f}x",
                spread=f"{min(ratios):.2f}-{max(ratios):.2f}",
                reach="<= 2.2x",
            ),
        ]
    return found


def store_rows(rounds: int) -> list[Row]:
    """How fast results and questions go through a store on this machine."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def connect() -> Any:
        return TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)

    giver, taker = Link(1, 2, connect), Link(0, 2, connect)
    content, per_s, asked_per_s = bytes(STORE_BYTES), [], []
    for number in range(rounds):
        began = time.perf_counter()
        giver.send(str(number), content)
        taker.received(str(number))
        per_s.append(STORE_BYTES / (time.perf_counter() - began) / 1e6)
        began = time.perf_counter()
        for _ in range(QUESTIONS):
            taker.heard("what nobody says")
        asked_per_s.append(QUESTIONS / (time.perf_counter() - began))
    whole = f"{STORE_BYTES / 1e6:,.0f} MB from one rank to the first through the c10d store"
    return [
        Row(
            measure=measure,
            ours=f"{statistics.median(found):,.0f}{unit}",
            reference="-",
            figure=f"{statistics.median(found):,.0f}{unit}",
            spread=f"{min(found):,.0f}-{max(found):,.0f}",
            reach="-",
        )
        for measure, found, unit in (
            (whole, per_s, " MB/s"),
            ("questions of one rank that the c10d store answers", asked_per_s, "/s"),
        )
    ]


def main() -> None:
    """Measure and print everything, or be one round."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--ranks", type=int, default=256)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--merge", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.merge:
        merge(chosen.merge, chosen.ranks)
        return
    print_rows([*rows(chosen.ranks, chosen.rounds), *store_rows(chosen.rounds)], chosen.rounds)


if __name__ == "__main__":
    main()
