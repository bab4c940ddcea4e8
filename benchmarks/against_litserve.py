"""Against LitServe on loopback: what a server that batches does, and what was said of it before.

The same model, rate, batch and delay, served over HTTP and called by inferload without a server.
What HTTP costs is measured too, of a model that does nothing. It needs ``pip install litserve
aiohttp`` besides inferload. Its window differs from ours: it opens when the worker is free, and
ours when the first request comes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiohttp
import litserve
import numpy as np
import torch

import inferload as il

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH, LAYERS = 2048, 12
CLIENTS = 16

#: A request: the seconds until its answer, those of the model, the requests of its batch, and the
#: seconds between that call and the one before.
Asked = tuple[float, float, float, float]


def model_of(kind: str) -> torch.nn.Module:
    """A model whose weights are most of its work, so that batches pay; or one that does nothing."""
    if kind == "empty":
        return torch.nn.Identity()
    layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    return torch.nn.Sequential(*layers).eval()


@dataclass(frozen=True, slots=True)
class Seen:
    """What callers saw: requests a second, and quantiles of the latency in milliseconds.

    ``model_ms``: the median of what the model took for the batch in which a request was, and
    ``beside``: of how many it was one, on average over requests. ``between_ms``: the median time
    for each request of a batch in which the model was not called; where there always is a next
    batch, that is the worker's own.
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    model_ms: float
    beside: float
    between_ms: float

    def __str__(self) -> str:
        return (
            f"{self.per_s:7.1f} requests/s, p50 {self.p50_ms:6.2f} ms, p99 {self.p99_ms:6.2f} ms, "
            f"of it the model {self.model_ms:5.2f} ms, {self.beside:.1f} a batch"
        )


class AsInWorker(torch.nn.Module):
    """A model, and after it the time that a server's worker takes for each request besides."""

    def __init__(self, model: torch.nn.Module, besides_s: float) -> None:
        super().__init__()
        self.model, self.besides_s = model, besides_s

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call, and be busy."""
        output: torch.Tensor = self.model(x)
        ends = time.perf_counter() + len(x) * self.besides_s
        while time.perf_counter() < ends:
            pass
        return output


class Api(litserve.LitAPI):
    """The model behind it, as its users write it."""

    def __init__(self, kind: str, most: int, delay_s: float) -> None:
        super().__init__(max_batch_size=most, batch_timeout=delay_s)
        self.kind = kind

    def setup(self, device: str) -> None:
        """Load the model, in the process that calls it."""
        del device
        torch.set_num_threads(1)
        self.model = model_of(self.kind)
        self.ended = 0.0

    def decode_request(self, request: dict[str, float]) -> torch.Tensor:
        """The input of a request, which is one number there."""
        return torch.full((1, WIDTH), request["value"])

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Put together."""
        return torch.cat(inputs)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Call."""
        self.size = len(x)
        began = time.perf_counter()
        self.between_s = began - self.ended
        with torch.inference_mode():
            output: torch.Tensor = self.model(x)
        self.ended = time.perf_counter()
        self.took_s = self.ended - began
        return output

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Take apart."""
        return list(output.split(1))

    def encode_response(self, output: torch.Tensor) -> dict[str, float]:
        """The answer, with how long the model took, for how many, and since its last call."""
        times = {"model_s": self.took_s, "between_s": self.between_s}
        return {"value": float(output[0, 0]), "size": self.size, **times}


def serve(kind: str, port: int, most: int, delay_s: float) -> None:
    """The server, in a process of its own."""
    api = Api(kind, most, delay_s)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)


