"""Pure data: the stages of a load whose rate changes, and what calls saw in each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inferload.errors import PlanError
from inferload.records.distribution import Distribution
from inferload.records.figures import Overload

MOST_PER_S = 1e8
LONGEST_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of a load: ``rate_per_s`` for ``duration_s``, or a ramp from there ``to_per_s``.

    A rate of 0 is a pause.

    >>> print(Stage(rate_per_s=50, to_per_s=500, duration_s=60))
    50..500/60s

    Raises:
        PlanError: naming the number, and its value.
    """

    rate_per_s: float
    to_per_s: float | None = None
    duration_s: float

    def __post_init__(self) -> None:
        rates = {"rate_per_s": self.rate_per_s, "to_per_s": self.to_per_s}
        for name, rate in rates.items():
            if rate is not None and not (_is_number(rate) and 0 <= rate <= MOST_PER_S):
                raise PlanError(
                    f"{name} of a stage is {rate!r}: it must be 0 or more, and at most "
                    f"{MOST_PER_S:g}"
                )
        if not (_is_number(self.duration_s) and 1e-6 <= self.duration_s <= LONGEST_S):
            raise PlanError(
                f"duration_s of a stage is {self.duration_s!r}: it must be at least 1e-06, and at "
                f"most {LONGEST_S:g}"
            )

    @property
    def end_per_s(self) -> float:
        """The rate at its end."""
        return self.rate_per_s if self.to_per_s is None else self.to_per_s

    @property
    def calls(self) -> float:
        """How many calls are due in it, in the mean."""
        return (self.rate_per_s + self.end_per_s) / 2 * self.duration_s

    def rate_at(self, time_s: float) -> float:
        """The rate so long after it began."""
        share = min(max(time_s / self.duration_s, 0.0), 1.0)
        return self.rate_per_s + (self.end_per_s - self.rate_per_s) * share

    @property
    def rates(self) -> str:
        """Its rate, or both ends of its ramp, as they are written."""
        ramp = "" if self.to_per_s is None else f"..{self.to_per_s:.9g}"
        return f"{self.rate_per_s:.9g}{ramp}"

    @property
    def code(self) -> str:
        """The Python that makes it."""
        ramp = "" if self.to_per_s is None else f"to_per_s={self.to_per_s!r}, "
        return f"il.Stage(rate_per_s={self.rate_per_s!r}, {ramp}duration_s={self.duration_s!r})"

    def __str__(self) -> str:
        return f"{self.rates}/{self.duration_s:.9g}s"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStage:
    """One stage of a run: what was asked for, and what came of the calls that were due in it.

    It lasted from ``from_s`` to ``until_s`` from the start line: to where the run ended, where that
    was earlier. ``waiting_calls`` were due before and had not been started when it began.
    ``due_calls`` were due in it, ``unfinished_calls`` of them were never made.
    ``served_per_s``: calls that returned within its time, whenever they were due, per second.
    Distributions are quoted as the summary's are; ``lateness_ms`` is ``None`` of runs of more than
    10 million calls, of which the log is a sample. ``overload``: the queue grew in it, so that no
    quantile of its response is quoted; ``behind_from_s`` is since when, from the start line, some
    call waited all the time, and its rates are those of the time from then on.
    """

    stage: Stage
    from_s: float
    until_s: float
    waiting_calls: int = 0
    due_calls: int
    completed_calls: int
    failed_calls: int
    unfinished_calls: int
    served_per_s: float
    response_ms: Distribution | None
    lateness_ms: Distribution | None = None
    overload: Overload | None = None
    behind_from_s: float | None = None

    @property
    def behind_at_per_s(self) -> float | None:
        """The rate at which calls began to pile up, where they did."""
        if self.behind_from_s is None:
            return None
        return self.stage.rate_at(self.behind_from_s - self.from_s)
