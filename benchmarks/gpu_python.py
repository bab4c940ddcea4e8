"""Python callers on a device against threads by hand: a stream each, a call, and a wait for it.

One command: ``python benchmarks/gpu_python.py --markdown docs/benchmarks.md``, on an otherwise idle
GPU. ``--apart`` takes what the harness takes to pieces; ``--device sim`` tries all of it on the
simulated device of the tests.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

import inferload as il
from inferload.callers.device_work import DeviceWork
from inferload.callers.local import crew as local_crew
from inferload.callers.local import preparing as plan
from inferload.callers.local.floor import Floor
from inferload.callers.python import executor as threads
from inferload.callers.python.caller import PythonCaller
from inferload.callers.python.clock import MonotonicClock, _set_timer_slack
from inferload.callers.python.thread_state import ThreadState
from inferload.machine.disturbances import PythonWatch
from measuring import GPU_HEADING, Row, print_rows, rates_row, to_and_fro

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODELS = ((4, 256, 1), (8, 2048, 8))
CALLERS = (1, 16)
WARM_UP = 20
MEMORY = "/dev/shm"  # noqa: S108 - temporary files of tempfile's go there
HEADING = "### Python callers against threads by hand"


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
    model: torch.nn.Module, x: torch.Tensor, seconds: float, callers: int, completion: str = "sync"
) -> float:
    """Calls per second of threads with a stream and an input each."""
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


def python_rows(
    rounds: int, scale: int, device: str = "cuda", models: tuple[Any, ...] = MODELS
) -> list[Row]:
    """Python callers against threads by hand, from 1 and 16 callers, by both ways to wait.

    The loop by hand is measured twice a round: its own spread is what ours is seen against.
    """
    rows, seconds = [], 0.7 / scale
    for count, width, batch in models:
        model, x = linears(count, width, device), torch.randn(batch, width, device=device)
        for callers in CALLERS:
            name = f"{count} x Linear({width}), batch {batch}, {callers} Python callers"
            for completion in ("sync", "event"):
                hand = partial(by_hand, model, x, seconds, callers, completion)
                mine, its, again = to_and_fro(
                    rounds, partial(ours, model, x, seconds, callers, completion), hand, hand
                )
                what = f"{name}, {completion}"
                rows.append(told(rates_row(f"{what}: against by hand", mine, its, ">= 0.97x")))
                rows.append(told(rates_row(f"{what}: by hand against itself", again, its, "-")))
            rows.append(told(floor_row(name, measured(model, x, seconds, callers))))
    return rows


def told(row: Row) -> Row:
    """The row, printed at once: the machine may be gone before the table is."""
    cells = (row.measure, row.ours, row.reference, row.figure, row.spread)
    print(" | ".join(cells), flush=True)
    return row


def floor_row(name: str, result: il.RunResult) -> Row:
    """What the report says that the harness takes of a call."""
    set_up, service = result.set_up, result.summary.service_ms
    if set_up.floor_ms is None or set_up.floor_by_hand_ms is None or service is None:
        raise RuntimeError("the floor was not measured on the device")
    stages = result.summary.stages
    timed = 0 if stages is None or stages.device_ms is None else stages.device_ms.count
    return Row(
        measure=f"{name}: an empty call that waits, against by hand",
        ours=f"{1e3 * set_up.floor_ms:.1f} us",
        reference=f"{1e3 * set_up.floor_by_hand_ms:.1f} us",
        figure=f"{(set_up.harness_ms or 0.0) / service.quantile(0.5):.2%} of the median",
        spread=f"stages of {timed:,} calls of {service.count:,} timed",
        reach="-",
    )


# ---- what the harness takes, in pieces ----


@contextmanager
def only_inference_mode(state: ThreadState) -> Iterator[None]:
    """What ``ThreadState.taken_over`` is replaced by."""
    del state
    with torch.inference_mode():
        yield


@contextmanager
def without_slack(clock: MonotonicClock) -> Iterator[None]:
    """What ``MonotonicClock.caller`` is replaced by: as if callers slept until calls are due."""
    del clock
    _set_timer_slack(1)
    yield


class HandLoop:
    """The loop by hand in threads of ours: what stands around the calls is the harness's."""

    def __init__(self, *, wrapped: bool) -> None:
        self._wrapped = wrapped
        self.counts: list[int] = []
        self.ends_ns: list[int] = []
        self.start_ns = 0

    def run(self, caller: PythonCaller) -> None:
        """Stands in for ``PythonCaller._call_at_once``."""
        run, now = caller._run, time.perf_counter_ns
        if claimed := run.claim(1):  # so that there is a result
            caller._call_rows(*claimed)
        own = run.job.inputs[caller.number][0]
        call: Callable[[], Any] = partial(run.job.target.python_callable(), *own.args)
        count = 0
        work = run.job.device_work
        if work is None:
            raise RuntimeError("the calls are on no device")
        wait = torch.accelerator.current_stream(work.devices[0]).synchronize
        end = run.limit_ns[0]
        if self._wrapped:
            call = caller._calls[0]
            while now() < end:
                call()
                count += 1
        else:
            while now() < end:
                call()
                wait()
                count += 1
        self.start_ns = run.start_ns
        self.counts.append(count)
        self.ends_ns.append(now())

    def rate(self, *asked: Any) -> float:
        """Calls per second."""
        self.counts, self.ends_ns = [], []
        # a function, which is bound to the caller: a bound method would not be
        stand_in = lambda caller: self.run(caller)  # noqa: E731, PLW0108
        with mock.patch.object(PythonCaller, "_call_at_once", stand_in):
            measured(*asked)
        return sum(self.counts) / (max(self.ends_ns) - self.start_ns) * 1e9


