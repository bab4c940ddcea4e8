"""What is tuned: the candidates, the default beside them, and how long runs last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.plan.numbers import check_positive
from inferload.stats.limits.judging import judged_limits
from inferload.studies.bench import check_settings, for_seconds
from inferload.studies.records.settings import Settings

if TYPE_CHECKING:
    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.stats.limits.judging import Judgement
    from inferload.stats.limits.limit import Limit

FULL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TunePlan:
    """What is tried, and for how long a configuration would be measured in full.

    Raises:
        PlanError: naming what cannot be run.
    """

    target: str
    asked: dict[str, Any]
    options: RunOptions
    candidates: tuple[Settings, ...]
    limits: tuple[Limit, ...] = ()
    full_s: float = FULL_S
    #: The model and its inputs as they are written in the code that comes out.
    words: tuple[str, ...] = ("model", "inputs")
    #: Whether ``asked`` are flags of the command line.
    is_named: bool = False
    #: The form that the model has been turned into, whatever the candidates say.
    form: str | None = None

    def __post_init__(self) -> None:
        check_positive("duration_s", self.full_s, at_least=0.1, at_most=86_400.0)
        for one in self.candidates:
            check_settings(self.options, one)
        if len(self.candidates) < 2:
            raise PlanError(
                "tuning needs two configurations or more, and there is one "
                f"({', '.join(map(str, self.candidates))}): give more values, such as "
                "--forms eager,script"
            )

    @property
    def default(self) -> Settings:
        """What a run does that is asked for nothing."""
        return Settings(callers=self.options.load.callers)

    def for_(self, duration_s: float) -> RunOptions:
        """Options of a run of so many seconds."""
        return for_seconds(self.options, self.limits, duration_s)

    @property
    def tried(self) -> tuple[Settings, ...]:
        """The default, and every candidate."""
        return (self.default, *(one for one in self.candidates if one != self.default))

    def judged(self, result: RunResult) -> tuple[Judgement, ...]:
        """What the calls of a run say of the limits."""
        summary = result.summary
        return judged_limits(
            result.log,
            self.limits,
            summary.from_s,
            summary.unfinished_calls,
            duration_s=summary.duration_s,
        )
