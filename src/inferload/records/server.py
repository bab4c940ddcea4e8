"""Pure data: what a run knows of a server, and what became of its requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
class ServerSeen:
    """What the callers of one process saw of a server.

    ``opened``: connections opened while calls were measured, ``opened_ms`` what each of a sample of
    them took, name, connect and TLS together, and ``resolved_ms`` the part of the name.
    ``software``: how the server names itself.
    """

    reached: Reached | None = None
    software: str | None = None
    opened_before: int = 0
    opened: int = 0
    opened_ms: tuple[float, ...] = ()
    resolved_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureFigures:
    """The failed calls of one class: how many, when first and last, from the start line.

    ``example``: the words of the first one.
    """

    type: str
    calls: int
    first_s: float
    last_s: float
    example: str


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
    said: dict[str, Any] = field(default_factory=dict)
