"""Server-sent events from chunks of bytes, by the WHATWG's definition of an event stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.targets.remote.failures import CutOff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event, as soon as the blank line that ends it is there.

    Comments, which keep connections alive, are no events.

    Raises:
        CutOff: the stream ended within an event.
    """
    rest, data, after_cr = b"", bytearray(), False
    async for chunk in chunks:
        if not chunk:
            continue
        # a line ends in CR LF, LF or CR, and the LF after a CR may come by itself
        text = rest + (chunk.removeprefix(b"\n") if after_cr else chunk)
        after_cr = chunk.endswith(b"\r")
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        for line in lines:
            if not line:
                if data:
                    yield bytes(data[:-1])
                    data.clear()
            elif line.startswith(b"data:"):
                data += line[6:] if line[5:6] == b" " else line[5:]
                data += b"\n"
    if data or rest.strip():
        raise CutOff("the stream ended within an event")
