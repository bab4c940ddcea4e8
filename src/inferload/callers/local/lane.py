"""One queue of a process and the callers that serve it: a target, its executor, its log."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from inferload.callers.batching.alone import Apart
from inferload.errors import PlanError
from inferload.targets.outputs.verification import verified, with_cause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferload.callers.job import Executor, Job, Running
    from inferload.callers.outcome import Outcome
    from inferload.log.merge import LogPlace
    from inferload.records.figures import Verification
    from inferload.targets.base import Target
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.outputs.verification import References


def alone_of(lanes: Sequence[LocalLane]) -> Callable[[int], Any] | None:
    """What calls with one input of the process, where single inputs are not what it takes."""
    works = [(lane, lane.job.batching) for lane in lanes]
    if not all(work is not None and work.spec.sizes_allowed for _, work in works):
        return None
    calls = [
        partial(Apart(work, lane.target).alone, number)
        for lane, work in works
        if work is not None
        for number in range(len(lane.given))
    ]
    return lambda number: calls[number]()


def _transfers(job: Job) -> bool:
    """Whether the tensors of an input are written to before each call."""
    return job.device_work is not None and job.device_work.transfers


class LocalLane:
    """Callers of this process that serve one queue.

    ``place`` says where its callers and inputs stand among those of the process.
    """

    def __init__(
        self, target: Target, given: Sequence[CallInput], executor: Executor, place: LogPlace
    ) -> None:
        self.target = target
        self.given = given
        self.executor = executor
        self.place = place
        self.job: Job
        self.running: Running

    def start(self) -> None:
        """Start the callers.

        Raises:
            PlanError: the machine would not start so many.
        """
        try:
            self.running = self.executor.start(self.job)
        except RuntimeError as error:
            raise PlanError(f"{self.job.callers} callers could not be started: {error}") from error

    @property
    def has_failed(self) -> bool:
        """Whether its callers have ended at an exception."""
        ended = self.job.stop_on_error and self.running.wait_done(0)
        return ended and self.running.outcome().first_failure is not None

    def outcome(self) -> Outcome:
        """What the callers left behind, with the numbers that they have in the process."""
        found, place = self.running.outcome(), self.place
        failure = found.first_failure
        if failure is not None:
            caller, of_input = place.numbered(failure.caller, failure.input)
            failure = replace(failure, caller=caller, input=of_input)
        return replace(found, first_failure=failure)

    def verification(
        self, references: References, inputs: range | None = None, *, alone: bool = True
    ) -> Verification:
        """The outputs that the callers kept, against references of all inputs of the process.

        ``inputs``: of these inputs of the process alone. ``alone``: all callers have ended.
        """
        first = self.place.first_input
        own = range(first, first + len(self.given))
        kept = [
            [one for one in caller if inputs is None or one[0] + first in inputs]
            for caller in self.running.outcome().kept
        ]
        references = replace(
            references,
            outputs=references.outputs[own.start : own.stop],
            written={
                number - first: argument
                for number, argument in references.written.items()
                if number in own and (inputs is None or number in inputs)
            },
        )
        native = self.executor.name == "native"
        batching = self.job.batching
        batched = batching is not None
        padded = batching is not None and batching.joining.pads
        found = verified(references, kept, tensors_only=native, batched=batched, padded=padded)
        if alone:
            found = with_cause(
                found,
                self.target,
                self.given,
                references,
                callers=self.job.callers,
                fresh_inputs=self.job.fresh_inputs or _transfers(self.job) or batching is not None,
                beside=None if batching is None else Apart(batching, self.target).cause,
            )
        if found.input is None or found.caller is None:
            return found
        caller, of_input = self.place.numbered(found.caller, found.input)
        return replace(found, caller=caller, input=of_input)
