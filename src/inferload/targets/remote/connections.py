"""The connections that callers open over HTTP, counted and timed."""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter_ns as now
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.resolver import ThreadedResolver

from inferload.records.server import ServerSeen

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult

# Times of connections are kept of so many.
_MOST_TIMES = 4096
_resolved_ns: ContextVar[int] = ContextVar("resolved_ns", default=0)


class Connections:
    """The connections that callers opened, counted and timed."""

    def __init__(self) -> None:
        self.opened = 0
        self.opened_ms: list[float] = []
        self.most_ms = 0.0
        self.resolved_ms: list[float] = []
        self._before = 0

    def add(self, took_ns: int, resolved_ns: int) -> None:
        """A connection was opened."""
        self.opened += 1
        self.most_ms = max(self.most_ms, took_ns / 1e6)
        if len(self.opened_ms) < _MOST_TIMES:
            self.opened_ms.append(took_ns / 1e6)
            self.resolved_ms.append(resolved_ns / 1e6)

    def begin(self) -> None:
        """From here on calls are measured."""
        self._before, self.most_ms = self.opened, 0.0
        self.opened_ms.clear()
        self.resolved_ms.clear()

    def seen(self) -> ServerSeen:
        """What is known of them."""
        return ServerSeen(
            opened_before=self._before,
            opened=self.opened - self._before,
            opened_ms=tuple(self.opened_ms),
            opened_max_ms=self.most_ms,
            resolved_ms=tuple(self.resolved_ms),
        )


class TimedResolver(ThreadedResolver):
    """Notes how long a name takes to have an address."""

    async def resolve(self, *args: Any, **kwargs: Any) -> list[ResolveResult]:
        """The addresses of a host."""
        began = now()
        found = await super().resolve(*args, **kwargs)
        _resolved_ns.set(now() - began)
        return found


class TimedConnector(aiohttp.TCPConnector):
    """Tells when it opens a connection; what is kept is taken without coming by here."""

    def __init__(self, connections: Connections, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._own = connections

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        _resolved_ns.set(0)
        began = now()
        found = await super()._create_connection(*args, **kwargs)
        self._own.add(now() - began, _resolved_ns.get())
        return found
