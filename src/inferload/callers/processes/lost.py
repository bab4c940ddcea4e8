"""Callers of a process that has died or said an error: what is still known of them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

from inferload.callers.outcome import Outcome
from inferload.errors import InferloadError, NativeBuildError, PlanError

if TYPE_CHECKING:
    from inferload.callers.crew import PartReport


def cut_off(rows: int, stopped_ns: int | None) -> Outcome:
    """What is known of callers that cannot be asked any more."""
    return Outcome(
        claimed_rows=rows,
        first_calls_ns=(),
        errors=(),
        first_failure=None,
        disk_full=False,
        stopped_ns=stopped_ns,
    )


def error_told(number: int, kind: str, text: str) -> Exception:
    """The error that a process told of, of the same class where it is one of ours."""
    for own in (PlanError, NativeBuildError, InferloadError):
        if kind == own.__name__:
            return own(text)
    return InferloadError(f"process {number} failed: {text}")


def with_exception(report: PartReport, pickled: bytes | None) -> PartReport:
    """With the exception itself, where the model is at hand: here are its classes."""
    failure = report.outcome.first_failure
    if failure is None or pickled is None:
        return report
    try:
        exception = pickle.loads(pickled)  # noqa: S301 - a process of our own
    except Exception:  # noqa: BLE001 - whatever its class does when it is rebuilt
        return report
    failure = replace(failure, exception=exception)
    return replace(report, outcome=replace(report.outcome, first_failure=failure))
