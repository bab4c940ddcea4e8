"""Server-sent events from chunks of bytes, by the WHATWG's definition of an event stream."""

from __future__ import annotations

from inferload.targets.remote.failures import CutOff, ServerError, words_of

_MARK = b"\xef\xbb\xbf"  # of the order of bytes, which may stand at the beginning


class Events:
    """The events of one stream, fed with what arrives.

    Comments, which keep connections alive, are no events.
    """

    def __init__(self) -> None:
        #: What came of a line that has not ended yet.
        self._parts: list[bytes] = []
        self._data = bytearray()
        self._name = b""
        self._after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event whose blank line is there now.

        Raises:
            ServerError: an event is named an error.
        """
        if not chunk:
            return []
        # a line ends in CR LF, LF or CR, and the LF after a CR may come by itself
        text = chunk.removeprefix(b"\n") if self._after_cr else chunk
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._parts.append(text)
        if b"\n" not in text:
            return []
        *lines, rest = b"".join(self._parts).split(b"\n")
        self._parts = [rest]
        found = []
        for line in lines:
            if not self._begun:
                line, self._begun = line.removeprefix(_MARK), True  # noqa: PLW2901 - the first alone
            if not line:
                found += self._ended()
            elif line.startswith(b"data:"):
                self._data += line[6:] if line[5:6] == b" " else line[5:]
                self._data += b"\n"
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()
        return found

    def _ended(self) -> list[bytes]:
        """The event that has ended, if it has data."""
        data, name = bytes(self._data[:-1]), self._name
        there = bool(self._data)
        self._data.clear()
        self._name = b""
        if there and name == b"error":
            raise ServerError(f"an event tells an error: {words_of(data)}")
        return [data] if there else []

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            CutOff: the stream ended within an event.
        """
        if self._data or b"".join(self._parts).strip():
            raise CutOff("the stream ended within an event")
