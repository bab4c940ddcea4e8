"""Models on a GPU called by threads written by hand, and by Python callers of ours."""

from __future__ import annotations

import threading
import time
from array import array
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

import inferload as il

if TYPE_CHECKING:
    from collections.abc import Callable

    from measuring import Row


MODELS = ((4, 256, 1), (8, 2048, 8))
CALLERS = (1, 16)
WARM_UP = 20
MOST_STAMPED = 200_000


def linears(count: int, width: int, device: str) -> torch.nn.Module:
    """So many linear layers, one after another."""
    layers = [torch.nn.Linear(width, width) for _ in range(count)]
    return torch.nn.Sequential(*layers).eval().to(device)


def waiting(device: str, completion: str) -> Callable[[], object]:
    """Take a stream, make it the current one; returns what waits for it."""
    if torch.device(device).type == "cuda":
        own = torch.cuda.Stream(device)
        torch.cuda.set_stream(own)
        if completion == "sync":
            return own.synchronize
        sleeps = torch.cuda.Event(blocking=True)

        def wait() -> None:
            sleeps.record(own)
            sleeps.synchronize()

        return wait
    stream = torch.Stream(torch.device(device))
    torch.accelerator.set_stream(stream)
    if completion == "sync":
        return stream.synchronize
    event = torch.Event(torch.device(device))

    def wait_for_event() -> None:
        event.record(stream)
        event.synchronize()

    return wait_for_event


def by_hand(
    model: torch.nn.Module,
    x: torch.Tensor,
    seconds: float,
    callers: int,
    completion: str = "sync",
    *,
    stamped: bool = False,
) -> float:
    """Calls per second of threads with a stream and an input each.

    ``stamped``: they write down when each call starts, is enqueued and ends, the least that must
    be done to tell of calls one by one.
    """
    line, counts, ends = threading.Barrier(callers + 1), [0] * callers, [0.0] * callers
    until = [0.0]

    def run(number: int) -> None:
        with torch.inference_mode():
            own = x.clone()
            wait = waiting(str(x.device), completion)
            for _ in range(WARM_UP):
                model(own)
                wait()
            line.wait()
            line.wait()
            if stamped:
                counts[number], ends[number] = stamped_calls(partial(model, own), wait, until[0])
                return
            count, end, now = 0, until[0], time.perf_counter
            while now() < end:
                model(own)
                wait()
                count += 1
            counts[number], ends[number] = count, now()

    running = [threading.Thread(target=run, args=(number,)) for number in range(callers)]
    for thread in running:
        thread.start()
    line.wait()
    began = time.perf_counter()
    until[0] = began + seconds
    line.wait()
    for thread in running:
        thread.join()
    return sum(counts) / (max(ends) - began)


def stamped_calls(
    call: Callable[[], object], wait: Callable[[], object], until: float
) -> tuple[int, float]:
    """How many calls were made, and when the last of them ended."""
    now, most = time.perf_counter, MOST_STAMPED
    started, issued, ended = (array("d", bytes(8 * most)) for _ in range(3))
    row, end = 0, 0.0
    while end < until and row < most:
        started[row] = now()
        output = call()
        issued[row] = now()
        wait()
        end = ended[row] = now()
        del output
        row += 1
    return row, end


def measured(
    model: torch.nn.Module, x: torch.Tensor, seconds: float, callers: int, completion: str = "sync"
) -> il.RunResult:
    """The same by Python callers of ours."""
    return il.run(
        model,
        [x],
        load=il.ClosedLoop(callers=callers),
        duration_s=seconds,
        warmup="fixed",
        warmup_calls=WARM_UP,
        completion=completion,
        executor="threads",
        telemetry=False,
    )


def ours(*asked: Any) -> float:
    """Calls per second, as the summary has it."""
    return float(measured(*asked).summary.throughput_calls_per_s.value)


def told(row: Row) -> Row:
    """The row, printed at once: the machine may be gone before the table is."""
    cells = (row.measure, row.ours, row.reference, row.figure, row.spread)
    print(" | ".join(cells), flush=True)
    return row
