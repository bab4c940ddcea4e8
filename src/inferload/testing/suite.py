"""What one session of pytest was asked for, its runs, and what they are compared with."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferload.records.result import RunResult
    from inferload.studies.records.comparison import Comparison, Gate
    from inferload.testing.against import Against
    from inferload.testing.in_tree import InTree

#: How much worse a model may be than a saved run of it, where nobody says: wider than the sessions
#: of a shared machine differ, because what a machine does between two of them is in no interval.
GATES_OF_SAVED = ("p50 +50%", "throughput -33%")
#: And than another revision that is called in turn with it.
GATES_OF_PAIRS = ("p50 +5%", "throughput -5%")
# A shorter run is compared and not judged.
_LEAST_JUDGED_S = 0.3


@dataclass(slots=True)
class Suite:
    """The runs of one session, by the names of their tests.

    ``baseline``: saved runs that they are compared with; ``against``: the revision that they are
    called in turn with. ``apart``: why a run was not compared with it, in words. ``served``: the
    test that this process is there for, which another session has started.
    """

    path: str | None = None
    baseline_path: str | None = None
    revision: str | None = None
    gates: tuple[str, ...] = ()
    time_limit: str | None = None
    served: InTree | None = None
    before_merging: dict[str, RunResult] = field(default_factory=dict)
    results: dict[str, RunResult] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    baseline: dict[str, RunResult] = field(default_factory=dict)
    against: Against | None = None
    apart: dict[str, str] = field(default_factory=dict)
    #: Why there is no revision to compare with, though one was asked for.
    no_revision: str | None = None
    trouble: str | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def prepare(self, words: tuple[str, ...]) -> None:
        """Read the baseline and check what can be checked before any test runs.

        ``words``: what pytest was called with, but for the tests.

        Raises:
            pytest.UsageError: in a sentence.
        """
        from inferload.errors import InferloadError
        from inferload.files import check_writable
        from inferload.studies.records.suite import load_suite

        try:
            self.gates_of_pairs(None)
            self.gates_of_saved(None)
            if self.path is not None:
                check_writable(Path(self.path))
                if Path(self.path).exists():
                    self.before_merging = load_suite(self.path)
            if self.baseline_path is not None:
                self.baseline = load_suite(self.baseline_path)
            if self.revision is not None:
                self._find(self.revision, words)
            elif self.time_limit is not None:
                raise pytest.UsageError(
                    "inferload: --inferload-time-limit is of comparisons with another revision: "
                    "name it by --inferload-against REV"
                )
        except InferloadError as error:
            raise pytest.UsageError(f"inferload: {error}") from None

    def _find(self, revision: str, words: tuple[str, ...]) -> None:
        """Find the revision; where it cannot be had, the saved baseline takes its place."""
        from inferload.errors import PlanError
        from inferload.studies.slices.plan import TIME_LIMIT_S
        from inferload.testing.against import Against
        from inferload.units import duration_s

        limit_s = TIME_LIMIT_S if self.time_limit is None else duration_s(self.time_limit)
        try:
            self.against = self.stack.enter_context(Against(revision, words, limit_s))
        except PlanError as error:
            if self.baseline_path is None:
                raise PlanError(
                    f"{error}; a saved run can take its place (--inferload-json FILE, then "
                    "--inferload-compare FILE)"
                ) from None
            self.no_revision = str(error)

    def gates_of_pairs(self, own: str | Iterable[str] | None) -> tuple[Gate, ...]:
        """The gates of a run that is compared with another revision; ``own``: its test's."""
        return _read(own, self.gates or GATES_OF_PAIRS)

    def gates_of_saved(self, own: str | Iterable[str] | None) -> tuple[Gate, ...]:
        """The gates of a run that is compared with a saved one; ``own``: its test's."""
        return _read(own, self.gates or GATES_OF_SAVED)

    def forget(self, test: str) -> None:
        """Drop the runs of a test that begins anew, or failed."""
        kept: tuple[dict[str, Any], ...] = (self.results, self.comparisons, self.apart)
        for one in kept:
            for key in [key for key in one if key == test or key.startswith(f"{test} (")]:
                del one[key]


SUITE = pytest.StashKey[Suite]()


def name_of(item: Any) -> str:
    """The name of a test, from the folder in which pytest was started.

    pytest's own begins at a root folder that depends on the paths it is given.
    """
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    return f"{Path(path).as_posix()}::{item.nodeid.partition('::')[2]}"


def unjudged(found: Comparison) -> str | None:
    """Why a comparison with a saved run judges nothing; ``None`` if it does."""
    if not found.is_of_results:
        return None
    if any(line.startswith(("cpu:", "usable_cores:", "devices:")) for line in found.unlike):
        return "another machine: not judged"
    lasted = [one.summary.duration_s for one in found.runs if one.summary is not None]
    if min(lasted, default=0.0) < _LEAST_JUDGED_S:
        return f"a run shorter than {_LEAST_JUDGED_S:g} s: not judged"
    return None


def _read(own: str | Iterable[str] | None, otherwise: tuple[str, ...]) -> tuple[Gate, ...]:
    from inferload.studies.differences import gate_from_text

    texts = otherwise if own is None else [own] if isinstance(own, str) else own
    return tuple(map(gate_from_text, texts))
