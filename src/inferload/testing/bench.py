"""What ``inferload_bench`` gives a test: its model is measured, and compared if that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from inferload.testing.in_tree import SHORT_RUN_S
from inferload.testing.suite import unjudged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferload.records.result import RunResult
    from inferload.studies.records.comparison import Comparison, Gate
    from inferload.testing.against import Against
    from inferload.testing.suite import Suite

DEFAULT_RUN_S = 2.0
_ENDS = ("calls", "duration_s", "precision")


class BenchFixture:
    """What ``inferload_bench`` gives a test."""

    def __init__(self, suite: Suite, test: str) -> None:
        self._suite = suite
        self._test = test

    def __call__(
        self,
        model: object,
        inputs: object = None,
        *,
        callers: int = 1,
        name: str | None = None,
        gates: str | Iterable[str] | None = None,
        **options: Any,
    ) -> RunResult:
        """Run a model and compare it with another revision of the test, or with a saved run.

        Args:
            model: as for :func:`inferload.run`.
            inputs: as for :func:`inferload.run`.
            callers: of a closed loop, if no ``load`` is given.
            name: tells several runs of one test apart.
            gates: how much worse it may be than before, in place of those of the session.
            options: further options of :func:`inferload.run`; 2 s, if no end is given.
        """
        import torch

        from inferload.plan.arrivals.loads import ClosedLoop

        key = self._test if name is None else f"{self._test} ({name})"
        if key in self._suite.results:
            pytest.fail(
                f"{key} was measured already: give each run of a test a name of its own",
                pytrace=False,
            )
        options.setdefault("load", ClosedLoop(callers=callers))
        staged = getattr(options["load"], "stages", ())  # which have an end of their own
        if not set(_ENDS) & set(options) and not staged:
            options["duration_s"] = DEFAULT_RUN_S
        of_pairs, of_saved = self._suite.gates_of_pairs(gates), self._suite.gates_of_saved(gates)
        served = self._suite.served
        with torch.inference_mode():
            if served is not None:
                if key == served.key:
                    served.serve(model, inputs)
                ends = dict.fromkeys(_ENDS) | {"duration_s": SHORT_RUN_S}
                return _run(model, inputs, options if staged else options | ends)
            result = _run(model, inputs, options)
        if self._suite.against is not None:
            self._compare_revisions(self._suite.against, key, model, options, of_pairs)
        before = self._suite.baseline.get(key)
        if before is not None and key not in self._suite.comparisons:
            result = self._compare_saved(before, result, key, (model, inputs, options), of_saved)
        self._suite.results[key] = result
        return result

    def _compare_revisions(
        self,
        against: Against,
        key: str,
        model: object,
        options: dict[str, Any],
        gates: tuple[Gate, ...],
    ) -> None:
        """Compare with the same run at another revision, and fail the test that crosses a gate."""
        from inferload.errors import InferloadError
        from inferload.studies.records.endings import StudyInterrupted
        from inferload.testing.against import RunOfTest

        run = RunOfTest(test=self._test, key=key, model=model, options=options, gates=gates)
        found, error = None, None
        try:
            found = against.compared(run)
        except StudyInterrupted as interrupt:
            raise KeyboardInterrupt from interrupt
        except InferloadError as failure:
            error = failure
        if found is None:
            said = f"{key} was not compared with {against.name}: {error}"
            if error is None or error.side != "a":
                pytest.fail(said, pytrace=False)
            self._suite.apart[key] = said  # it mends the revision, or is new
            return
        self._suite.comparisons[key] = found
        if found.crossed:
            pytest.fail(f"{key} is worse than at {against.name}\n\n{found}", pytrace=False)

    def _compare_saved(
        self,
        before: RunResult,
        result: RunResult,
        key: str,
        again: tuple[object, object, dict[str, Any]],
        gates: tuple[Gate, ...],
    ) -> RunResult:
        """Compare with a saved run, and fail the test that crosses a gate twice."""
        import torch

        found = _with_saved(key, before, result, gates)
        if _is_worse(found):  # once more: what disturbed one run is gone in the next
            with torch.inference_mode():
                result = _run(*again)
            found = _with_saved(key, before, result, gates)
        self._suite.comparisons[key] = found
        self._suite.results[key] = result
        if _is_worse(found):
            pytest.fail(f"{key} is worse than its baseline, twice\n\n{found}", pytrace=False)
        return result


def _run(model: object, inputs: object, options: dict[str, Any]) -> RunResult:
    from inferload.runs.run import run

    return run(model, inputs, **options)


def _with_saved(
    key: str, before: RunResult, result: RunResult, gates: tuple[Gate, ...]
) -> Comparison:
    from inferload.errors import PlanError
    from inferload.studies.compare_results import compared_results

    try:
        return compared_results(before, result, ("baseline", "now"), gates)
    except PlanError as error:
        pytest.fail(f"{key}: {error}; write the baseline anew", pytrace=False)


def _is_worse(found: Comparison) -> bool:
    """Whether a gate was crossed, of runs that can be judged."""
    return unjudged(found) is None and bool(found.crossed or (found.gates and found.fails_more))
