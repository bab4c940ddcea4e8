"""Calls that are cancelled when they take too long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from inferload.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class TimedOut(TimeoutError):  # noqa: N818 - what the log calls it
    """A call took longer than it may, and was cancelled."""


def limited(call: Callable[[], Awaitable[Any]], timeout_ns: int) -> Callable[[], Awaitable[Any]]:
    """The call, which raises :class:`TimedOut` in place of going on for longer than this."""
    timeout_s = timeout_ns / NS_PER_S

    async def within() -> Any:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        cancelled = False

        def cancel() -> None:
            nonlocal cancelled
            cancelled = True
            if task is not None:
                task.cancel()

        began = loop.time()
        handle = loop.call_later(timeout_s, cancel)
        try:
            output = await call()
        except asyncio.CancelledError as error:
            if not cancelled:
                raise
            raise TimedOut(
                f"had not returned after {timeout_s:.3g} s, and was cancelled"
            ) from error
        finally:
            handle.cancel()
            if cancelled and task is not None and hasattr(task, "uncancel"):  # Python 3.11
                task.uncancel()
        if cancelled or loop.time() - began > timeout_s:  # it would not be, or held up the loop
            raise TimedOut(f"returned, but had not after {timeout_s:.3g} s")
        return output

    return within
