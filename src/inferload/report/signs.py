"""Signs that stand for those that a terminal cannot show, where it is no UTF-8."""

from __future__ import annotations

import codecs
import unicodedata
from typing import IO

#: How a stream or a text is encoded with them: the name of an error handler.
PLAIN = "inferload-plain"

_PLAIN = {
    **dict.fromkeys("━─╌═", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("█▉▊▋▌■●", "#"),
    **dict.fromkeys("▍▎▏▪·•", "."),
    "…": "...",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "→": "->",
    "±": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "µ": "u",
    "μ": "u",
    "≤": "<=",
    "≥": ">=",
}


def showable(text: str, stream: IO[str] | None) -> str:
    """A text as a stream can take it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, PLAIN).decode(encoding)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_sign, error.object[error.start : error.end])), error.end


def _sign(sign: str) -> str:
    """What stands for a sign in ASCII."""
    if sign in _PLAIN:
        return _PLAIN[sign]
    bare = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    if bare:
        return bare
    box = 0x2500 <= ord(sign) < 0x2580  # corners and crossings of tables
    return "+" if box else sign.encode("ascii", "backslashreplace").decode()


codecs.register_error(PLAIN, _plain)
