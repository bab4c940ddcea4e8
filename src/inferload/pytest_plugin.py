"""pytest: ``inferload_bench`` measures a model in a test, and compares it with what it was before.

Imported by every pytest that finds inferload installed, so it imports nothing heavy by itself.
"""

from __future__ import annotations

from typing import Any

import pytest

from inferload.testing.bench import BenchFixture
from inferload.testing.in_tree import InTree
from inferload.testing.suite import (
    GATES_OF_PAIRS,
    GATES_OF_SAVED,
    SUITE,
    Suite,
    name_of,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, all of them named after the package."""
    group = parser.getgroup("inferload", "inferload: models measured in tests")
    group.addoption(
        "--inferload-against",
        metavar="REV",
        help="compare each run with the same one at a revision of git, such as main: both are "
        "called in turn, and a test fails if a gate is crossed beyond noise",
    )
    group.addoption(
        "--inferload-time-limit",
        metavar="TIME",
        help="how long each such comparison may take, such as 5m; 2 minutes if not given, and "
        "less where every gate is decided earlier",
    )
    group.addoption(
        "--inferload-json",
        metavar="FILE",
        help="write the runs of tests that use inferload_bench and pass, as a baseline for later "
        "ones; those of other tests that are in FILE stay",
    )
    group.addoption(
        "--inferload-compare",
        metavar="FILE",
        help="compare each run with that of the same test in FILE, where no revision can be had; "
        "coarse, because what the machine did in between is in no interval",
    )
    group.addoption(
        "--inferload-gate",
        metavar="GATE",
        action="append",
        help=(
            'how much worse a model may be, such as "p99 +5%"; may be given again. Default: the '
            f"ini option inferload_gates, else {' and '.join(GATES_OF_PAIRS)}, or of a saved run "
            f"{' and '.join(GATES_OF_SAVED)}"
        ).replace("%", "%%"),
    )
    parser.addini(
        "inferload_gates",
        "how much worse a model may be than before, a line for each figure",
        type="linelist",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Where the session keeps its runs."""
    served = next((one for one in config.pluginmanager.get_plugins() if type(one) is InTree), None)
    if served is not None:
        config.stash[SUITE] = Suite(served=served)
        return
    suite = config.stash[SUITE] = Suite(
        path=config.getoption("inferload_json"),
        baseline_path=config.getoption("inferload_compare"),
        revision=config.getoption("inferload_against"),
        time_limit=config.getoption("inferload_time_limit"),
        gates=tuple(config.getoption("inferload_gate") or config.getini("inferload_gates")),
    )
    asked = (suite.path, suite.baseline_path, suite.revision, suite.time_limit)
    if any(one is not None for one in asked):
        suite.prepare(_words(config))


def _words(config: pytest.Config) -> tuple[str, ...]:
    """What pytest was called with, but for the tests."""
    words = [*map(str, config.invocation_params.args)]
    for one in config.option.file_or_dir:
        if one in words:
            words.remove(one)
    return tuple(words)


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
    suite, test = request.config.stash[SUITE], name_of(request.node)
    suite.forget(test)  # a plugin may run a test again
    return BenchFixture(suite, test)


@pytest.hookimpl(hookwrapper=True)  # which pytest 7 knows as well
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Keep nothing of a test that failed: it is no baseline for later ones."""
    outcome = yield
    report = outcome.get_result()
    suite = item.config.stash.get(SUITE, None)
    if suite is not None and report.failed and call.when == "call":
        suite.forget(name_of(item))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A line for each run, and what the comparisons found."""
    suite = config.stash.get(SUITE, None)
    if suite is None or not suite.results:
        return
    from inferload.testing.summary import summary_lines

    width = terminalreporter._tw.fullwidth  # noqa: SLF001 - pytest has no other
    terminalreporter.section("inferload")
    for text, markup in summary_lines(suite, width):
        terminalreporter.write_line(text, **markup)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the runs of the session."""
    suite = session.config.stash.get(SUITE, None)
    if suite is None or suite.path is None or not suite.results:
        return
    from inferload.studies.records.suite import save_suite

    try:
        save_suite(suite.before_merging | suite.results, suite.path)
    except OSError as error:
        suite.trouble = f"{suite.path} could not be written: {error.strerror or error}"
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of the revision that was checked out."""
    suite = config.stash.get(SUITE, None)
    if suite is not None:
        suite.stack.close()