@contextmanager
def served(kind: str, most: int, delay_s: float) -> Iterator[str]:
    """A server that answers, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, __file__, "--serve", kind, str(port), str(most), str(delay_s)]
    process = subprocess.Popen(words, start_new_session=True)
    try:
        ends = time.monotonic() + 60
        while not _answers(port):
            if time.monotonic() > ends or process.poll() is not None:
                raise SystemExit("LitServe did not start")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/predict"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with its workers, which may be polling
        process.wait()


def _answers(port: int) -> bool:
    address = f"http://127.0.0.1:{port}/health"
    with suppress(OSError), urllib.request.urlopen(address, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


async def _ask(session: aiohttp.ClientSession, url: str, since: float) -> Asked:
    """One request."""
    async with session.post(url, json={"value": 0.5}) as answer:
        found = json.loads(await answer.read())
    return time.perf_counter() - since, *(found[name] for name in ("model_s", "size", "between_s"))


def _seen(asked: Sequence[Asked], seconds: float) -> Seen:
    took, model, sizes, between = np.array(asked).T * [[1e3], [1e3], [1], [1e3]]
    return Seen(
        len(took) / seconds,
        float(np.quantile(took, 0.5)),
        float(np.quantile(took, 0.99)),
        float(np.median(model)),
        float(sizes.mean()),
        float(np.median(between / sizes)),
    )


async def _open(url: str, due_s: np.ndarray) -> list[Asked]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter() + 0.05
        tasks = []
        for due in due_s + began:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            tasks.append(asyncio.create_task(_ask(session, url, due)))
        return await asyncio.gather(*tasks)


async def _closed(url: str, clients: int, seconds: float) -> list[Asked]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        ends = time.perf_counter() + seconds
        took: list[Asked] = []

        async def client() -> None:
            while (began := time.perf_counter()) < ends:
                took.append(await _ask(session, url, began))

        await asyncio.gather(*(client() for _ in range(clients)))
        return took


def over_http(url: str, due_s: np.ndarray) -> Seen:
    """An open loop: latencies from when requests were due."""
    asyncio.run(_open(url, due_s[:50]))
    took = asyncio.run(_open(url, due_s))
    return _seen(took, max(due + own for due, (own, *_) in zip(due_s, took, strict=True)))


def clients_over_http(url: str, clients: int, seconds: float) -> Seen:
    """A closed loop of so many clients."""
    asyncio.run(_closed(url, clients, 1.0))
    return _seen(asyncio.run(_closed(url, clients, seconds)), seconds)


def without_server(
    load: il.ClosedLoop | il.OpenLoop,
    most: int,
    delay_s: float,
    besides_s: float = 0.0,
    *,
    duration_s: float | None = None,
) -> Seen:
    """What inferload says of the same."""
    model = model_of("layers")
    result = il.run(
        AsInWorker(model, besides_s) if besides_s else model,
        [torch.full((1, WIDTH), 0.5)],
        load=load,
        batching=il.Batching(max_batch=most, max_delay_s=delay_s),
        threads_per_call=1,
        executor="threads",
        telemetry=False,
        duration_s=duration_s,
    )
    log = result.log
    model_ns = log.service_ns - log.stages["gather_ns"]
    columns = log.response_ns / 1e9, model_ns / 1e9, log.batches["batch_size"], 0 * log.started_ns
    seen = _seen([*zip(*columns, strict=True)], 1.0)
    return replace(seen, per_s=result.summary.throughput_calls_per_s.value)


def main() -> None:
    """Print what both say, round by round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=150.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--most", type=int, default=8)
    parser.add_argument("--delays-ms", default="0,10", help="LitServe's batch_timeout, and ours")
    asked = parser.parse_args()
    delays_ms = [float(one) for one in asked.delays_ms.split(",")]
    load = il.OpenLoop.poisson(asked.rate, callers=1, seed=1)
    due_s = load.schedule(None, asked.seconds).times_ns / 1e9
    found: dict[str, list[Seen]] = {}

    def note(name: str, seen: Seen) -> Seen:
        found.setdefault(name, []).append(seen)
        print(f"{name:33} {seen}", flush=True)
        return seen

    opened, closed = f"{asked.rate:g}/s", f"{CLIENTS} clients"
    with torch.inference_mode():
        for _ in range(asked.rounds):
            with served("empty", asked.most, 0.0) as url:
                note(f"{opened}, HTTP alone", over_http(url, due_s))
                alone = note("one client, HTTP alone", clients_over_http(url, 1, asked.seconds / 3))
            http_s = alone.p50_ms / 1e3
            for delay_ms in delays_ms:
                of, delay_s = f"delay {delay_ms:g} ms", delay_ms / 1e3
                with served("layers", asked.most, delay_s) as url:
                    note(f"{opened}, {of}, LitServe", over_http(url, due_s))
                    seen = clients_over_http(url, CLIENTS, asked.seconds)
                    note(f"{closed}, {of}, LitServe", seen)
                for name, besides_s in (("inferload", 0.0), ("as worker", seen.between_ms / 1e3)):
                    limits = asked.most, delay_s, besides_s
                    replayed = il.OpenLoop.replay(due_s, callers=1)
                    note(f"{opened}, {of}, {name}", without_server(replayed, *limits))
                    clients = il.ClosedLoop(
                        clients=CLIENTS, callers=1, think_s=http_s, think="constant"
                    )
                    same = without_server(clients, *limits, duration_s=asked.seconds)
                    note(f"{closed}, {of}, {name}", same)
    print()
    for name, ours in found.items():
        theirs = found.get(name.rsplit(", ", 1)[0] + ", LitServe")
        if name.endswith(("inferload", "as worker")) and theirs:
            print(f"{name}: {_compared(theirs, ours)}")
    more = statistics.median(one.p50_ms for one in found[f"{opened}, HTTP alone"])
    besides = statistics.median(one.between_ms for one in found[f"{closed}, {of}, LitServe"])
    print(f"{opened}, HTTP and LitServe's loop alone: p50 {more:.2f} ms")
    print(f"LitServe's worker beside the model: {besides:.3f} ms a request of a batch")


def _compared(theirs: Sequence[Seen], ours: Sequence[Seen]) -> str:
    rates = [a.per_s / b.per_s for a, b in zip(theirs, ours, strict=True)]
    more = [a.p50_ms - b.p50_ms for a, b in zip(theirs, ours, strict=True)]
    return (
        f"LitServe has {statistics.median(rates):.3f} of the forecast's throughput "
        f"({min(rates):.3f} to {max(rates):.3f}), its p50 is {statistics.median(more):+.2f} ms "
        f"({min(more):+.2f} to {max(more):+.2f})"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
