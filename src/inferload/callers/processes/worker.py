"""What a started process does: take the model, prepare, run its callers, report."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from inferload.callers.budget import Budget
from inferload.callers.local.crew import LocalCrew
from inferload.callers.local.preparing import Share
from inferload.callers.processes import words as say
from inferload.callers.processes.birth import flush
from inferload.callers.processes.handing import handed, handed_by_spec, received
from inferload.callers.processes.weights import adopt, own_weights
from inferload.callers.python.thread_state import ThreadState
from inferload.errors import InferloadError
from inferload.log.failures import exception_words
from inferload.log.ring import LogFile
from inferload.records.figures import RunWarning
from inferload.targets.kinds.mixed import MixedTarget
from inferload.targets.loading import calling_state, grad_mode, load
from inferload.targets.placing import Placement, placed

if TYPE_CHECKING:
    from inferload.callers.crew import PartReport
    from inferload.callers.processes.handing import Handed
    from inferload.callers.processes.words import Assignment
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput


def work(connection: Connection, given: Assignment) -> None:
    """Do the work of one process; what goes wrong is told to its starter."""
    try:
        with ExitStack() as stack:
            _Worker(connection, given, stack).work()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the starter has ended, or has no use for this process any more
    except BaseException as error:  # noqa: BLE001 - also what a model's own exit raises
        if os.environ.get("INFERLOAD_DEBUG"):
            sys.excepthook(type(error), error, error.__traceback__)
        text = str(error) if isinstance(error, InferloadError) else exception_words(error)
        with suppress(OSError):  # a model may have closed it
            connection.send((say.ERROR, type(error).__name__, text))


class _Worker:
    def __init__(self, connection: Connection, given: Assignment, stack: ExitStack) -> None:
        self._starter = connection
        self._given = given
        self._stack = stack
        self._crew: LocalCrew

    def work(self) -> None:
        given = self._given
        target, inputs, load_s = self._model()
        options = given.options
        self._crew = crew = self._stack.enter_context(
            LocalCrew(target, inputs, options, self._share(), load_s=load_s)
        )
        (ready,) = crew.prepare(self._announce)
        state = ThreadState.of_this_thread().portable
        for other in given.hands_to:
            # weights on a device are not shared: each process loads its own
            other.send_bytes(
                handed_by_spec((), state)
                if crew.on_device and given.source is not None
                else handed(
                    target,
                    inputs,
                    state,
                    spec=None if given.source is None else given.source.spec,
                    scratch=given.scratch,
                )
            )
        self._starter.send((say.PREPARED, ready))
        (word,) = self._starter.recv()
        if word == say.START:
            crew.start()
            self._serve()

    def _announce(self, text: str) -> None:
        if self._given.process == 0:  # the others say the same
            self._starter.send((say.STAGE, text))

    def _model(self) -> tuple[Target, tuple[CallInput, ...], float]:
        given, source = self._given, self._given.source
        began = time.perf_counter()
        if given.handed is None:
            if source is None:
                raise AssertionError("a process is given a model, or words to find it by")
            self._stack.enter_context(calling_state(source.autocast))
            loaded = load(
                source,
                self._announce,
                given.scratch,
                placement=self._placement(),
                timeout_s=given.options.timeout_s,
            )
            self._stack.enter_context(grad_mode(source.grad))
            return loaded.target, loaded.given, loaded.load_s
        content = given.handed.recv_bytes()
        began = time.perf_counter()  # until then another process was loading
        found, sent = received(content, None if source is None else source.spec)
        target, inputs = self._rebuilt(found) if sent is None else self._sent(found, sent)
        if given.node != given.first_node:  # shared weights lie in the memory of another node
            own_weights(target)
        self._stack.enter_context(found.state.taken_over())
        target.conversion_s, target.first_call_ms = 0.0, None  # the other process's
        return target, inputs, time.perf_counter() - began

    def _sent(self, found: Handed, target: Target) -> tuple[Target, tuple[CallInput, ...]]:
        """The model that another process handed over, and its inputs."""
        source = self._given.source
        if found.copied and self._given.processes > 1:
            self._note(
                target,
                f"{target.name} has quantised tensors, whose memory processes cannot share: "
                "each process has its own",
                "fewer processes with more callers each (--callers) take less",
            )
        own = found.given
        if own is None and source is not None and not isinstance(target, MixedTarget):
            with calling_state(source.autocast):  # they could not be sent
                own = load(source, self._announce, self._given.scratch).given
        inputs = target.given if isinstance(target, MixedTarget) else own or ()
        return placed(target, inputs, self._placement())

    def _rebuilt(self, found: Handed) -> tuple[Target, tuple[CallInput, ...]]:
        """The model from its spec, with the weights that another process shares."""
        given, source = self._given, self._given.source
        if source is None:
            raise AssertionError("what is not sent whole is sent with words to find it by")
        with calling_state(source.autocast):
            loaded = load(
                replace(source, grad=found.state.grad_words),
                self._announce,
                given.scratch,
                found.given,
                self._placement(),
                given.options.timeout_s,
            )
        target = loaded.target
        shares = adopt(target, found.weights)
        if found.unsent is not None and not (shares and shares == len(found.weights)):
            self._note(
                target,
                f"{target.name} cannot be sent to another process ({found.unsent}), so each "
                f"process has loaded it from {source.spec}: what it holds is in memory once for "
                "each",
                "what the file makes at random each process makes for itself: load it, or seed it",
            )
        return target, loaded.given

    def _note(self, target: Target, message: str, hint: str) -> None:
        """Say of a target that its weights are not one memory for all processes."""
        note = RunWarning(code="weights-not-shared", message=message, hint=hint)
        target.notes = (*target.notes, note)

    def _placement(self) -> Placement:
        given = self._given
        return Placement(
            device=given.options.device_of(given.process), transfers=given.options.transfers
        )

    def _share(self) -> Share:
        given = self._given
        options = given.options
        return Share(
            number=options.number_of(given.process),
            processes=given.processes * options.local_ranks,
            schedules=options.schedules()[given.process],
            logs=[
                LogFile.opened(log.file.fileno, log.rows, log.room, log.reserved_rows)
                for log in given.logs
            ],
            callers_in_all=options.load.callers * given.processes,
            budget=None if given.budget is None else Budget(given.budget.fileno),
            cpus=given.cpus,
            usable_cores=given.usable_cores,
        )

    def _serve(self) -> None:
        """Do what the starter says until the callers have finished, and report."""
        notices, notify = os.pipe()
        threading.Thread(target=self._notify, args=(notify,), daemon=True).start()
        while True:
            for source in wait([self._starter, notices]):
                if source is self._starter:
                    self._obey(*self._starter.recv())
                elif self._pass_on(os.read(notices, 1)):
                    return

    def _pass_on(self, notice: bytes) -> bool:
        """Tell the starter how far the callers have come; whether they have finished."""
        if notice == b"r":
            self._starter.send((say.READY, [part.log.optional for part in self._crew.parts]))
        elif notice == b"d":
            self._report(abandoned=False)
        elif (warmed := self._crew.warmed()) is not None:
            self._starter.send((say.WARMED, *warmed))
        return notice == b"d"

    def _obey(self, word: str, *rest: Any) -> None:
        """Do what the starter says."""
        crew = self._crew
        if word == say.RELEASE:
            crew.release(*rest)
        elif word == say.STOP:
            crew.stop()
        elif word == say.END_AT:
            crew.parts[rest[0]].running.end_at(rest[1])
        elif word == say.FOLD_TO:
            crew.parts[rest[0]].running.fold_to(rest[1])
        elif word == say.GIVE_UP:
            crew.stop()
            self._report(abandoned=True)
            flush()
            os._exit(0)  # a normal exit would wait for callers that do not return

    def _notify(self, notify: int) -> None:
        """Tell the serving thread of each second of warm-up, that all are ready, and the end."""
        while not self._crew.wait_ready(1.0):
            os.write(notify, b"w")
        os.write(notify, b"r")
        while not self._crew.wait_done(1.0):
            pass
        os.write(notify, b"d")

    def _report(self, *, abandoned: bool) -> None:
        reports = [_sendable(one) for one in self._crew.collect(abandoned=abandoned)]
        raised = [exception for _, exception in reports]
        self._starter.send((say.DONE, [report for report, _ in reports], raised))


def _sendable(report: PartReport) -> tuple[PartReport, bytes | None]:
    """A report without outputs and exceptions, which the starter may not know how to unpickle."""
    outcome, exception = replace(report.outcome, kept=()), None
    if outcome.first_failure is not None:
        exception = _pickled(outcome.first_failure.exception)
        outcome = replace(outcome, first_failure=replace(outcome.first_failure, exception=None))
    return replace(report, outcome=outcome), exception


def _pickled(value: Any) -> bytes | None:
    try:
        content = pickle.dumps(value)
        pickle.loads(content)  # noqa: S301 - our own, a moment old: many exceptions only pickle
    except Exception:  # noqa: BLE001 - a model's exception may do anything
        return None
    return content
