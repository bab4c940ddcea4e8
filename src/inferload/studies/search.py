"""A search for the highest rate, from its options to what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferload.errors import InferloadError, PlanError
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.plan.numbers import check_positive
from inferload.plan.option_table import LONGEST_S
from inferload.stats.limits.limit import check_together
from inferload.studies.bench import check_settings, for_seconds
from inferload.studies.bisection import RateSearch
from inferload.studies.probes import keeps_limits, says_something
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.max_rate import MaxRate
from inferload.studies.records.settings import Settings
from inferload.units import duration_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.plan.options import RunOptions
    from inferload.records.result import RunResult
    from inferload.stats.limits.judging import Judgement
    from inferload.stats.limits.limit import Limit
    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.max_rate import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What a search looks for.

    Raises:
        PlanError: there is no limit of a latency or of errors, or an option cannot be.
    """

    target: str
    asked: dict[str, Any]
    options: RunOptions
    limits: tuple[Limit, ...]
    resolution: float = 0.01
    time_limit_s: float = 120.0

    def __post_init__(self) -> None:
        check_together(self.limits)
        if all(one.at_least for one in self.limits):
            raise PlanError(
                "a search needs a limit that a higher rate breaks: give --limit p99<=20ms, or "
                "errors<=1%"
            )
        check_positive("resolution", self.resolution, at_least=1e-4, at_most=0.5)
        check_positive("time_limit_s", self.time_limit_s, at_least=1.0, at_most=LONGEST_S)
        if self.options.load.ends:
            own = "stages have their" if self.options.load.stages else "a replay has its"
            raise PlanError(f"a search sets the rate itself, and {own} own: leave it out")
        check_settings(self._at(1.0, 1.0, 0), Settings())

    def closed_loop(self, duration_s: float) -> RunOptions:
        """Options of the run that tells what callers make without a pause."""
        callers, batching = self.options.load.callers, self.options.batching
        clients = None
        if batching is not None:  # so many that each caller finds a full batch
            clients = 2 * callers * self.options.crew_size * batching.max_batch
        load = ClosedLoop(callers=callers, clients=clients)
        return self._for(duration_s, load=load, warmup="auto")

    def _at(self, rate_per_s: float, duration_s: float, seed: int) -> RunOptions:
        load = replace(
            self.options.load.at_rate(rate_per_s, seed), seed=seed, drain_s=self._drain_s
        )
        return self._for(duration_s, load=load, warmup="auto")

    def probe(self, rate_per_s: float, duration_s: float, seed: int, *, decide: bool) -> RunOptions:
        """Options of a run at a rate."""
        judged = tuple(one for one in self.limits if not one.at_least)
        return replace(self._at(rate_per_s, duration_s, seed), decide=judged if decide else ())

    def _for(self, duration_s: float, **changes: Any) -> RunOptions:
        return replace(for_seconds(self.options, self.limits, duration_s), **changes)

    @property
    def _drain_s(self) -> float:
        """What is queued longer than this broke its limit long before."""
        bounds_ms = [one.bound for one in self.limits if one.quantile is not None]
        return max(4 * max(bounds_ms, default=0.0) / 1e3, 1.0)


class _Prober:
    def __init__(
        self,
        plan: SearchPlan,
        bench: Bench,
        observer: StudyObserver,
        *,
        left_s: Callable[[], float],
        after: Callable[[], None],
    ) -> None:
        self._plan, self._bench, self._observer = plan, bench, observer
        self._left_s, self._after = left_s, after
        self.environment: dict[str, Any] = {}

    def closed_loop(self, duration_s: float) -> float:
        self._observer.begins("closed loop: what all callers make without a pause")
        found = self._run(self._plan.closed_loop(duration_s))
        rate = found.summary.throughput_calls_per_s.value
        self._observer.found(f"closed loop: {rate_text(rate)} {found.spec.unit}s/s")
        self._after()
        return rate

    def probe(self, rate_per_s: float, duration_s: float, seed: int, *, decide: bool) -> RunResult:
        kind = "trying" if decide else "confirming"
        left = duration_text(max(self._left_s(), 0.0))
        self._observer.begins(f"{kind} {rate_text(rate_per_s)}/s, {left} left")
        return self._run(self._plan.probe(rate_per_s, duration_s, seed, decide=decide))

    def has_probed(self, probe: Probe) -> None:
        self._observer.found(probe_text(probe))
        self._after()

    def _run(self, options: RunOptions) -> RunResult:
        result = self._bench.run(Settings(), options, self._observer)
        self.environment = self.environment or result.environment
        return result


