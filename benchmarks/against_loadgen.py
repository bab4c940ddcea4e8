"""Against MLPerf LoadGen on a target that does nothing: what is left is the harness."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import inferload as il
from measuring import Row, alternated, middle_and_range, ratio_row

if TYPE_CHECKING:
    from collections.abc import Callable


class NoOp(torch.nn.Module):
    """Returns what it was given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give ``x`` back."""
        return x


def no_op(executor: str) -> Any:
    """The cheapest target of an executor; for Python callers a function, as LoadGen's SUT is."""
    return torch.jit.script(NoOp()) if executor == "native" else lambda x: x


@dataclass(frozen=True, slots=True)
class LoadGen:
    """What one LoadGen run says of itself."""

    each_ns: float
    p50_ns: float
    p99_ns: float


def loadgen(scenario: str, calls: int, rate_per_s: float | None = None) -> LoadGen:
    """Run a scenario with an inline Python SUT that answers at once."""
    import mlperf_loadgen as lg

    def issue(samples: list[Any]) -> None:
        lg.QuerySamplesComplete([lg.QuerySampleResponse(one.id, 0, 0) for one in samples])

    sut = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(64, 64, lambda _: None, lambda _: None)
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = calls
    if rate_per_s is not None:
        settings.server_target_qps = rate_per_s
        settings.server_target_latency_ns = 10**9
    with tempfile.TemporaryDirectory() as folder:
        logs = lg.LogSettings()
        logs.log_output = lg.LogOutputSettings()
        logs.log_output.outdir = folder
        logs.enable_trace = False
        lg.StartTestWithLogSettings(sut, library, settings, logs)
        text = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    lg.DestroyQSL(library)
    lg.DestroySUT(sut)

    def figure(name: str) -> float:
        found = re.search(rf"^{re.escape(name)}\s*: ([\d.]+)", text, re.MULTILINE)
        return float(found[1]) if found else float("nan")

    rate = figure(
        "QPS w/ loadgen overhead" if rate_per_s is None else "Scheduled samples per second"
    )
    return LoadGen(
        each_ns=1e9 / rate,
        p50_ns=figure("50.00 percentile latency (ns)"),
        p99_ns=figure("99.00 percentile latency (ns)"),
    )


def _closed(executor: str, calls: int) -> Callable[[], float]:
    model = no_op(executor)

    def timed() -> float:
        with torch.inference_mode():
            result = il.run(model, [torch.zeros(1)], calls=calls, executor=executor)
        return result.summary.duration_s / calls * 1e9

    return timed


def loadgen_rows(rounds: int, scale: int) -> list[Row]:
    """Overhead a call in a closed loop, and response times in an open one."""
    calls = 200_000 // scale
    rows = [
        ratio_row(
            f"no-op, 1 caller, {executor}, against LoadGen SingleStream (time a call)",
            rounds,
            _closed(executor, calls),
            lambda: loadgen("SingleStream", calls).each_ns,
            reach,
        )
        for executor, reach in (("native", "<= 0.08x"), ("threads", "<= 0.4x"))
    ]
    for rate in (1_000, 10_000):
        for executor in ("native", "threads"):
            rows += _server_rows(rounds, scale, executor, rate)
    return rows


def _server_rows(rounds: int, scale: int, executor: str, rate: int) -> list[Row]:
    calls = max(2 * rate // scale, 1000)
    model = no_op(executor)

    def ours() -> tuple[float, float]:
        with torch.inference_mode():
            result = il.run(
                model,
                [torch.zeros(1)],
                load=il.OpenLoop.poisson(rate),
                calls=calls,
                executor=executor,
            )
        response = result.summary.response_ms
        if response is None:
            raise AssertionError("every call finishes")
        return response.quantile(0.5) * 1e6, response.quantile(0.99) * 1e6

    def theirs() -> tuple[float, float]:
        found = loadgen("Server", calls, rate)
        return found.p50_ns, found.p99_ns

    mine, its = alternated(rounds, ours, theirs)
    return [
        Row(
            measure=f"no-op at {rate:,}/s, {executor}, against LoadGen Server: response {name}",
            ours=f"{middle_and_range([one[place] for one in mine])[0]:,.0f} ns",
            reference=f"{middle_and_range([one[place] for one in its])[0]:,.0f} ns",
            figure=f"{ratio:.3f}x",
            spread=f"{low:.3f}-{high:.3f}",
            reach="",
        )
        for place, name in enumerate(("p50", "p99"))
        for ratio, low, high in [
            middle_and_range([a[place] / b[place] for a, b in zip(mine, its, strict=True)])
        ]
    ]
