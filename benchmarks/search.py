"""The search for the highest rate on servers whose answer is known, and LoadGen's search beside it.

python benchmarks/search.py [--seeds 100] [--rounds 9]
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import inferload as il
from inferload.stats.limits.limit import Limit
from inferload.studies.bisection import RateSearch
from measuring import Row, print_rows

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.queueing import SimulatedProber, highest_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE_S = 0.001
# M/D/1 with a service of 1 ms: p90 of the response is 10 ms at this rate (docs/studies.md).
TRUE_PER_S = 885.0


def known_answer_row(seeds: int) -> Row:
    """M/M/4 in virtual time: how near the answer is, and how often all is well."""
    limit = Limit.from_text("p99<=100ms")
    true = highest_rate(0.1, 0.99, 100, 4)
    errors, well = [], 0
    for seed in range(seeds):
        prober = SimulatedProber([limit], 100, 4, seed)
        search = RateSearch(
            prober, [limit], resolution=0.005, time_limit_s=6000, clock=prober.clock
        )
        found = search.search()
        errors.append((found.rate_per_s or 0.0) / true - 1)
        well += found.confirmed and abs(errors[-1]) <= 0.02
    middle = statistics.median(errors)
    return Row(
        measure=f"search, M/M/4 in virtual time, p99 <= 100 ms, {seeds} seeds: confirmed and "
        "within 2 % of the formula's rate",
        ours=f"median {middle:+.2%}",
        reference=f"{true:.1f}/s",
        figure=f"{100 * well / seeds:.0f} of 100",
        spread=f"{min(errors):+.2%} to {max(errors):+.2%}",
        reach=">= 95",
    )


def _spin() -> None:
    end = time.perf_counter() + SERVICE_S
    while time.perf_counter() < end:
        pass


def loadgens_answer(seed: int) -> tuple[float, float]:
    """The rate that LoadGen's FindPeakPerformance names for a server of 1 ms, and its time."""
    import mlperf_loadgen as lg

    queries: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def serve() -> None:
        while (query := queries.get()) is not None:
            _spin()
            lg.QuerySamplesComplete([lg.QuerySampleResponse(query, 0, 0)])

    def issue(samples: Sequence[Any]) -> None:
        for one in samples:
            queries.put(one.id)

    server = threading.Thread(target=serve)
    server.start()
    sut = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(64, 64, lambda _: None, lambda _: None)
    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.Server, lg.TestMode.FindPeakPerformance
    settings.min_duration_ms, settings.min_query_count = 500, 100
    settings.server_target_qps = 500
    settings.server_target_latency_ns = 10_000_000
    settings.server_target_latency_percentile = 0.9
    settings.schedule_rng_seed = seed
    with tempfile.TemporaryDirectory() as folder:
        logs = lg.LogSettings()
        logs.log_output = lg.LogOutputSettings()
        logs.log_output.outdir = folder
        logs.enable_trace = False
        began = time.perf_counter()
        lg.StartTestWithLogSettings(sut, library, settings, logs)
        took_s = time.perf_counter() - began
        detail = (Path(folder) / "mlperf_log_detail.txt").read_text(encoding="utf-8")
    queries.put(None)
    server.join()
    lg.DestroyQSL(library)
    lg.DestroySUT(sut)
    for line in reversed(detail.splitlines()):
        if "Found peak performance field" in line:
            return float(json.loads(line[line.index("{") :])["value"].rsplit(" ", 1)[1]), took_s
    return float("nan"), took_s


def our_answer(seed: int, time_limit_s: float) -> tuple[float, float]:
    """The rate that inferload names for the same server, and its time."""
    began = time.perf_counter()
    found = il.find_max_rate(
        lambda _: _spin(), [torch.zeros(1)], "p90<=10ms", time_limit_s=time_limit_s, seed=seed
    )
    return found.rate_per_s or 0.0, time.perf_counter() - began


def loadgen_rows(rounds: int) -> list[Row]:
    """Who comes nearer to the rate of theory, in the same time."""
    mine, theirs = [], []
    for seed in range(rounds):
        rate, took_s = loadgens_answer(seed)
        theirs.append((rate, took_s))
        mine.append(our_answer(100 * seed, took_s))
    rows = []
    for which, found in (("inferload", mine), ("LoadGen FindPeakPerformance", theirs)):
        errors = [abs(rate / TRUE_PER_S - 1) for rate, _ in found]
        rates = [rate for rate, _ in found]
        rows.append(
            Row(
                measure=f"search, one server of 1 ms, p90 <= 10 ms: {which}, off the rate of "
                f"theory, {TRUE_PER_S:.0f}/s",
                ours=f"{statistics.median(rates):,.0f}/s",
                reference=f"{statistics.median(s for _, s in found):.1f} s",
                figure=f"{statistics.median(errors):.1%}",
                spread=f"{min(rates):,.0f}-{max(rates):,.0f}/s",
                reach="-",
            )
        )
    nearer = sum(
        abs(a - TRUE_PER_S) < abs(b - TRUE_PER_S)
        for (a, _), (b, _) in zip(mine, theirs, strict=True)
    )
    rows.append(
        Row(
            measure="search, the same: rounds in which inferload is nearer",
            ours=f"{nearer}",
            reference=f"{rounds - nearer}",
            figure=f"{nearer / rounds:.0%}",
            spread="-",
            reach=">= 50",
        )
    )
    return rows


def search_rows(rounds: int, seeds: int) -> list[Row]:
    """All of them."""
    return [known_answer_row(seeds), *loadgen_rows(rounds)]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seeds", type=int, default=100)
    chosen = options.parse_args()
    print_rows(search_rows(chosen.rounds, chosen.seeds), chosen.rounds)


if __name__ == "__main__":
    main()
