"""Server-sent events from chunks of bytes, by the WHATWG's definition of an event stream."""

from __future__ import annotations

from inferload.targets.remote.failures import CutOff


class Events:
    """The events of one stream, fed with what arrives.

    Comments, which keep connections alive, are no events.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data = bytearray()
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event whose blank line is there now."""
        if not chunk:
            return []
        # a line ends in CR LF, LF or CR, and the LF after a CR may come by itself
        text = self._rest + (chunk.removeprefix(b"\n") if self._after_cr else chunk)
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = text.split(b"\n")
        found, data = [], self._data
        for line in lines:
            if not line:
                if data:
                    found.append(bytes(data[:-1]))
                    data.clear()
            elif line.startswith(b"data:"):
                data += line[6:] if line[5:6] == b" " else line[5:]
                data += b"\n"
        return found

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            CutOff: the stream ended within an event.
        """
        if self._data or self._rest.strip():
            raise CutOff("the stream ended within an event")
