"""A scripted server in a process of its own, which can be killed while it is asked.

    python -m support.server_process HOST PORT [dies-at N | silent-from N]

It writes a line when it listens and one for each request that it takes. At request N, counted from
1, it is ended by SIGKILL, or from then on it answers nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.gates import until
from support.real_servers import free_port
from support.scripted_server import Asked, ScriptedServer, at_once

# An answer takes so long, so that a closed loop does not take a core of a busy machine.
_ANSWER_S = 0.002


def serve(host: str, port: str, how: str = "", number: str = "0") -> None:
    at = int(number)

    async def script(asked: Asked) -> None:
        taken = asked.number + 1
        print(taken, flush=True)
        if how == "dies-at" and taken == at:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(3600 if how == "silent-from" and taken >= at else _ANSWER_S)
        await at_once(asked)

    server = ScriptedServer(script, host=host)
    server.port = int(port)
    server.start()
    print("listens", flush=True)
    signal.pause()


class ServerProcess:
    """One process after another at one port; what they write goes to a file."""

    def __init__(
        self, log: Path, *, host: str = "127.0.0.1", within: Sequence[str] = (), port: int = 0
    ) -> None:
        self.host, self.port = host, port or free_port()
        self.url = f"http://{host}:{self.port}/x"
        self._log, self._within = log, within
        self.process: subprocess.Popen | None = None

    def start(self, *how: object) -> None:
        """Another process, when it listens."""
        self.stop()
        with self._log.open("wb") as output:
            words = ["-m", "support.server_process", self.host, str(self.port), *map(str, how)]
            self.process = subprocess.Popen(
                [*self._within, sys.executable, *words],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=output,
            )
        until(lambda: self._lines or self.process.poll() is not None)
        assert self._lines, "the server did not start"

    @property
    def _lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    @property
    def taken(self) -> int:
        """How many requests this process has taken."""
        return max(len(self._lines) - 1, 0)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @contextmanager
    def back_after_its_end(self) -> Iterator[None]:
        """Another process at the port, once this one has ended."""
        first = self.process

        def start() -> None:
            first.wait()
            self.start()

        thread = threading.Thread(target=start, daemon=True)
        thread.start()
        yield
        thread.join()


if __name__ == "__main__":
    serve(*sys.argv[1:])
