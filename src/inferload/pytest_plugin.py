"""pytest: ``inferload_bench`` measures a model in a test, against a baseline if one is given.

Imported by every pytest that finds inferload installed, so it imports nothing heavy by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from inferload.records.result import RunResult
    from inferload.studies.records.comparison import Comparison, Gate

#: How much worse a model may be than its baseline, where nobody says: wider than the sessions of a
#: shared machine differ, because what a machine does between two of them is in no interval.
DEFAULT_GATES = ("p50 +50%", "throughput -33%")
# A shorter run is compared and not judged.
LEAST_JUDGED_S = 0.3
DEFAULT_RUN_S = 2.0
_KEY = pytest.StashKey["_Suite"]()


class _Suite:
    """The runs of one session, and what they are compared with."""

    def __init__(self, config: pytest.Config) -> None:
        self.path: str | None = config.getoption("inferload_json")
        self.baseline_path: str | None = config.getoption("inferload_compare")
        self.gates = config.getoption("inferload_gate") or config.getini("inferload_gates")
        self.before_merging: dict[str, RunResult] = {}
        self.results: dict[str, RunResult] = {}
        self.comparisons: dict[str, Comparison] = {}
        self.baseline: dict[str, RunResult] = {}
        self.trouble: str | None = None

    def prepare(self) -> None:
        """Read the baseline and check what can be checked before any test runs.

        Raises:
            pytest.UsageError: in a sentence.
        """
        from inferload.errors import InferloadError
        from inferload.files import check_writable
        from inferload.studies.records.suite import load_suite

        try:
            self.read_gates(self.gates)
            if self.path is not None:
                check_writable(Path(self.path))
                if Path(self.path).exists():
                    self.before_merging = load_suite(self.path)
            if self.baseline_path is not None:
                self.baseline = load_suite(self.baseline_path)
        except InferloadError as error:
            raise pytest.UsageError(f"inferload: {error}") from None

    def forget(self, test: str) -> None:
        """Drop the runs of a test that begins anew, or failed."""
        for kept in (self.results, self.comparisons):
            for key in [one for one in kept if one == test or one.startswith(f"{test} (")]:
                del kept[key]

    @staticmethod
    def read_gates(gates: Any) -> tuple[Gate, ...]:
        """Gates from their texts."""
        from inferload.studies.differences import gate_from_text

        return tuple(map(gate_from_text, gates))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, all of them named after the package."""
    group = parser.getgroup("inferload", "inferload: models measured in tests")
    group.addoption(
        "--inferload-json",
        metavar="FILE",
        help="write the runs of tests that use inferload_bench and pass, as a baseline for later "
        "ones; those of other tests that are in FILE stay",
    )
    group.addoption(
        "--inferload-compare",
        metavar="FILE",
        help="compare each run with that of the same test in FILE; a test fails if a gate is "
        "crossed beyond noise",
    )
    group.addoption(
        "--inferload-gate",
        metavar="GATE",
        action="append",
        help=(
            'how much worse a model may be, such as "p99 +5%"; may be given again. Default: the '
            f"ini option inferload_gates, else {' and '.join(DEFAULT_GATES)}"
        ).replace("%", "%%"),
    )
    parser.addini(
        "inferload_gates",
        "how much worse a model may be than its baseline, a line for each figure",
        type="linelist",
        default=list(DEFAULT_GATES),
    )


def pytest_configure(config: pytest.Config) -> None:
    """Where the session keeps its runs."""
    suite = config.stash[_KEY] = _Suite(config)
    if suite.path is not None or suite.baseline_path is not None:
        suite.prepare()


@pytest.fixture
def inferload_bench(request: pytest.FixtureRequest) -> BenchFixture:
    """Measure a model: ``inferload_bench(model, inputs, callers=2)``, as ``inferload.run`` does.

    Each run counts under the test's name; a test with several gives each a ``name``. The result is
    returned, so that a test can assert on it too.
    """
    if hasattr(request.config, "workerinput"):
        pytest.fail(
            "inferload_bench measures nothing true while other workers run: use -p no:xdist or "
            "-n 0",
            pytrace=False,
        )
    suite, test = request.config.stash[_KEY], _name_of(request.node)
    suite.forget(test)  # a plugin may run a test again
    return BenchFixture(suite, test)


def _name_of(item: Any) -> str:
    """The name of a test, from the folder in which pytest was started.

    pytest's own begins at a root folder that depends on the paths it is given.
    """
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    return f"{Path(path).as_posix()}::{item.nodeid.partition('::')[2]}"


