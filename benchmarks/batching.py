"""What batching itself costs, and whether each batch is what its schedule makes of it.

    python benchmarks/batching.py [--rounds 9] [--only cost|replay]

The cost is that of a request in batches of 64 of a model that does nothing, over a loop by hand
that puts the same batch together and calls, in alternating rounds. The replay is a run of 20,000
requests on the system's clock: every batch is held against the definition of
batching (tests/support/batch_queue.py) with the times that calls of that size took then.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from bisect import bisect_left
from pathlib import Path

import numpy as np
import torch

import inferload as il
from inferload.callers.batching.work import batch_work
from inferload.callers.native.batches import gather_plan
from inferload.callers.native.build import native_extension
from inferload.records.batches import BatchSpec
from inferload.targets.as_target import as_target
from inferload.targets.inputs.given import as_call_inputs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.batch_queue import served

SIZE, FEATURES = 64, 64
REPLAYED = 20_000


class Nothing(torch.nn.Module):
    """Returns what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same."""
        return x


def ours_ns(executor: str, requests: int) -> float:
    """Nanoseconds a request where all are due at once and one caller serves them."""
    model = Nothing().eval()
    with torch.inference_mode():
        result = il.run(
            torch.jit.script(model) if executor == "native" else model,
            [torch.randn(1, FEATURES) for _ in range(SIZE)],
            load=il.OpenLoop.replay(np.zeros(requests)),
            batching=il.Batching(max_batch=SIZE),
            executor=executor,
            warmup="fixed",
        )
    log = result.log
    if (log.batches["batch_size"] < SIZE).mean() > 0.01:
        raise RuntimeError("batches were not full")
    return float(log.finished_ns.max() - log.started_ns.min()) / len(log)


def by_hand_native_ns(batches: int) -> float:
    """The same by one C++ thread that puts one batch together and calls, again and again."""
    given = as_call_inputs([torch.randn(1, FEATURES) for _ in range(SIZE)])
    target = as_target(torch.jit.script(Nothing().eval()))
    work = batch_work(target, given, BatchSpec(max_batch=SIZE), 1, transfers=False)
    extension = native_extension()
    model = target.native_callable(extension, work.inputs)
    with torch.inference_mode():
        _, whole = model.bare_batches_ns(
            gather_plan(extension, work), work.joining.shapes - 1, batches
        )
    return float(whole) / SIZE


def by_hand_python_ns(batches: int) -> float:
    """The same by a loop in Python: ``torch.cat`` into a tensor of its own, and a call."""
    parts, into = [torch.randn(1, FEATURES) for _ in range(SIZE)], torch.empty(SIZE, FEATURES)
    call = Nothing().eval().__call__
    with torch.inference_mode():
        began = time.perf_counter_ns()
        for _ in range(batches):
            torch.cat(parts, out=into)
            call(into)
        return (time.perf_counter_ns() - began) / batches / SIZE


def costs(rounds: int) -> None:
    """Print what a request costs over the loop by hand, for both executors."""
    for executor, by_hand, reach in (
        ("native", by_hand_native_ns, 0.15),
        ("threads", by_hand_python_ns, 1.5),
    ):
        found = [(ours_ns(executor, 200_000), by_hand(3_000)) for _ in range(rounds)]
        over = [(ours - hand) / 1e3 for ours, hand in found]
        print(
            f"{executor}: a request {statistics.median(one for one, _ in found) / 1e3:.3f} us, by "
            f"hand {statistics.median(one for _, one in found) / 1e3:.3f} us; over it "
            f"{statistics.median(over):.3f} us ({min(over):.3f} to {max(over):.3f}), "
            f"reach <= {reach} us"
        )


def replay(
    executor: str,
    instances: int,
    rate_per_s: float,
    batching: il.Batching,
    features: int,
) -> None:
    """Print how many batches the definition explains, and the quantiles of its exact replay."""
    max_batch, delay_ns = batching.max_batch, round(batching.max_delay_s * 1e9)
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(features, features) for _ in range(6)]).eval()
    with torch.inference_mode():
        result = il.run(
            torch.jit.script(model) if executor == "native" else model,
            [torch.randn(1, features) for _ in range(8)],
            load=il.OpenLoop.poisson(rate_per_s=rate_per_s, callers=instances),
            batching=batching,
            calls=REPLAYED,
            executor=executor,
            threads_per_call=1,
            warmup="fixed",
        )
    log = result.log
    number, due = log.batches["batch"], log.scheduled_ns
    order = np.argsort(number, kind="stable")
    firsts = np.searchsorted(number[order], np.arange(int(number.max()) + 1))
    members = np.split(order, firsts[1:])
    took = [int(log.service_ns[own[0]]) for own in members]
    by_size: dict[int, list[tuple[int, int]]] = {}
    for which, own in enumerate(members):
        by_size.setdefault(len(own), []).append((which, took[which]))
    explained, free, next_row = 0, [0] * instances, 0
    for own, service in zip(members, took, strict=True):
        since = min(free)
        ready = int(due[own[0]]) + delay_ns
        if len(own) == max_batch:
            ready = min(ready, int(due[own[-1]]))
        begun, after = int(log.started_ns[own[0]]), int(own[-1]) + 1
        in_order = own.tolist() == list(range(next_row, after))
        nobody_late = bool((due[own] <= begun).all())
        left_out = len(own) < max_batch and after < len(due) and due[after] <= max(ready, since)
        explained += in_order and nobody_late and not left_out and begun >= max(ready, since)
        next_row = after
        free.remove(since)
        free.append(begun + service)
    exact = served(
        due.tolist(),
        [0] * len(due),
        instances=instances,
        most=max_batch,
        delay=delay_ns,
        service=lambda which, size: _as_long_as(which, size, by_size),
    )
    response = np.empty(len(due))
    for one in exact:
        response[list(one.members)] = one.ended - due[list(one.members)]
    same = sum(a.members == tuple(b.tolist()) for a, b in zip(exact, members, strict=False))
    late_us = log.stages["late_ns"] / 1e3
    print(
        f"{executor}, {instances} instances, {rate_per_s:g}/s, up to {max_batch}, "
        f"{delay_ns / 1e6:g} ms: {explained:,} of {len(members):,} batches explained, {same:,} are "
        f"the replay's, too; late p50 {np.quantile(late_us, 0.5):.1f}, p99 "
        f"{np.quantile(late_us, 0.99):.1f} us"
    )
    for q in (0.5, 0.99):
        ours, its = (
            float(np.quantile(one, q, method="inverted_cdf")) / 1e6
            for one in (log.response_ns, response)
        )
        print(f"  p{100 * q:g} {ours:.3f} ms, replay {its:.3f} ms: {ours / its - 1:+.2%}")


def _as_long_as(which: int, size: int, by_size: dict[int, list[tuple[int, int]]]) -> int:
    """What the batch of this size took that was called next to this number."""
    size = min(by_size, key=lambda one: abs(one - size))
    own = by_size[size]
    place = bisect_left(own, (which, 0))
    return own[min(place, len(own) - 1)][1]


def main() -> None:
    """Print all."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--only", choices=("cost", "replay"))
    chosen = options.parse_args()
    if chosen.only != "replay":
        costs(chosen.rounds)
    if chosen.only != "cost":
        patient, at_once = il.Batching(max_batch=16, max_delay_s=0.005), il.Batching(max_batch=32)
        replay("native", 4, 1500.0, patient, 384)
        replay("native", 2, 1200.0, at_once, 1024)
        replay("threads", 4, 1200.0, il.Batching(max_batch=16, max_delay_s=0.01), 512)


if __name__ == "__main__":
    main()