def run_search(
    plan: SearchPlan,
    bench: Bench,
    observer: StudyObserver,
    *,
    done: MaxRate | None = None,
    keep: Callable[[MaxRate], None] = lambda _: None,
) -> MaxRate:
    """Search; ``keep`` is given what there is so far, and ``done`` is not made again.

    Raises:
        InferloadError: the first run failed: there is nothing to keep.
        StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
    """
    prober = _Prober(
        plan,
        bench,
        observer,
        left_s=lambda: search.left_s,
        after=lambda: keep(so_far("interrupted")),
    )
    prober.environment = {} if done is None else done.environment
    search = RateSearch(
        prober,
        plan.limits,
        resolution=plan.resolution,
        time_limit_s=plan.time_limit_s,
        seed=plan.options.seed,
        closed_loop_per_s=None if done is None else done.closed_loop_per_s,
        done=() if done is None else done.probes,
        spent_s=0.0 if done is None else done.took_s,
    )

    def so_far(status: str, reason: str | None = None) -> MaxRate:
        found = search.found
        probes = (*search.probes, *search.to_repeat)
        confirmed = [one for one in probes if one.confirms and one.rate_per_s == found.rate_per_s]
        return MaxRate(
            target=plan.target,
            asked=plan.asked,
            status=status,
            limits=plan.limits,
            rate_per_s=found.rate_per_s,
            confirmed=found.confirmed,
            reason=reason or found.reason,
            closed_loop_per_s=found.closed_loop_per_s,
            next_rate_per_s=None if found.next_verdict is None else found.next_rate_per_s,
            next_verdict=found.next_verdict,
            probes=probes,
            took_s=search.took_s,
            warnings=confirmed[-1].run.warnings if confirmed else (),
            environment=prober.environment,
        )

    try:
        search.search()
    except KeyboardInterrupt as interrupt:
        study = so_far("interrupted")
        keep(study)
        raise StudyInterrupted(
            f"interrupted after {len(search.probes)} probes", study=study
        ) from interrupt
    except InferloadError as error:
        if not search.probes:
            raise
        study = so_far("failed", str(error))
        keep(study)
        return study
    study = so_far("complete")
    keep(study)
    return study


def value_text(one: Judgement) -> str:
    """A judged figure; with a ~ where its calls are too few to quote it."""
    if one.value is None:
        return "-"
    quoted = one.low is not None or one.limit.at_least
    return ("" if quoted else "~") + one.limit.text_of(one.value)


def probe_text(probe: Probe) -> str:
    """One probe in a line."""
    words = [f"{one.limit.name} {value_text(one)}" for one in probe.judgements]
    calls = 0 if probe.run.summary is None else probe.run.summary.completed_calls
    kind = ""
    if probe.confirms:
        well = keeps_limits(probe) and says_something(probe)
        kind = "confirmed at " if well else "not confirmed at "
    return (
        f"{kind}{rate_text(probe.rate_per_s)}/s: {', '.join(words)} in {calls:,} calls: "
        f"{VERDICTS[probe.verdict]}"
    )


#: What a verdict is called in a report.
VERDICTS = {
    "kept": "kept",
    "broken": "not kept",
    "open": "not certain",
    "unstable": "calls pile up",
}
