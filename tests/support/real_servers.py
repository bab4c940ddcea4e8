"""Real servers as processes of their own, with nothing left of them when a test is over."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

PROGRAMS = Path(__file__).with_name("servers")
# To import a server and load its model takes seconds, beside other work a multiple of that.
_START_S = 120.0
_END_S = 10.0
# A test run that is killed leaves its servers behind, which then end by themselves.
_LONGEST_S = 900
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def needs(*packages: str) -> None:
    """Skip a test where a server is not installed."""
    missing = [one for one in packages if find_spec(one) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install -e '.[servers]'")


def free_port() -> int:
    """A port that nobody listens at.

    It is none that the system gives to outgoing connections, of which other tests open many.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    draw = random.SystemRandom()  # tests seed the other one
    while True:
        port = draw.randrange(10_000, max(lowest, 20_000))
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


@contextmanager
def started(words: Sequence[object], *, ready: str, log: Path) -> Iterator[int]:
    """A program of ``servers`` that answers at ``ready``, until the block ends; its process."""
    program, *rest = map(str, words)
    limit = ["timeout", "--kill-after=10", str(_LONGEST_S)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*limit, sys.executable, str(PROGRAMS / program), *rest],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | _OFFLINE,
            start_new_session=True,
        )
        try:
            _until_ready(process, ready, log)
            yield process.pid
        finally:
            _end(process)


def _until_ready(process: subprocess.Popen, url: str, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with suppress(OSError), direct.open(url, timeout=5) as answer:
            if answer.status == 200:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
    pytest.fail(f"the server is not ready ({process.args}), and its log ends:\n{tail}")


def _end(process: subprocess.Popen) -> None:
    """End all processes of its session: it is the first one of a group, and some start others."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + _END_S
        while (left := _alive(process)) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not left:
            process.wait(_END_S)
            return
    raise AssertionError(f"a server left processes behind: {left}")


def _alive(process: subprocess.Popen) -> list[int]:
    process.poll()  # else it stays a zombie
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(one.pid) == process.pid and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one.pid)
    return found