@pytest.hookimpl(hookwrapper=True)  # which pytest 7 knows as well
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Keep nothing of a test that failed: it is no baseline for later ones."""
    outcome = yield
    report = outcome.get_result()
    suite = item.config.stash.get(_KEY, None)
    if suite is not None and report.failed and call.when == "call":
        suite.forget(_name_of(item))


class BenchFixture:
    """What ``inferload_bench`` gives a test."""

    def __init__(self, suite: _Suite, test: str) -> None:
        self._suite = suite
        self._test = test

    def __call__(
        self,
        model: object,
        inputs: object = None,
        *,
        callers: int = 1,
        name: str | None = None,
        gates: str | tuple[str, ...] | list[str] | None = None,
        **options: Any,
    ) -> RunResult:
        """Run a model and, if there is a baseline of this test, compare it.

        Args:
            model: as for :func:`inferload.run`.
            inputs: as for :func:`inferload.run`.
            callers: of a closed loop, if no ``load`` is given.
            name: tells several runs of one test apart.
            gates: how much worse it may be than its baseline, in place of those of the session.
            options: further options of :func:`inferload.run`; 2 s, if no end is given.
        """
        import torch

        from inferload.plan.arrivals.loads import ClosedLoop
        from inferload.runs.run import run

        key = self._test if name is None else f"{self._test} ({name})"
        if key in self._suite.results:
            pytest.fail(
                f"{key} was measured already: give each run of a test a name of its own",
                pytrace=False,
            )
        options.setdefault("load", ClosedLoop(callers=callers))
        staged = getattr(options["load"], "stages", ())  # which have an end of their own
        if not {"calls", "duration_s", "precision"} & set(options) and not staged:
            options["duration_s"] = DEFAULT_RUN_S
        own = [gates] if isinstance(gates, str) else self._suite.gates if gates is None else gates
        read = self._suite.read_gates(own)

        def measured() -> RunResult:
            with torch.inference_mode():
                return run(model, inputs, **options)

        result = measured()
        before = self._suite.baseline.get(key)
        if before is not None:
            found = self._compared(key, before, result, read)
            if _is_worse(found):  # once more: what disturbed one run is gone in the next
                result = measured()
                found = self._compared(key, before, result, read)
            self._suite.comparisons[key] = found
            self._suite.results[key] = result
            if _is_worse(found):
                pytest.fail(f"{key} is worse than its baseline, twice\n\n{found}", pytrace=False)
        self._suite.results[key] = result
        return result

    @staticmethod
    def _compared(
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
    return _unjudged(found) is None and bool(found.crossed or (found.gates and found.fails_more))


def _unjudged(found: Comparison) -> str | None:
    """Why a comparison judges nothing; ``None`` if it does."""
    if any(line.startswith(("cpu:", "usable_cores:", "devices:")) for line in found.unlike):
        return "another machine: not judged"
    lasted = [one.summary.duration_s for one in found.runs if one.summary is not None]
    if min(lasted, default=0.0) < LEAST_JUDGED_S:
        return f"a run shorter than {LEAST_JUDGED_S:g} s: not judged"
    return None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A line for each run, and what the comparisons found."""
    suite = config.stash.get(_KEY, None)
    if suite is None or not suite.results:
        return
    from inferload.report.text.parts import change_text, figure_name
    from inferload.report.text.run import plain_text
    from inferload.report.text.several import several_table

    write = terminalreporter.write_line
    terminalreporter.section("inferload")
    table = several_table(suite.results)
    write(plain_text(table, terminalreporter._tw.fullwidth))  # noqa: SLF001 - pytest has no other
    for key, found in suite.comparisons.items():
        changes = ", ".join(
            f"{figure_name(one.figure)} {change_text(one.ratio)}"
            for one in found.differences
            if one.figure in {"throughput", "p50", "p99"}
        )
        gates = ", ".join(f"{gate} {what}" for gate, what in found.gates)
        said = _unjudged(found) or gates
        unsure = _unjudged(found) is not None or bool(found.untold)
        write(f"{key} against its baseline: {changes} ({said})", yellow=unsure)
    if suite.trouble is not None:
        write(suite.trouble, red=True)
    if suite.baseline_path is not None:
        new = [key for key in suite.results if key not in suite.baseline]
        if new:
            write(f"not in {suite.baseline_path}: {', '.join(new)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the runs of the session."""
    suite = session.config.stash.get(_KEY, None)
    if suite is None or suite.path is None or not suite.results:
        return
    from inferload.studies.records.suite import save_suite

    try:
        save_suite(suite.before_merging | suite.results, suite.path)
    except OSError as error:
        suite.trouble = f"{suite.path} could not be written: {error.strerror or error}"
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
