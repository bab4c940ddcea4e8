"""Programs beside this one: which core each has, how they are started and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_START_S = 30.0


def cores() -> tuple[int, int]:
    """One for who asks, and one for the server."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit("a core for the server and one for who asks are needed, and here is one")
    return usable[0], usable[1]


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def program(module: str, *args: object) -> list[str]:
    """A program of this folder, as words."""
    return [sys.executable, "-m", f"serving.{module}", *map(str, args)]


def environment(**more: str) -> dict[str, str]:
    """This one's without proxies, with this folder's programs and what this process imports."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    own = str(Path(__file__).resolve().parents[1])
    path = [own, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), **more}


class Ended(Exception):  # noqa: N818 - what is told of a program
    """A program ended badly, or not in time."""


def output_of(
    words: Sequence[str],
    *,
    core: int | None,
    limit_s: float,
    env: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> str:
    """What a program prints, all its children on one core where that is given.

    Raises:
        Ended: saying how.
    """
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment() if env is None else dict(env),
        cwd=folder,
        start_new_session=True,
    ) as process:
        _hold(process, core)
        try:
            printed, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise Ended(f"{words[0]} had not ended after {limit_s:g} s") from None
        finally:
            with suppress(ProcessLookupError):  # with what it has started
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise Ended(f"{words[0]} ended with {process.returncode}: {printed[-2000:]}")
    return printed


@contextmanager
def served(words: Sequence[str], port: int, core: int) -> Iterator[None]:
    """A server that answers, on a core of its own, until the block ends."""
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, env=environment(), start_new_session=True
    ) as process:
        _hold(process, core)
        try:
            ends = time.monotonic() + _START_S
            while not _answers(port):
                if time.monotonic() > ends or process.poll() is not None:
                    raise SystemExit(f"the server did not start: {' '.join(words)}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _hold(process: subprocess.Popen[str] | subprocess.Popen[bytes], core: int | None) -> None:
    """Keep a program that was just started, and all that it will start, on a core."""
    if core is not None:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, {core})


def _answers(port: int) -> bool:
    address = f"http://127.0.0.1:{port}/health"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError), opener.open(address, timeout=1) as answer:
        return bool(answer.status == 200)
    return False
