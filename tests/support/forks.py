"""Processes that ``multiprocessing`` spawns, forked from one that has imported torch already.

To import torch takes most of a second of processor time, and the tests start hundreds of processes
that do. Here a process is as a spawned one in what tests look at: a child of its starter, with its
working directory, environment, signals, cores, umask and the same open files, and it imports the
starter's main module and reads its orders by ``multiprocessing``'s own code. Where environment
variables, limits or arguments differ that are read when a program begins, it is spawned.

It is not as a spawned one in this: ``hash`` of a text is the same in all of them, more modules are
imported, and ``/proc`` has the command line of this file and the environment of its beginning. What
depends on that is held by programs that are started: help and imports by test_imports.py, ranks
that must agree by one test of test_torchrun.py and one of test_hosts.py, what a model finds around
it by one of test_model_process.py, terminals by test_files_and_terminals.py, crashes by
test_crashes.py.
"""

from __future__ import annotations

import array
import ctypes
import inspect
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing import util
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVER = Path(__file__).with_name("fork_server.py")
_PR_SET_CHILD_SUBREAPER = 36
# Arguments of a Popen with which a program may be forked, as its subclass is given them.
_AS_BY_ITSELF = {
    "shell": False, "preexec_fn": None, "pass_fds": (), "close_fds": True, "uid": None,
    "gid": None, "gids": None, "umask": -1,
}  # fmt: skip
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
# What is read once, when the interpreter or a library is loaded, and what of that can be set later:
# paths are handed on, torch is told of its threads, and no test has NCCL.
_READ_AT_START = (
    "PYTHON", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "TORCH_", "LD_", "CUDA", "PYTORCH_",
    "HF_", "TZ", "LC_", "LANG", "MALLOC_",
)  # fmt: skip
_SET_LATER = ("PYTHONPATH", "OMP_NUM_THREADS", "TORCH_NCCL_ASYNC_ERROR_HANDLING")
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
# What examples/minilm.py and the export of a model come to; to import all that takes seconds.
OF_MINILM = (
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "torch._inductor.compile_fx",
)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_START) and name not in _SET_LATER
    }


class Forks:
    """Stands for ``multiprocessing.util.spawnv_passfds``.

    ``server`` is where one is already; ``within``, a command that starts another one elsewhere.
    """

    def __init__(self, server: socket.socket | None = None, *, within: Sequence[str] = ()) -> None:
        self.spawned = util.spawnv_passfds
        self._within = within
        self._server: subprocess.Popen[bytes] | None = None
        self._here = server
        self._began = self._state(os.environ)
        self._one_at_a_time = threading.Lock()

    @staticmethod
    def _state(environment: Mapping[str, str]) -> tuple[object, ...]:
        return _read_at_start(environment), [resource.getrlimit(one) for one in _LIMITS]

    def __call__(self, path: Any, args: Sequence[Any], passfds: Sequence[int]) -> int:
        """Start a process; its number."""
        words = [os.fsdecode(one) for one in args]
        code = next((one for one in words if "spawn_main" in one or "orders.follow" in one), None)
        if code is None or self._state(os.environ) != self._began:
            return self.spawned(path, args, passfds)
        return self._forked(
            code, ["-c", "--multiprocessing-fork"], {n: n for n in (0, 1, 2, *passfds)}
        )

    def import_before(self, *names: str) -> None:
        """Have processes that are forked from now on find these modules imported as well."""
        with self._one_at_a_time:
            here = self._here or self._start()
            here.send(json.dumps({"imports": names}).encode())
            here.recv(64)

    def script(self, path: Path, output: IO[bytes]) -> int:
        """Run a script of Python with what it writes going to a file; its exit code."""
        code = "import runpy, sys; runpy.run_path(sys.argv[0], run_name='__main__')"
        files = {0: 0, 1: output.fileno(), 2: output.fileno()}
        _, status = os.waitpid(self._forked(code, [str(path)], files), 0)
        return os.waitstatus_to_exitcode(status)

    def program(
        self,
        words: Sequence[str],
        files: dict[int, int],
        *,
        environment: Mapping[str, str],
        folder: str,
        new_session: bool,
    ) -> int | None:
        """Start ``python -m MODULE`` or ``python FILE.py``; ``None`` where that cannot be forked.

        The processes that it spawns are forked, too, from one that is forked as it begins.
        """
        if list(words[:1]) != [sys.executable] or self._state(environment) != self._began:
            return None
        unbuffered = list(words[1:2]) == ["-u"]
        rest = list(words[2:] if unbuffered else words[1:])
        if rest[:1] == ["-m"]:
            first, argv = folder, rest[1:]
            code = f"runpy.run_module({rest[1]!r}, run_name='__main__', alter_sys=True)"
        elif rest and rest[0].endswith(".py"):
            first, argv = str(Path(folder, rest[0]).parent), rest
            code = "runpy.run_path(sys.argv[0], run_name='__main__')"
        else:
            return None
        return self._forked(
            f"import runpy, sys; {code}",
            argv,
            files,
            environment=dict(environment),
            folder=folder,
            program={"first": first, "session": new_session, "unbuffered": unbuffered},
        )

    def _forked(self, code: str, argv: list[str], files: dict[int, int], **more: object) -> int:
        """Fork a process that runs code with these files under these numbers; its number."""
        ignored = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
        request = {
            "code": code,
            "argv": argv,
            "environment": dict(os.environ),
            "folder": os.getcwd(),  # noqa: PTH109
            "cores": sorted(os.sched_getaffinity(0)),
            "umask": _umask(),
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "ignored": sorted(ignored),
            "numbers": list(files),
            **more,
        }
        with self._one_at_a_time:
            here = self._here or self._start()
            _become_reaper(yes=True)  # a process whose parent ends becomes this one's child
            try:
                rights = array.array("i", files.values())
                here.sendmsg(
                    [json.dumps(request, default=int).encode()],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
                )
                return int(here.recv(64))
            finally:
                _become_reaper(yes=False)

    def _start(self) -> socket.socket:
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server = subprocess.Popen(
            [*self._within, sys.executable, str(SERVER), str(there.fileno())],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
        )
        there.close()
        return self._here

    def end(self) -> None:
        """End the process that others are forked from."""
        if self._server is not None and self._here is not None:
            self._here.close()
            self._server.wait()


class Forked(subprocess.Popen):
    """A program of Python that is forked where it can be, and started where not."""

    forks: ClassVar[Forks | None] = None

    def __init__(self, *given: Any, forks: Forks | None = None, **named: Any) -> None:
        self._forks = forks or self.forks
        super().__init__(*given, **named)

    def _execute_child(self, *given: Any) -> None:
        start = subprocess.Popen._execute_child
        known = inspect.signature(start).bind(self, *given).arguments
        pipes = [known[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        files = {n: n if pipe == -1 else pipe for n, pipe in enumerate(pipes)}
        pid = None
        as_by_itself = {name: known[name] for name in _AS_BY_ITSELF} == _AS_BY_ITSELF
        if self._forks is not None and as_by_itself:
            pid = self._forks.program(
                [os.fsdecode(one) for one in known["args"]],
                files,
                environment=os.environ if known["env"] is None else known["env"],
                folder=os.path.abspath(known["cwd"] or os.getcwd()),  # noqa: PTH100, PTH109
                new_session=bool(known["start_new_session"]),
            )
        if pid is None:
            start(self, *given)
            return
        self.pid, self._child_created = pid, True
        self._close_pipe_fds(*(known[name] for name in _PIPES))


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def _become_reaper(*, yes: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)
