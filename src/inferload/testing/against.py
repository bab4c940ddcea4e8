"""The models of tests against those of the same tests at another revision, called in turn."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.plan.arrivals.loads import ClosedLoop
from inferload.runs.run import Logging
from inferload.studies.child.bench import ChildBench
from inferload.studies.child.revisions import WORKING_TREE, checked_out, commit_of, revision_text
from inferload.studies.compare import said_of
from inferload.studies.local.options import as_written, options_of
from inferload.studies.records.settings import Settings
from inferload.studies.slices.sides import How, Sides, compare_sides
from inferload.testing.in_tree import InTree

if TYPE_CHECKING:
    from typing_extensions import Self

    from inferload.studies.child.tree import Tree
    from inferload.studies.records.comparison import Comparison, Gate

# What a run has and a comparison has not.
_OF_RUNS = {"trace", "limit"}
_OF_SETTINGS = {"form", "batch_size"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOfTest:
    """What a test gives to ``inferload_bench``, but for its model and inputs.

    ``test``: its name from the folder where pytest was started, ``key``: with that of the run.
    """

    test: str
    key: str
    model: object
    options: dict[str, Any]
    gates: tuple[Gate, ...]


class Against:
    """A revision, checked out beside the repository while it is entered.

    Raises:
        PlanError: there is no repository, or no such revision in it.
    """

    def __init__(self, revision: str, words: tuple[str, ...], time_limit_s: float) -> None:
        self._revision, self._words, self._time_limit_s = revision, words, time_limit_s
        self.name = revision_text(revision, commit_of(revision))
        if revision == WORKING_TREE:
            raise PlanError("the working tree is what is compared: name a revision, such as main")
        self._stack = ExitStack()
        self._trees: dict[str, Tree] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def compared(self, run: RunOfTest) -> Comparison:
        """A run at the revision (A) against the same run of the working tree (B).

        Raises:
            InferloadError: a side failed, or the run has options that no comparison has.
            StudyInterrupted: Ctrl-C.
        """
        trees = self._checked_out()
        names = {"a": f"{run.key} at {self.name}", "b": f"{run.key} now"}
        own = dict(run.options)
        settings = Settings(**{name: own.pop(name) for name in _OF_SETTINGS & set(own)})
        own = {name: value for name, value in own.items() if name not in _OF_RUNS}
        load = own.pop("load", ClosedLoop())
        if own.get("executor", "auto") in {"auto", "threads", "native", "async"}:
            own.setdefault("processes", 1)
        options = options_of(own, load, run.model).checked()
        how = How(gates=run.gates, time_limit_s=self._time_limit_s)
        sides = Sides(
            names=names,
            options=dict.fromkeys("ab", options),
            asked={**names, **how.told, "load": str(load), "options": as_written(own)},
            settings=dict.fromkeys("ab", settings),
        )
        if sides.why_runs() is not None:  # which take as long as they take
            how = How(gates=run.gates)
        observer = Logging()
        with ExitStack() as stack:
            benches = {
                side: stack.enter_context(
                    ChildBench(
                        None,
                        fresh=True,
                        tree=tree,
                        within=InTree(test=run.test, key=run.key, words=self._words),
                    )
                )
                for side, tree in trees.items()
            }

            def outputs() -> tuple[bool, str]:
                with said_of("a", names["a"]):
                    others = benches["a"].outputs(options, observer)
                with said_of("b", names["b"]):
                    return benches["b"].told_apart(others, options, observer)

            return compare_sides(
                sides,
                how,
                observer,
                benches=lambda: benches,
                sliced=lambda: benches,
                outputs=outputs,
            )

    def _checked_out(self) -> dict[str, Tree]:
        if not self._trees:
            for side, revision in (("a", self._revision), ("b", WORKING_TREE)):
                self._trees[side] = self._stack.enter_context(checked_out(revision))
        return self._trees
