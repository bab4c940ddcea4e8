"""Signs that stand for those that a terminal cannot show, as it is no UTF-8, or must not obey."""

from __future__ import annotations

import codecs
import unicodedata
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment

from inferload.units import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType

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


class SafeConsole(Console):
    """A console on which no text moves the cursor or sets a title: models and files name things."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is drawn, piece by piece; line feeds and rich's own controls stay."""
        for piece in super().render(renderable, options):
            lines = piece.text.split("\n")
            if piece.control or all(line.isprintable() for line in lines):
                yield piece
            else:
                yield Segment("\n".join(map(printable, lines)), piece.style)


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
