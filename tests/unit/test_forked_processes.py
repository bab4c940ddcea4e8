"""Processes that tests fork where the program spawns them see what spawned ones see."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.util
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from inferload.callers.processes.early import OrderedProcess
from support.forks import Forked
from support.program import run

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from support.forks import Forks

pytestmark = pytest.mark.multiprocess

LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


def tell(connection: Connection, code: int) -> None:
    """What this process sees; it ends with an exit code."""
    seen = {
        "parent": os.getppid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "folder": os.getcwd(),  # noqa: PTH109
        # readline, which pytest imports, sets these two
        "environment": {k: v for k, v in os.environ.items() if k not in {"LINES", "COLUMNS"}},
        "cores": os.sched_getaffinity(0),
        "umask": os.umask(0o022),
        "limits": [resource.getrlimit(one) for one in LIMITS],
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "signals": [
            signal.getsignal(one) in {signal.SIG_DFL, signal.default_int_handler}
            for one in sorted(signal.valid_signals())
        ],
        "argv": sys.argv,
        "path": sys.path,
        "start method": multiprocessing.get_start_method(allow_none=True),
        "files": [str(Path(f"/proc/self/fd/{number}").readlink()) for number in (0, 1, 2)],
        "torch": "torch" in sys.modules,
    }
    connection.send((seen, len(os.listdir("/proc/self/fd"))))  # noqa: PTH208
    sys.exit(code)


def told(code: int = 0) -> tuple[dict[str, object], int]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = OrderedProcess(target=tell, args=(there, code))
    process.start()
    there.close()
    seen, files = here.recv()
    process.join()
    assert process.exitcode == code
    return seen, files


@pytest.fixture
def spawned(forks: Forks):
    return mock.patch.object(multiprocessing.util, "spawnv_passfds", forks.spawned)


def test_a_forked_process_sees_what_a_spawned_one_sees(spawned, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MADE", "up")
    monkeypatch.setattr(sys, "argv", ["a", "b"])
    umask = os.umask(0o077)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    ignored = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        forked, its_files = told(7)
        with spawned:
            real, files = told(7)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGUSR1, ignored)
        os.sched_setaffinity(0, cores)
        os.umask(umask)
    assert (forked.pop("torch"), real.pop("torch")) == (True, False)
    assert forked == real
    assert its_files == files


def test_a_forked_process_dies_of_a_signal_as_a_spawned_one():
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=time.sleep, args=(60,))
    process.start()
    process.kill()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_what_is_read_when_a_program_begins_is_read(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    assert not told()[0]["torch"]


SEES = """
import json, os, signal, sys
print(json.dumps({
    "argv": sys.argv, "first": sys.path[0], "name": __name__, "folder": os.getcwd(),
    "made": os.environ.get("MADE"), "session": os.getsid(0) == os.getpid(),
    "parent": os.getppid(), "read": sys.stdin.read(),
    "interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "main": os.path.abspath(sys.modules["__main__"].__file__),
}))
print("said", file=sys.stderr)
sys.exit(5)
"""


@pytest.mark.parametrize("words", [("-m", "sees", "a"), ("sees.py", "a", "b")])
@pytest.mark.parametrize("new_session", [False, True])
def test_a_forked_program_sees_what_a_started_one_sees(words, new_session, tmp_path):
    (tmp_path / "sees.py").write_text(SEES)

    def told(start: type[subprocess.Popen]) -> tuple[object, ...]:
        with start(
            [sys.executable, *words],
            cwd=tmp_path,
            env=os.environ | {"MADE": "up"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=new_session,
        ) as process:
            shown, said = process.communicate("what is read")
        return json.loads(shown), said, process.returncode

    assert told(Forked) == told(subprocess.Popen)


def test_a_program_in_another_environment_of_libraries_is_started(tmp_path):
    (tmp_path / "has.py").write_text("import sys\nsys.exit('torch' in sys.modules)\n")
    words = [sys.executable, "has.py"]
    for more, forked in (({}, True), ({"MKL_NUM_THREADS": "3"}, False)):
        with Forked(words, cwd=tmp_path, env=os.environ | more) as process:
            assert process.wait() == forked
    with Forked(words, cwd=tmp_path, umask=0o077) as process:  # an argument that is not followed
        assert process.wait() == 0


def test_forked_programs_draw_numbers_of_their_own(tmp_path):
    (tmp_path / "draws.py").write_text(
        "import numpy, random\nprint(numpy.random.rand(), random.random())\n"
    )
    drawn = [run([sys.executable, "draws.py"], cwd=tmp_path).stdout.split() for _ in range(2)]
    assert not set(drawn[0]) & set(drawn[1])


def test_threads_of_torch_are_those_that_the_environment_says(tmp_path):
    (tmp_path / "has.py").write_text("import sys, torch\nsys.exit(torch.get_num_threads())\n")
    for threads in (1, 3):
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with Forked([sys.executable, "has.py"], cwd=tmp_path, env=environment) as process:
            assert process.wait() == threads
