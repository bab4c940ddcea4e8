"""What servers count, read when calls begin to be measured and when the last one has ended.

Whoever watches a run reads it, and not the processes of its callers: it knows when all of them are
ready and when all are done, and torch is not needed for it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferload.records.server import ModelStatistics, ServerSaid
from inferload.targets.remote.failures import MALFORMED, RemoteFailure
from inferload.targets.remote.said.pages import (
    NotOfferedError,
    metrics_page,
    statistics_page,
)
from inferload.targets.remote.said.prometheus import Family, Moved, moved, read
from inferload.targets.remote.said.statistics import counted_between, statistics_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferload.records.server import ServerSpec
    from inferload.targets.remote.said.pages import Page

# A run is held up no longer: before it begins, and in all.
_BEFORE_S, _IN_ALL_S = 0.9, 1.9
# Servers count a request a moment after they have answered it.
_SETTLE_S = 0.05
_OTHER_PROCESS = (
    "its counters went back: it was started again, or has several processes that each count for "
    "themselves"
)


@dataclass(frozen=True, slots=True)
class _Read:
    """A page as it was read; ``content`` or why there is none, ``offered`` if it seems to exist."""

    content: bytes | None = None
    why: str = ""
    offered: bool = True


class ServersCount:
    """The counts of all servers of a run."""

    def __init__(self, specs: Sequence[ServerSpec]) -> None:
        self._specs = specs
        self._pages = [(statistics_page(one), metrics_page(one)) for one in specs]
        self._before: dict[Page, _Read] = {}
        self._after: dict[Page, _Read] = {}
        self._took_s = 0.0

    def note_before(self) -> None:
        """Read them: all callers have warmed up, and no call is measured yet."""
        pages = [page for own in self._pages for page in own if page is not None]
        self._before = self._read(pages, _BEFORE_S)

    def note_after(self) -> None:
        """Read again what could be read: the last call has ended."""
        pages = [page for page, one in self._before.items() if one.content is not None]
        self._after = self._read(pages, _IN_ALL_S - self._took_s)

    def _read(self, pages: Sequence[Page], limit_s: float) -> dict[Page, _Read]:
        began = time.monotonic()
        if pages:
            time.sleep(_SETTLE_S)
        found = _read_within(limit_s - _SETTLE_S, list(dict.fromkeys(pages)))
        self._took_s += time.monotonic() - began
        return found

    def said(self) -> tuple[ServerSaid | None, ...]:
        """Of each server, what it counted in between."""
        return tuple(
            self._said(spec, statistics, metrics)
            for spec, (statistics, metrics) in zip(self._specs, self._pages, strict=True)
        )

    def _said(
        self, spec: ServerSpec, statistics: Page | None, metrics: Page | None
    ) -> ServerSaid | None:
        troubles: list[str] = []
        name = None if spec.model is None else spec.model.name
        counted, found = None, Moved()
        if (both := self._both(statistics, troubles)) is not None:
            counted = _statistics(both, name or "", troubles)
        if (both := self._both(metrics, troubles)) is not None:
            found = _moved(both, name, troubles)
        if counted is None and not found.metrics and found.requests is None and not troubles:
            return None
        own = counted is not None
        return ServerSaid(
            statistics=counted,
            metrics=found.metrics,
            metrics_left=found.left,
            requests=counted.success.count if counted is not None else found.requests,
            counted_by="success in its statistics" if own else found.counted_by,
            troubles=tuple(troubles),
        )

    def _both(self, page: Page | None, troubles: list[str]) -> tuple[Page, bytes, bytes] | None:
        """A page before and after; where it was not there before it is not missed."""
        before = None if page is None else self._before.get(page)
        if page is None or before is None:
            return None
        if before.content is None:
            if before.offered:
                troubles.append(f"{page.name} could not be read before the run: {before.why}")
            return None
        after = self._after.get(page, _Read(why="nobody asked"))
        if after.content is None:
            troubles.append(f"{page.name} could not be read after the run: {after.why}")
            return None
        return page, before.content, after.content


def _statistics(
    both: tuple[Page, bytes, bytes], name: str, troubles: list[str]
) -> ModelStatistics | None:
    page, *bodies = both
    try:
        before = statistics_of(json.loads(bodies[0]), name)
    except (ValueError, RecursionError):
        return None  # something else is there
    try:
        found = counted_between(before, statistics_of(json.loads(bodies[1]), name))
    except (ValueError, RecursionError) as error:
        troubles.append(f"{page.name} could not be read after the run: {error}")
        return None
    if found is None:
        troubles.append(f"{page.name}: {_OTHER_PROCESS}")
    return found


def _moved(both: tuple[Page, bytes, bytes], model: str | None, troubles: list[str]) -> Moved:
    page, *bodies = both
    before, after = map(_families, bodies)
    if not before:
        return Moved()  # something else is there
    if after is None:
        troubles.append(f"{page.name} could not be read after the run: it has no metrics")
        return Moved()
    found = moved(before, after, model)
    if found.other_process:
        troubles.append(f"{page.name}: {_OTHER_PROCESS}")
    return found


def _families(body: bytes) -> Mapping[str, Family] | None:
    try:
        return read(body.decode("utf-8", "replace"))
    except MALFORMED:  # whatever a body makes of the parser
        return None


def _read_within(limit_s: float, pages: Sequence[Page]) -> dict[Page, _Read]:
    """All of the pages at once, and those of them that came in time."""
    found: dict[Page, _Read] = {}
    late = f"no answer within {limit_s:.1f} s"

    async def one(page: Page) -> None:
        try:
            found[page] = _Read(await asyncio.wait_for(page.read(limit_s), limit_s))
        except NotOfferedError as error:
            found[page] = _Read(why=str(error), offered=False)
        except asyncio.TimeoutError:
            found[page] = _Read(why=late)
        except RemoteFailure as error:
            found[page] = _Read(why=f"{type(error).__name__}, {error}")
        except Exception as error:  # noqa: BLE001 - nothing that it says may end a run
            found[page] = _Read(why=f"{type(error).__name__}: {error}")

    async def every() -> None:
        await asyncio.gather(*map(one, pages))

    if pages:
        # a thread of its own can be left behind; this one may have a loop running (a notebook)
        thread = threading.Thread(
            target=lambda: asyncio.run(every()), name="what-servers-count", daemon=True
        )
        thread.start()
        thread.join(limit_s + 0.05)
    known = dict(found)
    return {page: known.get(page, _Read(why=late)) for page in pages}
