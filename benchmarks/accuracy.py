"""The ruler held against known lengths: what theory or an exact replay says, and what is measured.

    python benchmarks/accuracy.py [--calls 4000000] [--markdown docs/accuracy.md]

In simulated time the schedule, the callers, the log and the summary are those of every run; only
the clock and the target are simulated. On the wall clock a run is held against the exact replay of
its own schedule and service times (a heap of free callers), and a stall against its formula.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from measuring import machine, sections_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import inferload as il
from inferload.units import NS_PER_S
from support import rates
from support.virtual_time import VirtualClock, replayed, simulated

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """One figure against what is known of it."""

    case: str
    figure: str
    expected: float
    found: float
    tolerance: str
    within: bool


def _line(case: str, figure: str, expected: float, found: float, *, relative: float) -> Line:
    off = found / expected - 1
    return Line(case, figure, expected, found, f"{relative:.0%}", abs(off) <= relative)


def _near(case: str, figure: str, expected: float, found: float, *, apart: float) -> Line:
    return Line(case, figure, expected, found, f"{apart:g} ms", abs(found - expected) <= apart)


def queues(calls: int) -> list[Line]:
    """Queues with formulas, in simulated time."""
    lines = []
    for case, rate, seed, known in (
        ("M/D/1, rho .7", 70, 2, (17.30, 40.77, 74.86, 108.94, 21.67)),
        ("M/D/1, rho .8", 80, 2, (22.76, 60.11, 113.56, 167.00, 30.0)),
        ("M/M/1, rho .8", 80, 1, (34.66, 115.13, 230.26, 345.39, 50.0)),
    ):
        taken: object = 10 * MS
        if case.startswith("M/M"):
            generator = np.random.default_rng(seed + 100)
            taken = generator.exponential(10 * MS, calls).astype(np.int64)
        response = simulated(taken, il.OpenLoop.poisson(rate, seed=seed), calls=calls).summary
        found = response.response_ms
        if found is None:
            raise AssertionError("every call finishes")
        for name, q, expected, relative in (
            ("p50", 0.5, known[0], 0.01),
            ("p90", 0.9, known[1], 0.01),
            ("p99", 0.99, known[2], 0.02),
            ("p99.9", 0.999, known[3], 0.05),
        ):
            lines.append(_line(case, name, expected, found.quantile(q), relative=relative))
        lines.append(_line(case, "mean", known[4], found.mean, relative=0.01))
    return lines


def _rate(case: str, figure: str, expected: float, found: float, low: float, high: float) -> Line:
    return Line(case, figure, expected, found, f"{low:g}-{high:g} %", low <= found <= high)


def rules() -> list[Line]:
    """How often intervals cover the truth, and rules raise an alarm, in percent of drawn cases."""
    batch_means, independent = rates.covered_by_p99_intervals()
    lines = [
        _rate("p99 of M/M/1, rho .8, 40,000 calls", "covered", 93, 100 * batch_means, 88.5, 97.5),
        _rate("the same as if calls were independent", "covered", 17, 100 * independent, 0, 30),
        _rate(
            "p99 of 10,000 independent values",
            "covered",
            95.6,
            100 * rates.covered_of_independent_values(),
            94.2,
            97,
        ),
    ]
    for case, make, expected, low, high in (
        ("window medians with noise", rates.noisy, 0, 0, 2),
        ("one call of 50 times the duration", rates.with_outlier, 0, 0, 3),
        ("drift of 5 %", rates.drifting, 100, 100, 100),
        ("step of 10 %", rates.stepping, 100, 100, 100),
        ("AR(1) noise", rates.correlated, 7, 0, 12),
    ):
        lines.append(_rate(case, "flagged", expected, 100 * rates.flagged(make), low, high))
    for calls, rho in ((500, 0.0), (2000, 0.5), (2000, 0.8), (10_000, 0.8)):
        queue = f"M/M/1, rho {rho:g}" if rho else "independent calls"
        lines.append(
            _rate(
                f"certificate at the true p99, {queue}, {calls:,} calls",
                "certified",
                1,
                100 * rates.wrongly_certified(calls, rho),
                0,
                3,
            )
        )
    rejected = 100 * float(np.mean([one.p_t < 0.05 for one in rates.with_itself()]))
    lines.append(_rate("a target against itself, at .05", "rejected", 5, rejected, 3.6, 6.4))
    return lines


def overload() -> list[Line]:
    """250/s offered to a target that does 200/s, for 10 s."""
    found = simulated(5 * MS, il.OpenLoop.constant(250), duration_s=10.0).summary.response_ms
    if found is None:
        raise AssertionError("every call finishes")
    known = (
        ("p50", 0.5, 1255.0),
        ("p90", 0.9, 2255.0),
        ("p99", 0.99, 2480.0),
        ("max", 1.0, 2504.0),
    )
    return [
        _near("overload 250/s, s = 5 ms, T = 10 s", name, ms, found.quantile(q), apart=4)
        for name, q, ms in known
    ]


def closed() -> list[Line]:
    """Eight callers of one exclusive server."""

    def server(clock: VirtualClock) -> Callable[[object], None]:
        lock = clock.lock()

        def call(_: object) -> None:
            with lock:
                clock.sleep(2 * MS)

        return call

    summary = simulated(server, il.ClosedLoop(callers=8), calls=4000).summary
    case = "closed, 8 callers, one exclusive 2 ms server"
    law = summary.littles_law or 0.0
    middle = summary.response_ms.quantile(0.5) if summary.response_ms is not None else 0.0
    return [
        _line(case, "calls/s", 500, summary.throughput_calls_per_s.value, relative=0.01),
        _line(case, "p50", 16, middle, relative=0.01),
        _line(case, "X W / N", 1, law, relative=0.03),
    ]


class Work(torch.nn.Module):
    """So many multiplications of small matrices as the input says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Work for a while."""
        y = torch.ones(32, 32)
        for _ in range(int(x[0])):
            y = torch.mm(y, y) * 0.03
        return y


def sleeper(durations_s: list[float]) -> Callable[[torch.Tensor], None]:
    """A Python target that waits without the GIL, for as long as its input says."""

    def call(x: torch.Tensor) -> None:
        time.sleep(durations_s[int(x[0])])

    return call


def replay_lines(executor: str, callers: int) -> list[Line]:
    """A run on the wall clock against the exact replay of its own schedule and services."""
    if executor == "threads":
        model: object = sleeper([0.006, 0.012, 0.018, 0.024])
        inputs = [torch.tensor([float(n)]) for n in range(4)]
        mean_s = 0.015
    else:
        model = torch.jit.script(Work())
        each_ns = _time_each(model)
        inputs = [torch.tensor([ms * 1e6 / each_ns]) for ms in (3.0, 6.0, 9.0, 12.0)]
        mean_s = 0.0075
    load = il.OpenLoop.poisson(0.6 * callers / mean_s, callers=callers, seed=1)
    with torch.inference_mode():
        result = il.run(
            model,
            inputs,
            load=load,
            duration_s=20.0,
            warmup="fixed",
            executor=executor,
            threads_per_call=1,
        )
    log = result.log
    started = replayed(log.scheduled_ns, log.service_ns, callers)
    exact = np.sort(started + log.service_ns - log.scheduled_ns) / MS
    found = np.sort(log.response_ns) / MS
    case = f"wall clock, {executor}, callers: {callers}, {len(log):,} calls, exact replay"
    return [
        _line(case, name, exact[rank - 1], found[rank - 1], relative=relative)
        for name, q, relative in (("p50", 0.5, 0.02), ("p99", 0.99, 0.01))
        for rank in [int(np.ceil(q * len(exact)))]
    ]


def stall_lines(executor: str) -> list[Line]:
    """200/s for 20 s with one stall of about 1 s, all other calls short."""
    rate, whole_s = 200, 20.0
    calls = int(rate * whole_s)
    # one deck of inputs, so that exactly one of all calls stalls
    if executor == "threads":
        model: object = sleeper([0.0, 1.0])
        inputs = [torch.tensor([0.0])] * (calls - 1) + [torch.tensor([1.0])]
    else:
        model = torch.jit.script(Work())
        inputs = [torch.tensor([1.0])] * (calls - 1)
        inputs.append(torch.tensor([1e9 / _time_each(model)]))
    with torch.inference_mode():
        result = il.run(
            model,
            inputs,
            load=il.OpenLoop.constant(rate),
            calls=calls,
            executor=executor,
            share_inputs=True,
            warmup_calls=0,
            threads_per_call=1,
            seed=4,
        )
    response, log = result.summary.response_ms, result.log
    if response is None:
        raise AssertionError("every call finishes")
    stalled_ms, taken_ms = log.service_ns.max() / MS, float(np.median(log.service_ns)) / MS
    # how fast the queue drains depends on calls made one after another, which find warm caches
    rho = rate * float(np.median(log.service_ns[log.queue_ns > MS])) / NS_PER_S
    case = f"wall clock, {executor}, 200/s, one stall of {stalled_ms:.0f} ms in 20 s"
    lines = []
    for name, q in (("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)):
        known = taken_ms + max(0.0, stalled_ms - (1 - q) * (1 - rho) * whole_s * 1e3)
        lines.append(_near(case, name, known, response.quantile(q), apart=6))
    return lines


def _time_each(model: object) -> float:
    """Nanoseconds of one multiplication."""
    with torch.inference_mode():
        result = il.run(
            model, [torch.tensor([5000.0])], calls=60, executor="native", threads_per_call=1
        )
    return float(np.median(result.log.service_ns)) / 5000


def page(lines: list[Line], calls: int) -> str:
    """The page that ``make accuracy`` writes."""
    table = "\n".join(
        f"| {one.case} | {one.figure} | {one.expected:,.2f} | {one.found:,.2f} | {one.tolerance} "
        f"| {'yes' if one.within else '**no**'} |"
        for one in lines
    )
    return f"""# Accuracy

