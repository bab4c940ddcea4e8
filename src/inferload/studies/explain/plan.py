"""What is to be explained, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.numbers import check_positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.plan.options import RunOptions

TIME_LIMIT_S, MOST_S = 120.0, 86_400.0
#: How long the run as it was asked for lasts, where nobody says.
RUN_S = 5.0

# Why a run cannot be explained, and what can.
_WHY_NOT: tuple[tuple[Callable[[RunOptions], bool], str], ...] = (
    (
        lambda one: one.of_server,
        (
            "what bounds a server is seen where it runs: explain its model there; from here, "
            "inferload sweep URL --callers 1..16 shows where it stops to scale"
        ),
    ),
    (
        lambda one: not isinstance(one.executor, str),
        (
            "an executor of your own runs in this process, and changes are tried in fresh ones: "
            "name one of inferload's (executor)"
        ),
    ),
    (
        lambda one: not isinstance(one.load, ClosedLoop) or one.load.clients is not None,
        (
            "what bounds throughput is seen with callers that call again at once: leave rates, "
            "arrivals and clients out, and give callers"
        ),
    ),
    (
        lambda one: one.batching is not None,
        (
            "requests that wait for each other have no slices: leave max-batch out, and explain "
            "calls whose inputs have that many items"
        ),
    ),
    (lambda one: bool(one.lanes), "models with callers of their own are explained one at a time"),
    (
        lambda one: len(one.devices) > 1,
        "one device is explained at a time: name one of them (--device cuda:0)",
    ),
    (
        lambda one: (one.processes or 1) * one.ranks > 1 or one.executor == "processes",
        "several processes are one of the changes that are tried: leave processes out",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainPlan:
    """What is explained, and how long that may take; ``command`` names what keeps changes.

    Raises:
        PlanError: it cannot be, and what can.
    """

    target: str
    asked: dict[str, Any]
    options: RunOptions
    time_limit_s: float = TIME_LIMIT_S
    #: Of changes that keep throughput, the command or the Python that has them.
    command: Callable[[dict[str, str], dict[str, str]], str]

    def __post_init__(self) -> None:
        check_positive("time_limit_s", self.time_limit_s, at_most=MOST_S)
        for is_so, why in _WHY_NOT:
            if is_so(self.options):
                raise PlanError(why)

    @property
    def of_slices(self) -> RunOptions:
        """Options of calls by slices: outputs are looked at in the run alone."""
        return replace(self.options, verify=False, trace=None)
