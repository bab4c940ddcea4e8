"""What is shown while a run goes on: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from inferload.units import duration_text, rate_text

if TYPE_CHECKING:
    from rich.console import Console

LIVE_INTERVAL_S = 0.2
PLAIN_INTERVAL_S = 5.0
BAR_CELLS = 24


class Progress:
    """Shows stages, calls, rate and time left on a console.

    It draws only when it is told something, from the thread that tells it: no thread of its own
    competes with the callers.
    """

    def __init__(self, console: Console, calls: int | None, duration_s: float | None) -> None:
        self._console = console
        self._calls = calls
        self._duration_s = duration_s
        self._live: Live | None = None
        self._next_s = 0.0

    def stage(self, text: str) -> None:
        """Show what the run is doing now."""
        if self._console.is_terminal:
            self._draw(text)
        else:
            self._console.print(Text(text))

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """Show how far the measured part has come; drawn only every so often."""
        now = time.monotonic()
        if now < self._next_s:
            return
        terminal = self._console.is_terminal
        self._next_s = now + (LIVE_INTERVAL_S if terminal else PLAIN_INTERVAL_S)
        if elapsed_s < PLAIN_INTERVAL_S / 2 and not terminal:
            return
        line = self.line(finished_calls, elapsed_s)
        if terminal:
            self._draw(line)
        else:
            self._console.print(Text(line))

    def line(self, finished_calls: int, elapsed_s: float) -> str:
        """The line that :meth:`progress` shows."""
        done = (
            finished_calls / self._calls
            if self._calls
            else elapsed_s / self._duration_s
            if self._duration_s
            else 0.0
        )
        rate = finished_calls / elapsed_s if elapsed_s > 0 else 0.0
        parts = [f"{finished_calls:,} calls", f"{rate_text(rate)}/s"]
        if 0 < done < 1:
            parts.append(f"{duration_text(elapsed_s / done - elapsed_s)} left")
        filled = round(min(done, 1) * BAR_CELLS)
        bar = "━" * filled + "╌" * (BAR_CELLS - filled)
        return f"{bar} {min(done, 1):4.0%}  {', '.join(parts)}"

    def close(self) -> None:
        """Take the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, text: str) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)


class StudyProgress:
    """Shows a study: what it found as lines that stay, the run it is at as a live line below.

    Elsewhere than on a terminal a line for each run, and one for what it found.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Progress(console, None, None)
        self._doing = ""

    def begins(self, text: str) -> None:
        """Show what the study does now."""
        self._doing = text
        self._live.stage(text)

    def found(self, text: str) -> None:
        """Show what came of it."""
        self._live.close()
        self._console.print(Text(text))

    def stage(self, text: str) -> None:
        """Show what a run is doing, where lines can be written over."""
        if self._console.is_terminal:
            self._live.stage(f"{self._doing}: {text}")

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        """Show how far a run has come, where lines can be written over."""
        if self._console.is_terminal:
            self._live.stage(f"{self._doing}: {finished_calls:,} calls, {elapsed_s:.1f} s")

    def close(self) -> None:
        """Take the live line away."""
        self._live.close()