Written by `make accuracy`: figures that are known, and what inferload measures. Response times
are in milliseconds. Queues, overload and the closed loop run in simulated time, through the
schedule, the callers, the log and the summary of every run, with {calls:,} calls for each queue;
formulas are Kleinrock's (Queueing Systems), for M/D/1 by Erlang's series. On the wall clock a run
is held against the exact replay of its own schedule and service times, and a stall against
L_q = s + max(0, S - (1-q)(1-rho) T), with S and s as measured, and rho that of the calls which
drain the queue (they find warm caches). Coverage, flags and certificates are percentages of cases
drawn from a seed.

A seed is one draw. The p99 of {calls:,} calls of M/M/1 at rho .8 strays by some 1 % from theory,
and about one seed in ten is outside of 2 %; those shown are fixed in the code. For p99.9 no
tolerance was set out; 5 % is ours.

Machine: {machine()}.

| case | figure | known | measured | tolerance | within |
|---|---|---|---|---|---|
{table}
"""


def main() -> None:
    """Measure and print everything."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument(
        "--calls", type=int, default=4_000_000, help="of each queue; 0: only the wall clock"
    )
    options.add_argument("--markdown", type=Path)
    chosen = options.parse_args()
    lines = []
    if chosen.calls:
        lines = [*queues(chosen.calls), *overload(), *closed(), *rules()]
    for executor in ("native", "threads"):
        for callers in (1, 2):
            lines += replay_lines(executor, callers)
        lines += stall_lines(executor)
    text = page(lines, chosen.calls)
    print(text)
    if chosen.markdown:
        chosen.markdown.write_text(text + sections_of(chosen.markdown), encoding="utf-8")
    sys.exit(0 if all(one.within for one in lines) else "a figure is not within its tolerance")


if __name__ == "__main__":
    main()
