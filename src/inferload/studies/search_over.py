"""The highest rate over several settings: a search for each, ended early where it cannot be best.

The first setting is searched in full. Each further one is first tried a little above the best rate
so far, and searched only if it keeps the limits there: what cannot win takes two probes, which must
both say so.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferload.errors import InferloadError, PlanError
from inferload.stats.limits.limit import Limit
from inferload.studies.bench import check_settings, with_settings
from inferload.studies.records.endings import StudyInterrupted
from inferload.studies.records.settings import Settings
from inferload.studies.search import run_search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferload.studies.bench import Bench, StudyObserver
    from inferload.studies.records.max_rate import MaxRate
    from inferload.studies.search import SearchPlan

MOST_SEARCHES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOver:
    """A search for each combination of the values of ``axes``, names of ``Settings``.

    Raises:
        PlanError: there are too many, or one of them cannot be run.
    """

    plan: SearchPlan
    axes: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        if len(self.settings) > MOST_SEARCHES:
            raise PlanError(f"{len(self.settings):,} searches are too many: give fewer values")
        for one in self.settings:
            check_settings(self._at(one).probe(1.0, 1.0, 0, decide=False), Settings())

    @property
    def settings(self) -> list[Settings]:
        """What is searched for, in this order; a batch of one is never held back."""
        every = [
            Settings(**dict(zip(self.axes, values, strict=True)))
            for values in itertools.product(*self.axes.values())
        ]
        return list({_what_counts(one): one for one in reversed(every)}.values())[::-1]

    def _at(self, settings: Settings, above_per_s: float | None = None) -> SearchPlan:
        limits = self.plan.limits
        if above_per_s is not None:
            floors = [one.bound for one in limits if one.figure == "throughput"]
            least = max([above_per_s * (1 + self.plan.resolution), *floors])
            others = [one for one in limits if one.figure != "throughput"]
            limits = (*others, Limit(figure="throughput", bound=least))
        options = with_settings(self.plan.options, settings)
        return replace(self.plan, options=options, limits=limits)

    def run(
        self,
        bench: Bench,
        observer: StudyObserver,
        *,
        done: MaxRate | None = None,
        keep: Callable[[MaxRate], None] = lambda _: None,
    ) -> MaxRate:
        """Search; as :func:`run_search`, whose result has the others as its ``rivals``.

        Raises:
            InferloadError: the first run failed: there is nothing to keep.
            StudyInterrupted: Ctrl-C; its ``study`` has what was done until then.
        """
        before = [] if done is None else [replace(done, rivals=()), *done.rivals]
        found: list[MaxRate] = []
        for number, settings in enumerate(self.settings):
            own = [one for one in before if one.settings == settings]
            if own and own[0].status == "complete":
                found.append(own[0])
                continue
            observer.begins(f"search {number + 1} of {len(self.settings)}: {settings}")
            best = _best(found)
            plan = self._at(settings, None if best is None else best.rate_per_s)

            def so_far(one: MaxRate, settings: Settings = settings) -> MaxRate:
                return self._joined([*found, replace(one, settings=settings)], "interrupted")

            try:
                one = run_search(
                    plan,
                    bench,
                    observer,
                    done=own[0] if own else None,
                    keep=lambda one, so_far=so_far: keep(so_far(one)),  # type: ignore[misc]
                )
            except StudyInterrupted as interrupt:
                study: Any = interrupt.study
                raise StudyInterrupted(str(interrupt), study=so_far(study)) from interrupt
            except InferloadError as error:
                if not found:
                    raise
                observer.found(f"{settings}: {error}")
                one = replace(
                    found[0],
                    rate_per_s=None,
                    next_rate_per_s=None,
                    closed_loop_per_s=None,
                    next_verdict=None,
                    confirmed=False,
                    probes=(),
                    reason=str(error),
                    status="failed",
                )
            found.append(replace(one, settings=settings))
            keep(self._joined(found, "interrupted"))
        whole = self._joined(found, "complete")
        keep(whole)
        return whole

    def _joined(self, found: Sequence[MaxRate], status: str) -> MaxRate:
        """The best of several, and the others beside it."""
        best = _best(found) or found[0]
        rivals = [
            replace(one, asked={}, environment={}, limits=self.plan.limits)
            for one in found
            if one is not best
        ]
        return replace(
            best,
            asked=self.plan.asked,
            limits=self.plan.limits,
            status=status if best.status != "failed" else best.status,
            rivals=tuple(rivals),
        )


def _what_counts(settings: Settings) -> Settings:
    return replace(settings, max_delay_s=0.0) if settings.max_batch == 1 else settings


def _best(found: Sequence[MaxRate]) -> MaxRate | None:
    """The one with the highest rate, if one has any; those that were confirmed first."""
    known = [one for one in found if one.rate_per_s is not None]
    return max(known, key=lambda one: (one.confirmed, one.rate_per_s or 0.0), default=None)
