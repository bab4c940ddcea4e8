"""The process that makes the runs of a study: it loads the model once, and runs what it is told."""

from __future__ import annotations

import pickle
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.callers.processes.handing import received
from inferload.callers.processes.weights import adopt
from inferload.errors import InferloadError, PlanError
from inferload.studies.child.words import (
    CLOSE_TURNS,
    DONE,
    FAILED,
    OPEN_TURN,
    PROGRESS,
    RUN,
    STAGE,
    TRACED,
    TURN,
    WARMED,
)
from inferload.studies.local.bench import LocalBench
from inferload.studies.local.outputs import told_apart
from inferload.studies.local.traced import traced
from inferload.targets.kinds.mixed import MixedTarget
from inferload.targets.loading import calling_state, grad_mode, load
from inferload.targets.placing import Placement, placed

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from typing_extensions import Self

    from inferload.plan.model import ModelSource
    from inferload.plan.options import RunOptions
    from inferload.studies.child.given import Given
    from inferload.studies.child.tree import Tree


class _Telling:
    """An observer in the child, who tells the other side."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def stage(self, text: str) -> None:
        self._connection.send((STAGE, text))

    def progress(self, finished_calls: int, elapsed_s: float) -> None:
        self._connection.send((PROGRESS, finished_calls, elapsed_s))


def serve_given(connection: Connection, given: Given, scratch: Path, tree: Tree | None) -> None:
    """Make the runs that are asked for of what was given, until nobody asks any more."""
    telling = _Telling(connection)
    with ExitStack() as stack:

        def make(options: RunOptions) -> LocalBench:
            bench = _bench(given, options, telling, scratch, stack)
            bench.packages = given.packages
            return bench

        if given.within is None:
            serve_runs(connection, make, tree)
            return
        why_not = given.within(
            lambda model, inputs: serve_runs(
                connection, lambda _: LocalBench.of_model(model, inputs), tree
            ),
            scratch,
        )
        if why_not:
            serve_runs(connection, lambda _: _refused(why_not), tree)


def serve_runs(
    connection: Connection, make: Callable[[RunOptions], LocalBench], tree: Tree | None
) -> None:
    """Make the runs that are asked for, until nobody asks any more."""
    telling = _Telling(connection)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError), ExitStack() as stack:
        served: _Served | None = None
        while True:
            word, *asked = connection.recv()
            try:
                if served is None:
                    served = stack.enter_context(_Served(make(asked[0]), telling, tree))
                found = served.answer(word, *asked)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except BaseException as error:  # noqa: BLE001 - also what a model's own exit raises
                connection.send((FAILED, *_told(error, asked[-1])))
            else:
                connection.send((DONE, found))


class _Served:
    """A bench, and what of it is open for slices."""

    def __init__(self, bench: LocalBench, telling: _Telling, tree: Tree | None) -> None:
        self._bench, self._telling, self._tree = bench, telling, tree
        self._turns = bench.turns()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._turns.close_turns(self._telling)

    def answer(self, word: str, first: Any, second: Any, third: Any) -> Any:
        """What comes of a word (``inferload.studies.child.words``)."""
        if word == TURN:
            return self._turns.turn(first, second, third, self._telling)
        if word == WARMED:
            return self._turns.warmed(self._telling)
        if word == CLOSE_TURNS:
            return self._turns.close_turns(self._telling)
        found = third
        if word == RUN:
            self._bench.run(second, first, self._telling).save(third)
        elif word == TRACED:
            found = traced(self._bench, first, self._telling.stage)
        elif word == OPEN_TURN:
            found = self._turns.open_turn(third, second, self._telling)
        else:
            found = _outputs(self._bench, second, third, here=self._tree is None)
        if self._tree is not None:
            self._tree.check()
        return found


def _refused(why_not: str) -> LocalBench:
    raise PlanError(why_not)


def _bench(
    given: Given, options: RunOptions, telling: _Telling, scratch: Path, stack: ExitStack
) -> LocalBench:
    source = given.source
    if given.content is not None:
        return _bench_of_handed(given.content, source, options, telling, scratch, stack)
    if source is None:
        raise AssertionError("a process is given a model, or words to find it by")
    stack.enter_context(calling_state(source.autocast))
    stack.enter_context(grad_mode(source.grad))
    placement = Placement(device=options.device_of(0), transfers=options.transfers)
    return LocalBench.of_source(source, placement, telling.stage, scratch)


def _bench_of_handed(
    content: bytes,
    source: ModelSource | None,
    options: RunOptions,
    telling: _Telling,
    scratch: Path,
    stack: ExitStack,
) -> LocalBench:
    """Of what another process has sent: the model itself, or its inputs and words to find it by."""
    found, target = received(content, None if source is None else source.spec)
    placement = Placement(device=options.device_of(0), transfers=options.transfers)
    if target is None:
        if source is None:
            raise AssertionError("what comes from no words is sent whole")
        words = replace(source, grad=found.state.grad_words)
        with calling_state(source.autocast):
            loaded = load(words, telling.stage, scratch, found.given, placement)
        adopt(loaded.target, found.weights)
        target, given = loaded.target, loaded.given
    else:
        own = target.given if isinstance(target, MixedTarget) else found.given or ()
        target, given = placed(target, own, placement)
    stack.enter_context(found.state.taken_over())
    return LocalBench.of_model(target, given)


def _outputs(bench: LocalBench, other: str | None, path: str, *, here: bool) -> Any:
    """Keep the outputs of this side; or compare them with those of the other.

    ``here``: its code is the code that lies there now, not that of a revision.
    """
    own = bench.outputs()
    own = own if here else replace(own, origin=None)
    if other is not None:
        theirs = pickle.loads(Path(other).read_bytes())  # noqa: S301 - a process of our own
        return told_apart(theirs, own)
    Path(path).write_bytes(pickle.dumps(own))
    return path


def _told(error: BaseException, path: str) -> tuple[str, str, str | None, str | None]:
    """An error in words, and where the result of what was made before it lies."""
    result = getattr(error, "result", None)
    if result is not None:
        result.save(path)
    text = str(error)
    if not isinstance(error, InferloadError):
        text = f"{type(error).__name__}: {error}"
    place = getattr(error, "place", None)
    return type(error).__name__, text, place, None if result is None else path