@contextmanager
def no_collector() -> Iterator[None]:
    """Without garbage collections."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def without_extension(job: Any, *_: Any) -> tuple[Any, list[Any]]:
    """What ``with_extension`` is replaced by."""
    return job, []


def unwatched(*, python_callers: bool) -> Any:
    """What ``PythonWatch`` is replaced by: no heartbeat, no look at the collector."""
    del python_callers
    return PythonWatch(python_callers=False)


def variants() -> dict[str, Callable[[], Any]]:
    """By name, what is entered while a run of ours is made."""
    patch = mock.patch.object
    return {
        "as it is": ExitStack,
        "no stages timed": lambda: patch(plan, "DeviceWork", partial(DeviceWork, timed=False)),
        "stages of every call": lambda: patch(threads, "timed_one_in", lambda _: 1),
        "devices in Python": lambda: patch(local_crew, "with_extension", without_extension),
        "no heartbeat, no look at the collector": lambda: patch(
            local_crew, "PythonWatch", unwatched
        ),
        "no garbage collector": no_collector,
        "thread state: inference mode alone": lambda: patch(
            ThreadState, "taken_over", only_inference_mode
        ),
        "no timer slack": lambda: patch(MonotonicClock, "caller", without_slack),
        "intra-op threads not set": lambda: patch(torch, "set_num_threads", lambda _: None),
        "log in memory": lambda: patch(tempfile, "tempdir", MEMORY),
    }


def apart_rows(rounds: int, scale: int, device: str, models: tuple[Any, ...]) -> list[Row]:
    """Each variant of ours against threads by hand, all in turn."""
    rows, seconds = [], 0.5 / scale

    def within(enter: Callable[[], Any], function: Callable[[], float]) -> float:
        # what an empty call takes is not asked here, and its measuring takes time
        with enter(), mock.patch.object(local_crew, "largest_floor", return_value=Floor()):
            return function()

    for count, width, batch in models:
        model, x = linears(count, width, device), torch.randn(batch, width, device=device)
        for callers in reversed(CALLERS):
            asked = (model, x, seconds, callers)
            sides = {
                name: partial(within, enter, partial(ours, *asked))
                for name, enter in variants().items()
            }
            for wrapped, name in (
                (False, "loop by hand in our threads"),
                (True, "our call alone in our threads"),
            ):
                loop = HandLoop(wrapped=wrapped)
                sides[name] = partial(within, ExitStack, partial(loop.rate, *asked))
            its, *found = to_and_fro(rounds, partial(by_hand, *asked), *sides.values())
            what = f"{count} x Linear({width}), {callers} callers"
            rows += [
                told(rates_row(f"{what}: {name}", mine, its, "-"))
                for name, mine in zip(sides, found, strict=True)
            ]
    return rows


def write(path: Path, rows: list[Row], rounds: int) -> None:
    """Put the table at the end of the page's section on GPUs, in place of an older one."""
    table = [
        f"| {r.measure} | {r.ours} | {r.reference} | {r.figure} | {r.spread} "
        f"| {r.reach} | {r.met} |"
        for r in rows
    ]
    before = path.read_text(encoding="utf-8") if path.is_file() else f"{GPU_HEADING}\n"
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "the simulated device"
    path.write_text(
        f"""{before.split(HEADING)[0].rstrip()}

{HEADING}

Written by `python benchmarks/gpu_python.py --markdown docs/benchmarks.md` on {device}, torch
{torch.__version__}: {rounds} alternating rounds of 0.7 s, medians, and the median ratio of the
rounds with its range. By hand: as many threads with a stream and an input each, that call the model
and wait for their stream (sync) or for an event that blocks (event). By hand against itself: the
same loop a second time in each round, which is how far these figures can be trusted.

| measure | inferload | by hand | figure | range | reach | met |
|---|---|---|---|---|---|---|
{chr(10).join(table)}
""",
        encoding="utf-8",
    )


def main() -> None:
    """Measure and print everything."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--quick", action="store_true", help="one short round of everything")
    options.add_argument("--apart", action="store_true", help="what the harness takes, in pieces")
    options.add_argument("--device", default="cuda")
    options.add_argument("--markdown", type=Path, help="write the table into this file too")
    chosen = options.parse_args()
    models: tuple[Any, ...] = MODELS
    if chosen.device == "sim":
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from support import simulated_device

        simulated_device.load()
        models = MODELS[:1]
    elif not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device (or --device sim to try it)")
    rounds, scale = (1, 5) if chosen.quick else (chosen.rounds, 1)
    with torch.inference_mode():
        rows = (apart_rows if chosen.apart else python_rows)(rounds, scale, chosen.device, models)
    print_rows(rows, rounds)
    print(f"median of the ratios: {statistics.median(_ratio(row) for row in rows):.3f}")
    if chosen.markdown:
        write(chosen.markdown, rows, rounds)


def _ratio(row: Row) -> float:
    return float(row.figure.rstrip("x")) if row.figure.endswith("x") else 1.0


if __name__ == "__main__":
    main()
