"""The runs of a study in a process of its own, which loads the model once.

A crash there ends one run and not the study: the next run has a new process. This side imports no
torch.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import signal
from contextlib import suppress
from multiprocessing import util
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.callers.processes.birth import begin, start
from inferload.errors import InferloadError, NativeBuildError, PlanError
from inferload.machine.scratch import scratch_folder
from inferload.records.endings import CallError, TargetCrashed
from inferload.runs.saved import load_result
from inferload.signals import PutOff
from inferload.studies.bench import Turn
from inferload.studies.child.environment import environment
from inferload.studies.child.given import Given
from inferload.studies.child.words import (
    CLOSE_TURNS,
    DONE,
    FAILED,
    OPEN_TURN,
    OUTPUTS,
    PROGRESS,
    RUN,
    STAGE,
    TRACED,
    TURN,
    WARMED,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from multiprocessing.connection import Connection

    from typing_extensions import Self

    from inferload.callers.crew import Observer, Preparation
    from inferload.callers.processes.birth import Birth, Group
    from inferload.plan.model import ModelSource
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.stats.slices.slice import Slice
    from inferload.stats.slices.whole import WholeOfSlices
    from inferload.studies.child.given import Within
    from inferload.studies.child.tree import Tree
    from inferload.studies.records.explanation import Traced, Work
    from inferload.studies.records.settings import Settings


# How long a process may take to end by itself.
END_S = 2.0


class ChildBench:
    """Runs in another process, one after another; a :class:`~inferload.studies.bench.Bench`.

    ``fresh``: each run has a process of its own. ``tree``: where the process finds its model.
    ``hand``: gives the bytes that make model and inputs in a process, beside a ``source`` or alone.
    ``within``: has the model and its inputs only while it runs: it is called in the process, with
    what serves them and a folder, and returns why it did not. ``environment``: what the process
    has in its environment beside what is in that of this one. ``packages``: as of ``Given``.
    """

    def __init__(
        self,
        source: ModelSource | None,
        *,
        fresh: bool = False,
        tree: Tree | None = None,
        hand: Callable[[Path], bytes] | None = None,
        within: Within | None = None,
        environment: Mapping[str, str] | None = None,
        packages: Path | None = None,
    ) -> None:
        self._source = source
        self._within = within
        self._environment, self._packages = dict(environment or {}), packages
        self._hand = hand
        self._fresh = fresh
        self._tree = tree
        self._scratch = scratch_folder()
        self._process: Any = None
        self._group: Group | None = None
        self._connection: Connection | None = None
        self._runs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end(END_S if kind is None else 0.0)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def run(self, settings: Settings, options: RunOptions, observer: Observer) -> RunResult:
        """One run with what the settings change.

        Raises:
            InferloadError: as ``il.run``.
        """
        self._runs += 1
        path = self._scratch / f"{self._runs}.json"
        return self._read(Path(self._asked(observer, RUN, options, settings, str(path))))

    def outputs(self, options: RunOptions, observer: Observer) -> Path:
        """Where the outputs of the model lie, for another bench to compare its own with.

        Raises:
            InferloadError: as ``il.run``.
        """
        path = str(self._scratch / "outputs")
        return Path(self._asked(observer, OUTPUTS, options, None, path))

    def told_apart(self, others: Path, options: RunOptions, observer: Observer) -> tuple[bool, str]:
        """Whether the outputs of the model are those of another, and that in words.

        Raises:
            InferloadError: as ``il.run``.
        """
        same, text = self._asked(observer, OUTPUTS, options, str(others), "")
        return same, text

    def traced(self, options: RunOptions, observer: Observer) -> tuple[Traced | None, Work]:
        """Where the time goes within calls, and what they compute; errors as of ``run``."""
        found: tuple[Traced | None, Work] = self._asked(observer, TRACED, options, None, None)
        return found

    def begin_opening(
        self,
        settings: Settings,
        options: RunOptions,
        cpus: Sequence[Sequence[int]],
        observer: Observer,
    ) -> None:
        """Have the process prepare calls for slices, in a process of their own; do not wait."""
        self._end()
        own = tuple(tuple(one) for one in cpus)
        self.begin_turn(None, Turn(options=options, settings=settings, cpus=own), observer)

    def opened(self, observer: Observer) -> Preparation:
        """What run the slices would be, once they are prepared.

        Raises:
            InferloadError: as ``il.run``.
        """
        found: Preparation = self._told(observer)
        return found

    def slice(self, seconds: float, warmup_calls: int, observer: Observer) -> Slice:
        """The calls of a moment.

        Raises:
            InferloadError: as ``il.run``.
        """
        return self.turn(None, seconds, warmup_calls, observer)

    def begin_turn(self, name: Hashable, turn: Turn, observer: Observer) -> None:
        """Have the process prepare calls for slices beside those that are open; do not wait."""
        self._tell(self._started(observer), OPEN_TURN, turn.options, turn, name)

    def open_turn(self, name: Hashable, turn: Turn, observer: Observer) -> Preparation:
        """Have the process prepare calls for slices beside those that are open; what run they are.

        Raises:
            InferloadError: as ``il.run``; where it is no ``PlanError``, none is open any more.
        """
        self.begin_turn(name, turn, observer)
        return self.opened(observer)

    def begin_slice(
        self, name: Hashable, seconds: float, warmup_calls: int, observer: Observer
    ) -> None:
        """Have the process call for a moment with what is open under a name; do not wait."""
        self._tell(self._started(observer), TURN, name, seconds, warmup_calls)

    def sliced(self, observer: Observer) -> Slice:
        """The calls of that moment.

        Raises:
            InferloadError: as ``il.run``; where it is no ``PlanError``, none is open any more.
        """
        found: Slice = self._told(observer)
        return found

    def turn(self, name: Hashable, seconds: float, warmup_calls: int, observer: Observer) -> Slice:
        """The calls of a moment with settings that are open; errors as of ``sliced``."""
        self.begin_slice(name, seconds, warmup_calls, observer)
        return self.sliced(observer)

    def warmed(self, observer: Observer) -> None:
        """Forget the slices there were."""
        self._asked(observer, WARMED, None, None, None)

    def close_turns(self, observer: Observer) -> dict[Hashable, WholeOfSlices]:
        """What the slices of each come to; none is open any more."""
        if self._connection is None:  # its process has ended with all of them
            return {}
        found: dict[Hashable, WholeOfSlices] = self._asked(observer, CLOSE_TURNS, None, None, None)
        return found

    def close(self) -> None:
        """End the process; the next call starts another."""
        self._end(END_S)

    def _asked(self, observer: Observer, *message: Any) -> Any:
        """What comes of something that the process is asked for."""
        self._tell(self._started(observer), *message)
        found = self._told(observer)
        if self._fresh:
            self._end(END_S)
        return found

    @staticmethod
    def _tell(connection: Connection, *message: Any) -> None:
        with suppress(OSError):  # it has died: that is seen when it is heard
            connection.send(message)

    def _told(self, observer: Observer) -> Any:
        """What comes of what the process was asked for last."""
        try:
            return self._heard(self._started(observer), observer)
        except PlanError:  # refused: nothing was run, and what is loaded is as it was
            if self._fresh:
                self._end()
            raise
        except BaseException:  # also Ctrl-C: what it is doing is of no use any more
            self._end()
            raise

    def _started(self, observer: Observer) -> Connection:
        if self._connection is None:
            observer.stage("starting a process")
            context = multiprocessing.get_context("spawn")
            self._connection, there = context.Pipe()
            content = None if self._hand is None else self._hand(self._scratch)
            given = Given(
                source=self._source,
                content=content,
                within=self._within,
                packages=self._packages,
            )
            # no process may be started that is not known here
            with PutOff(), environment(self._environment):
                self._process, self._group = start(
                    serve, there, given, str(self._scratch), self._tree
                )
            there.close()
        return self._connection

    def _heard(self, connection: Connection, observer: Observer) -> Any:
        """What the process says in the end."""
        while True:
            wait([connection, self._process.sentinel])
            try:
                word, *rest = connection.recv() if connection.poll() else (None,)
            except (EOFError, OSError):
                word, rest = None, []
            if word == STAGE:
                observer.stage(*rest)
            elif word == PROGRESS:
                observer.progress(*rest)
            elif word == DONE:
                return rest[0]
            elif word == FAILED:
                raise self._error(*rest)
            elif word is None:
                self._process.join()
                raise TargetCrashed(f"the process of the run {self._ending()}")

    def _read(self, path: Path) -> RunResult:
        """A result that the child saved; its log stays readable without its file."""
        result = load_result(path)
        for file in self._scratch.glob(f"{path.stem}.*"):
            file.unlink()
        return result

    def _error(self, kind: str, text: str, place: str | None, path: str | None) -> Exception:
        result = None if path is None else self._read(Path(path))
        if kind == "CallError":
            return CallError(text, result=result, place=place)
        if kind == "TargetCrashed":
            return TargetCrashed(text, result=result)
        for own in (PlanError, NativeBuildError):
            if kind == own.__name__:
                return own(text)
        return InferloadError(text)

    def _ending(self) -> str:
        code = self._process.exitcode or 0
        if code >= 0:
            hint = ""
            if code == 1 and self._hand is not None:  # it is a program of Python that started it
                hint = (
                    "; a script that starts processes must do so under if __name__ == '__main__', "
                    "because each of them imports it"
                )
            return f"left by itself with exit code {code}{hint}"
        return f"was ended by {signal.Signals(-code).name} ({signal.strsignal(-code)})"

    def _end(self, patience_s: float = 0.0) -> None:
        if self._connection is not None:
            self._connection.close()  # nobody asks any more: it ends by itself, if it listens
        if self._process is not None:
            self._process.join(patience_s)
            ended = self._process.exitcode is not None
            self._process.kill()
            if self._group is not None:
                if not ended:  # with what the model has started, and callers of its own
                    self._group.signal(signal.SIGKILL)
                elif not patience_s:
                    self._group.signal(signal.SIGTERM)
                self._group.close()
            self._process.join()
        self._process = self._connection = self._group = None


def serve(
    connection: Connection, given: Given, scratch: str, tree: Tree | None, birth: Birth
) -> None:
    """What the started process does."""
    begin(birth)
    if tree is not None:
        tree.enter()

    from inferload.studies.child.serving import serve_given

    serve_given(connection, given, Path(scratch), tree)
    # torch's own end takes most of a second; exit handlers, and those of multiprocessing, do not
    atexit._run_exitfuncs()  # noqa: SLF001 - a model's own are run, as at any end
    util._exit_function()  # type: ignore[attr-defined] # noqa: SLF001 - it gives locks back
    os._exit(0)
