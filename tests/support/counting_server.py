"""A model whose server counts: statistics of the Open Inference Protocol, and metrics."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from support.scripted_server import Asked, serving

TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
OUTPUT = {"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}


class Counting:
    """A model whose server counts each request as 2 ms of queue and 3 ms of compute."""

    def __init__(self, metrics=True, statistics=True, times=1.0) -> None:
        self.answered = 1000  # of others, before
        self.metrics, self.statistics, self.times = metrics, statistics, times
        self.lock = threading.Lock()

    def note(self) -> None:
        with self.lock:
            self.answered += 1

    async def script(self, asked: Asked) -> None:
        if asked.method == "GET":
            await asked.answer({"name": "m", "inputs": [TENSOR], "outputs": []})
            return
        self.note()
        await asked.answer({"model_name": "m", "outputs": [OUTPUT]})

    async def counts(self, asked: Asked) -> None:
        if asked.path == "/metrics" and self.metrics:
            await asked.answer(self.text().encode(), kind="text/plain")
        elif asked.path == "/v2/models/m/stats" and self.statistics:
            await asked.answer(self.stats())
        else:
            await asked.answer(b"", 404)

    @property
    def seen(self) -> int:
        return round(self.answered * self.times)

    def text(self) -> str:
        n = self.seen
        name = "request_predict_seconds"
        return (
            f"# TYPE {name} histogram\n"
            f'{name}_bucket{{le="0.002"}} 0\n{name}_bucket{{le="0.004"}} {n}\n'
            f'{name}_bucket{{le="+Inf"}} {n}\n{name}_sum {n * 0.003}\n{name}_count {n}\n'
            f"# TYPE python_gc_total counter\npython_gc_total {n}\n"
        )

    def stats(self):
        n = self.seen

        def time(ms: int):
            return {"count": n, "ns": n * ms * 1_000_000}

        return {
            "model_stats": [
                {
                    "name": "m",
                    "inference_count": n,
                    "execution_count": n,
                    "inference_stats": {
                        "success": time(5),
                        "queue": time(2),
                        "compute_infer": time(3),
                    },
                    "batch_stats": [{"batch_size": 1, "compute_infer": time(3)}],
                }
            ]
        }


@contextmanager
def counting(counts: Counting | None = None):
    counts = counts or Counting()
    with serving(counts.script) as server:
        server.counts = counts.counts
        yield server, counts
