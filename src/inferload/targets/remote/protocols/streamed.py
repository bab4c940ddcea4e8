"""An answer in pieces as a server sends it, which knows its tokens when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Streamed:
    """Pieces as they come.

    ``arrived_ns``: when the piece that was given last had arrived, by the callers' clock.
    ``tokens``: how many the server says that the answer had, when it is over; ``None`` where it
    does not say.
    """

    def __init__(self, pieces: Callable[[Streamed], AsyncIterator[Any]]) -> None:
        self._pieces = pieces
        self.arrived_ns = 0
        self.tokens: int | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._pieces(self)


async def nothing(_: Streamed) -> AsyncIterator[Any]:
    """An answer that nobody takes piece by piece."""
    for piece in list[Any]():
        yield piece
