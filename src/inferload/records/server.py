"""Pure data: what a run knows of a server, and what became of its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerModel:
    """What a server says of a model.

    ``inputs`` and ``outputs`` in words, such as ``input_ids: INT64 [-1, -1]``.
    """

    name: str
    versions: tuple[str, ...] = ()
    platform: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """Which server was asked, and how.

    ``headers``: names and values as they were given, without the secrets that these stand for.
    ``http``: the version of HTTP that is spoken. ``insecure``: its certificate was not verified.
    ``body`` as it was given; ``answer_bytes``: where more or fewer were allowed than usual.
    """

    url: str
    protocol: str
    http: str
    connections: str
    headers: tuple[tuple[str, str], ...] = ()
    insecure: bool = False
    body: Any = None
    answer_bytes: int | None = None
    model: ServerModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What it took to open one connection before the run, in milliseconds.

    ``address``: the one that was connected to. ``tls_ms`` and ``tls``, the version that was agreed
    on, are ``None`` without TLS.
    """

    address: str
    resolve_ms: float
    connect_ms: float
    tls_ms: float | None = None
    tls: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidTime:
    """One stage of a server's requests, by its own count: how many, and how long in all."""

    count: int = 0
    total_ns: int = 0

    @property
    def mean_ms(self) -> float | None:
        """How long each of them took."""
        return self.total_ns / self.count / 1e6 if self.count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatistics:
    """A server's statistics of one model, in the Open Inference Protocol's extension for them.

    ``inferences``: samples, of which a request may have several; ``executions``: of the model, with
    a batch each. ``batches``: sizes of batches, and how many executions had each.
    """

    inferences: int = 0
    executions: int = 0
    success: SaidTime = SaidTime()
    fail: SaidTime = SaidTime()
    queue: SaidTime = SaidTime()
    compute_input: SaidTime = SaidTime()
    compute_infer: SaidTime = SaidTime()
    compute_output: SaidTime = SaidTime()
    batches: tuple[tuple[int, int], ...] = ()

    @property
    def mean_batch(self) -> float | None:
        """Samples in an execution."""
        return self.inferences / self.executions if self.executions else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidMetric:
    """What one of a server's metrics came to in the run.

    ``value``: by how much a counter rose, the last value of a gauge, or how many observations a
    histogram had. ``labels``: those that tell it from others of its name. ``words``: what it is,
    where that is known. ``unit``: ``"ms"``, ``"B"`` or nothing. ``mean``: of the observations; of
    a counter of time, for each request that the server counted. Quantiles are estimates by the
    histogram's buckets, whose first ends at ``smallest``, and whose last but one at ``largest``:
    below the one nothing is known of them, and beyond the other they are ``None``.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    words: str | None = None
    unit: Literal["", "ms", "B"] = ""
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    smallest: float | None = None
    largest: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSaid:
    """What a server counted while calls were measured, whoever had asked it.

    ``metrics``: those that moved; ``metrics_left``: so many more did. ``requests``: how many it
    answered, by the count named ``counted_by``. ``troubles``: what could not be read, and why.
    """

    statistics: ModelStatistics | None = None
    metrics: tuple[SaidMetric, ...] = ()
    metrics_left: int = 0
    requests: int | None = None
    counted_by: str | None = None
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSeen:
    """What the callers of one process saw of a server.

    ``opened``: connections opened while calls were measured, ``opened_ms`` what each of the first
    4,096 of them took, name, connect and TLS together, ``resolved_ms`` the part of the name, and
    ``opened_max_ms`` the most that any of them took.
    ``software``: how the server names itself. ``said``: what it counted, in the report of the first
    process alone.
    """

    reached: Reached | None = None
    software: str | None = None
    opened_before: int = 0
    opened: int = 0
    opened_ms: tuple[float, ...] = ()
    opened_max_ms: float = 0.0
    resolved_ms: tuple[float, ...] = ()
    said: ServerSaid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureFigures:
    """The failed calls of one class: how many, when first and last, from the start line.

    ``example``: the words of the first one. ``sampled``: of a run of which the log has a sample of
    the calls, by which ``calls`` are estimated.
    """

    type: str
    calls: int
    first_s: float
    last_s: float
    example: str
    sampled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """What all callers of a run saw of a server; as :class:`ServerSeen`, of all processes."""

    reached: Reached | None = None
    software: str | None = None
    opened_before: int = 0
    opened: int = 0
    open_p50_ms: float | None = None
    open_max_ms: float | None = None
    resolve_p50_ms: float | None = None
    said: ServerSaid | None = None
