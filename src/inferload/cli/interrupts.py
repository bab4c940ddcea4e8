"""Ctrl-C and SIGTERM where they would be swallowed or do harm: put off until they can be heard.

That is while torch is imported, whose initialisers end the process by ``std::terminate``, and while
typer reads the arguments, which would exit without a word.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class PutOff:
    """Both signals are only noted while this is entered.

    Raises:
        KeyboardInterrupt: when it is left, if one came.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Hear signals again, also one that came; nothing the second time."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._came:
            self._came = False
            raise KeyboardInterrupt

    def _note(self, number: int, frame: Any) -> None:
        del number, frame
        self._came = True


#: Entered when the command line starts, and ended when a command does.
until_command = PutOff()
