"""What inferload takes of answers in pieces and of coroutines, and how exact their times are.

    python benchmarks/pieces.py [--rounds 9] [--quick]

Against the shortest loops by hand, alternating; nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import inferload as il
from inferload.callers.tasks.loops import new_loop
from measuring import Row, alternated, print_rows, ratio_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

PIECES, GAP_S = 1000, 0.005
X = torch.zeros(1)
now = time.perf_counter_ns


def burst(x: torch.Tensor) -> Iterator[int]:
    """Pieces that come at once."""
    del x
    yield from range(PIECES)


async def burst_awaiting(x: torch.Tensor) -> AsyncIterator[int]:
    """The same, as an asynchronous generator."""
    del x
    for piece in range(PIECES):
        yield piece


def run(model: Callable[..., object], calls: int, callers: int = 1) -> il.RunResult:
    """A run of which nothing is cut."""
    load = il.ClosedLoop(callers=callers)
    return il.run(model, [X], load=load, calls=calls, warmup_calls=2, warmup="fixed")


def bare(calls: int) -> float:
    """Nanoseconds a piece of a loop that stamps nothing."""
    began = now()
    for _ in range(calls):
        for _ in burst(X):
            pass
    return (now() - began) / calls / PIECES


def bare_awaiting(calls: int) -> float:
    """The same of an asynchronous generator."""

    async def loop() -> float:
        began = now()
        for _ in range(calls):
            async for _ in burst_awaiting(X):
                pass
        return (now() - began) / calls / PIECES

    return in_loop(loop())


def in_loop(coroutine: Coroutine[Any, Any, float]) -> float:
    """What a coroutine gives in the loop that the executor takes, too."""
    loop = new_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def ours(model: Callable[..., object], calls: int) -> float:
    """Nanoseconds a piece of a run, first call to last."""
    summary = run(model, calls).summary
    return summary.duration_s * 1e9 / calls / PIECES


def piece_row(name: str, rounds: int, calls: int, reach: str) -> Row:
    """What a piece costs more than in a loop that stamps nothing."""
    threads = name == "threads"
    model, hand = (burst, bare) if threads else (burst_awaiting, bare_awaiting)
    mine, its = alternated(rounds, lambda: ours(model, calls), lambda: hand(calls))
    over = [(a - b) / 1e3 for a, b in zip(mine, its, strict=True)]
    return Row(
        measure=f"{name}, own cost of a piece that comes at once",
        ours=f"{statistics.median(mine):,.0f} ns",
        reference=f"{statistics.median(its):,.0f} ns",
        figure=f"{statistics.median(over):.3f} us",
        spread=f"{min(over):.3f}-{max(over):.3f}",
        reach=reach,
    )


async def no_op(x: torch.Tensor) -> None:
    """A coroutine that does nothing."""


async def yields(x: torch.Tensor) -> None:
    """A coroutine that gives others their turn once."""
    del x
    await asyncio.sleep(0)


def by_hand(model: Callable[..., Awaitable[None]], calls: int, tasks: int) -> float:
    """Nanoseconds a call of so many tasks that stamp twice."""

    async def task(stamps: list[tuple[int, int]]) -> None:
        for _ in range(calls // tasks):
            started = now()
            await model(X)
            stamps.append((started, now()))

    async def loop() -> float:
        began = now()
        await asyncio.gather(*[task([]) for _ in range(tasks)])
        return (now() - began) / calls

    return in_loop(loop())


def coroutine_row(name: str, model: Callable[..., Awaitable[None]], rounds: int, calls: int) -> Row:
    """64 tasks of ours against 64 by hand."""
    return ratio_row(
        f"coroutine that {name}, 64 callers, time a call",
        rounds,
        lambda: run(model, calls, 64).summary.duration_s * 1e9 / calls,
        lambda: by_hand(model, calls, 64),
        "<= 1.3x",
    )


def exact_rows(name: str, rounds: int, calls: int) -> list[Row]:
    """By how much p50 and p99 of first piece and gap differ from when the script yielded."""
    worst: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        starts: list[list[int]] = []

        def scripted(x: torch.Tensor, starts: list[list[int]] = starts) -> Iterator[int]:
            del x
            own = [now()]
            starts.append(own)
            for _ in range(10):
                time.sleep(GAP_S)
                own.append(now())
                yield 1

        async def scripted_awaiting(
            x: torch.Tensor, starts: list[list[int]] = starts
        ) -> AsyncIterator[int]:
            del x
            own = [now()]
            starts.append(own)
            for _ in range(10):
                await asyncio.sleep(GAP_S)
                own.append(now())
                yield 1

        model = scripted if name == "threads" else scripted_awaiting
        summary = run(model, calls, 8).summary
        pieces = summary.pieces
        if pieces is None or pieces.first_ms is None or pieces.gap_ms is None:
            raise AssertionError("every call gives pieces")
        script = np.diff(np.array(starts[-calls:], np.int64), axis=1) / 1e6
        for what, told, yielded in (
            ("first piece", pieces.first_ms, script[:, 0]),
            ("gap", pieces.gap_ms, script[:, 1:].ravel()),
        ):
            for quantile in (0.5, 0.99):
                rank = int(np.ceil(quantile * len(yielded))) - 1
                off = abs(told.quantile(quantile) - np.sort(yielded)[rank])
                worst.setdefault((what, f"p{quantile * 100:g}"), []).append(off)
    return [
        Row(
            measure=f"{name}, 8 callers, gaps of 5 ms: {what} {quantile} against the script",
            ours="",
            reference="",
            figure=f"{statistics.median(off):.4f} ms",
            spread=f"{min(off):.4f}-{max(off):.4f}",
            reach="<= 0.1 ms",
        )
        for (what, quantile), off in worst.items()
    ]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--quick", action="store_true", help="a tenth of the calls")
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    scale, rounds = 10 if chosen.quick else 1, chosen.rounds
    rows = [
        piece_row("threads", rounds, 2000 // scale, "<= 0.4 us"),
        piece_row("async", rounds, 2000 // scale, "<= 1.5 us"),
        coroutine_row("does nothing", no_op, rounds, 1_920_000 // scale),
        coroutine_row("yields once", yields, rounds, 128_000 // scale),
        *exact_rows("threads", max(rounds // 3, 1), 800 // scale),
        *exact_rows("async", max(rounds // 3, 1), 800 // scale),
    ]
    print_rows(rows, rounds)


if __name__ == "__main__":
    main()
