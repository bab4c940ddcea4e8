"""The figures of a run in OpenMetrics, for Prometheus' textfile collector or a push gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.records.distribution import QUOTED_QUANTILES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from inferload.records.batches import BatchFigures
    from inferload.records.distribution import Distribution, Estimate
    from inferload.records.pieces import PieceFigures
    from inferload.records.result import RunResult


def write(result: RunResult, file: Path, *, ending: str, duration: str) -> str | None:
    """Calls, throughput, and quantiles that are quoted, with their intervals.

    Raises:
        PlanError: prometheus-client is not installed.
    """
    del ending, duration
    try:
        from prometheus_client.openmetrics.exposition import generate_latest
    except ImportError:
        raise PlanError(
            "OpenMetrics is written by prometheus-client, which is not installed: "
            "pip install 'inferload[export]'"
        ) from None
    file.write_bytes(generate_latest(_Registry(result)))
    return None


class _Registry:
    """What prometheus-client asks for metrics."""

    def __init__(self, result: RunResult) -> None:
        self._result = result

    def collect(self) -> Iterable[Any]:
        """Every metric family."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        result = self._result
        summary, spec, found = result.summary, result.spec, result.environment
        words = {
            "run_id": result.run_id,
            "created_at": result.created_at,
            "status": result.status,
            "target": spec.target,
            "form": spec.form,
            "executor": spec.executor,
            "load": spec.load,
            "cpu": str(found.get("cpu")),
            "torch": str(found.get("torch")),
        }
        # no `info`, which node_exporter's textfile collector does not know
        info = GaugeMetricFamily("inferload_run_info", "What ran on what.", labels=[*words])
        info.add_metric([*words.values()], 1)
        yield info
        calls = CounterMetricFamily("inferload_calls", "Calls of a run.", labels=["outcome"])
        for outcome in ("completed", "failed", "unfinished"):
            calls.add_metric([outcome], getattr(summary, f"{outcome}_calls"))
        yield calls
        for name, number in (
            ("callers", spec.callers),
            ("processes", spec.processes),
            ("warnings", len(result.warnings)),
        ):
            yield GaugeMetricFamily(f"inferload_{name}", f"How many {name} a run has.", number)
        yield GaugeMetricFamily(
            "inferload_duration_seconds", "How long the measured part lasted.", summary.duration_s
        )
        for what in ("calls", "items"):
            rate: Estimate = getattr(summary, f"throughput_{what}_per_s")
            gauge = GaugeMetricFamily(
                f"inferload_throughput_{what}_per_second",
                f"{what.capitalize()} that returned per second; low and high: 95 % interval.",
                labels=["bound"],
            )
            for bound in ("value", "low", "high"):
                if (value := getattr(rate, bound)) is not None:
                    gauge.add_metric([bound], value)
            yield gauge
        if summary.batches is not None:
            yield from _batches(summary.batches)
        if summary.pieces is not None:
            yield from _pieces(summary.pieces)
        yield from _load_stages(result)
        yield from _limits(result)
        for what in ("response", "service", "queue", "lateness"):
            one: Distribution | None = getattr(summary, f"{what}_ms")
            if one is not None:
                yield from _durations(what, one)


def _batches(found: BatchFigures) -> Iterable[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield CounterMetricFamily(
        "inferload_batches", "Calls of the model, of one or more requests.", found.batches
    )
    for name, says, value in (
        ("batch_requests_mean", "Requests in a batch, the mean.", found.mean_size),
        ("padding_ratio", "The share of padding in what the model was given.",
         found.padding_fraction),
    ):  # fmt: skip
        yield GaugeMetricFamily(f"inferload_{name}", says, value)
    for name in ("instance_wait", "batch_wait", "gather", "device"):
        one: Distribution | None = getattr(found, f"{name}_ms")
        if one is not None:
            yield from _durations(name, one)


def _pieces(found: PieceFigures) -> Iterable[Any]:
    from prometheus_client.core import CounterMetricFamily

    for name, says in (
        ("pieces", "Pieces of answers, of calls that returned."),
        ("tokens", "Tokens in these pieces."),
        ("broken_calls", "Calls that raised after they had given pieces."),
    ):
        yield CounterMetricFamily(f"inferload_{name}", says, getattr(found, name))
    for name in ("first_response", "first", "gap", "call_gap"):
        one: Distribution | None = getattr(found, f"{name}_ms")
        if one is not None:
            yield from _durations(name, one)


def _load_stages(result: RunResult) -> Iterable[Any]:
    """What came of each stage of a load whose rate changes."""
    from prometheus_client.core import GaugeMetricFamily

    if not result.load_stages:
        return
    labels = ["stage", "rate"]
    for name, says in (
        ("due_calls", "Calls that were due in a stage."),
        ("failed_calls", "Of these, calls that raised."),
        ("unfinished_calls", "Of these, calls that were never made."),
        ("served_per_s", "Calls that returned within the time of a stage, per second."),
    ):
        metric = name.replace("_per_s", "_calls_per_second")
        gauge = GaugeMetricFamily(f"inferload_stage_{metric}", says, labels=labels)
        for number, one in enumerate(result.load_stages, 1):
            gauge.add_metric([str(number), str(one.stage)], getattr(one, name))
        yield gauge


def _limits(result: RunResult) -> Iterable[Any]:
    """Whether each limit was kept: 1, broken: 0, or neither is certain: 0.5."""
    from prometheus_client.core import GaugeMetricFamily

    if result.limits:
        gauge = GaugeMetricFamily(
            "inferload_limit_kept", "1: kept; 0: broken; 0.5: open.", labels=["limit"]
        )
        for one in result.limits:
            gauge.add_metric([one.limit], {"kept": 1.0, "broken": 0.0}.get(one.verdict, 0.5))
        yield gauge


def _durations(what: str, one: Distribution) -> Iterable[Any]:
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.metrics_core import Metric

    name = f"inferload_{what}_seconds"
    quantiles = Metric(name, f"The {what} time of calls; quantiles that are quoted.", "summary")
    bounds = GaugeMetricFamily(
        f"inferload_{what}_quantile_bound_seconds",
        f"The 95 % intervals of quantiles of the {what} time, by batch means.",
        labels=["quantile", "bound"],
    )
    for field, q in QUOTED_QUANTILES.items():
        quoted: Estimate | None = getattr(one, field)
        if quoted is None:
            continue
        quantiles.add_sample(name, {"quantile": f"{q:g}"}, quoted.value / 1e3)
        for bound in ("low", "high"):
            if (value := getattr(quoted, bound)) is not None:
                bounds.add_metric([f"{q:g}", bound], value / 1e3)
    finished = one.count - one.unfinished
    quantiles.add_sample(f"{name}_count", {}, finished)
    quantiles.add_sample(f"{name}_sum", {}, one.mean * finished / 1e3)
    yield quantiles
    yield bounds
