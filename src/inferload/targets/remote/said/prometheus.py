"""Metrics in Prometheus' text format: what moved between two readings of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client.parser import text_string_to_metric_families

from inferload.records.server import SaidMetric
from inferload.targets.remote.said.histograms import quantile_of
from inferload.targets.remote.said.known import REQUESTS, TIMES, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# So many are kept, and so many of one name before they are added up.
MOST = 40
_MOST_OF_A_NAME = 4
# The parser takes seconds for one line of many labels, and for as many lines as two megabytes hold.
_LONGEST_LINE, _MOST_LINES = 2048, 20_000
# Of the program that serves, and not of what it serves.
_OF_PROGRAMS = ("process_", "python_", "go_", "jvm_")
_TIME_STAMPS = ("_created", "_timestamp_seconds")
_STARTED = "process_start_time_seconds"
_OWN_PATH = "/metrics"
_MODEL_LABELS = ("model_name", "model")
_KINDS: dict[str, Literal["counter", "gauge", "histogram"]] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "histogram",  # whose own quantiles are of all time
}
_UNITS: tuple[tuple[str, Literal["ms", "B"], float], ...] = (
    ("_seconds", "ms", 1e3),
    ("_milliseconds", "ms", 1.0),
    ("_ms", "ms", 1.0),
    ("_microseconds", "ms", 1e-3),
    ("_us", "ms", 1e-3),
    ("_bytes", "B", 1.0),
)

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Series:
    """The numbers of one set of labels; ``buckets``: cumulative counts by upper edges."""

    value: float = 0.0
    total: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)

    def add(self, other: Series, times: int = 1) -> None:
        """Add another one, or take it away."""
        self.value += times * other.value
        self.total += times * other.total
        for edge, count in other.buckets.items():
            self.buckets[edge] = self.buckets.get(edge, 0.0) + times * count


@dataclass(slots=True)
class Family:
    """All series of a name."""

    kind: Literal["counter", "gauge", "histogram"]
    series: dict[Labels, Series] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What moved between two readings.

    ``other_process``: they are not of one process that went on counting.
    """

    metrics: tuple[SaidMetric, ...] = ()
    left: int = 0
    requests: int | None = None
    counted_by: str | None = None
    other_process: bool = False


def read(text: str) -> dict[str, Family]:
    """The metrics in a text that may be of a model, by their names.

    Raises:
        ValueError: it is no such text.
    """
    text = "\n".join([one for one in text.split("\n") if len(one) <= _LONGEST_LINE][:_MOST_LINES])
    declared = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    found: dict[str, Family] = {}
    for one in text_string_to_metric_families(text):
        kind, name = _KINDS.get(one.type), one.name
        if kind is None and name.endswith("_total"):  # of no declared type
            kind = "counter"
        elif kind == "counter" and name not in declared:  # the parser takes that ending away
            name += "_total"
        own = not name.startswith(_OF_PROGRAMS) and not name.endswith(_TIME_STAMPS)
        if kind is None or not (own or name == _STARTED):
            continue
        family = found.setdefault(name, Family(kind))
        for sample in one.samples:
            _note(family, sample.name.removeprefix(one.name), sample)
    return found


def _note(family: Family, ending: str, sample: Any) -> None:
    labels = dict(sample.labels)
    edge = labels.pop("le", None)
    own = _OWN_PATH in labels.values()  # nobody but who reads the metrics asks for them
    if own or "quantile" in labels or not math.isfinite(sample.value):
        return
    series = family.series.setdefault(tuple(sorted(labels.items())), Series())
    value = float(sample.value)
    if ending == "_bucket" and edge is not None:
        series.buckets[float(edge)] = value
    elif ending == "_sum":
        series.total = value
    elif ending in {"", "_total", "_count"}:
        series.value = value


def moved(before: Mapping[str, Family], after: Mapping[str, Family], model: str | None) -> Moved:
    """What moved from one reading to the next; of ``model`` alone where series name models."""
    names = {value for one in after.values() for labels in one.series for value in _models(labels)}
    own = {model} if model in names else names
    rows: list[SaidMetric] = []
    sums: dict[str, float] = {}
    fell = False
    for name, family in after.items():
        old = before.get(name, Family(family.kind)).series
        if name == _STARTED:
            fell |= name in before and old != family.series
            continue
        changes: dict[Labels, Series] = {}
        for labels, series in family.series.items():
            if own.isdisjoint(_models(labels)) and any(_models(labels)):
                continue
            change = Series()
            change.add(series)
            change.add(old.get(labels, Series()), -1)
            fell |= family.kind != "gauge" and change.value < 0
            if change.value > 0 or (change.value and family.kind == "gauge"):
                changes[labels] = series if family.kind == "gauge" else change
        sums[name] = sum(one.value for one in changes.values())
        rows += _rows(name, family.kind, changes)
    if fell:
        return Moved(other_process=True)
    places = {name: place for place, name in enumerate(WORDS)}
    rows = [_with_mean(one, sums) for one in rows]
    rows.sort(key=lambda one: places.get(one.name, len(places)))
    counted_by = next((name for name in REQUESTS if name in sums), None)
    return Moved(
        metrics=tuple(rows[:MOST]),
        left=max(len(rows) - MOST, 0),
        requests=None if counted_by is None else round(sums[counted_by]),
        counted_by=counted_by,
    )


def _models(labels: Labels) -> Iterator[str]:
    return (value for name, value in labels if name in _MODEL_LABELS)


def _rows(
    name: str, kind: Literal["counter", "gauge", "histogram"], changes: dict[Labels, Series]
) -> Iterator[SaidMetric]:
    if kind != "gauge" and len(changes) > _MOST_OF_A_NAME:
        whole = Series()
        for one in changes.values():
            whole.add(one)
        changes = {(): whole}
    alike = set.intersection(*map(set, changes)) if changes else set()
    for labels, series in changes.items():
        yield _row(name, kind, tuple(one for one in labels if one not in alike), series)


def _row(
    name: str, kind: Literal["counter", "gauge", "histogram"], labels: Labels, series: Series
) -> SaidMetric:
    unit, scale = _unit_of(name)
    count = series.value
    if kind != "histogram":
        return SaidMetric(
            name=name,
            kind=kind,
            value=count * scale,
            labels=labels,
            words=WORDS.get(name),
            unit=unit,
        )
    edges = [edge for edge in series.buckets if edge != math.inf]
    quantiles = [quantile_of(series.buckets, q) for q in (0.5, 0.9, 0.99)]
    p50, p90, p99 = (None if one is None else one * scale for one in quantiles)
    return SaidMetric(
        name=name,
        kind=kind,
        value=count,
        labels=labels,
        words=WORDS.get(name),
        unit=unit,
        mean=series.total / count * scale,
        p50=p50,
        p90=p90,
        p99=p99,
        smallest=min(edges) * scale if edges else None,
        largest=max(edges) * scale if edges else None,
    )


def _unit_of(name: str) -> tuple[Literal["", "ms", "B"], float]:
    for ending, unit, scale in _UNITS:
        if name.removesuffix("_total").endswith(ending):
            return unit, scale
    return "", 1.0


def _with_mean(one: SaidMetric, sums: Mapping[str, float]) -> SaidMetric:
    """Of a counter of time, how much of it each request took, where that is counted."""
    if one.kind != "counter" or one.unit != "ms" or one.labels:
        return one
    by = next((counter for start, counter in TIMES.items() if one.name.startswith(start)), "")
    requests = sums.get(by, 0.0)
    if not requests:
        return one
    return replace(one, mean=one.value / requests)
