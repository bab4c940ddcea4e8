"""What the starter of a process with callers makes of what it hears, and of an end."""

from __future__ import annotations

import multiprocessing

import pytest

from inferload.callers.processes import words as say
from inferload.callers.processes.process import CallersProcess

REPORTS = ["the report of the only lane"]


class Ending:
    """A process that reports, where it does, and ends while its starter waits for its end."""

    sentinel = None
    pid = 1

    def __init__(self, connection, *, reports: bool) -> None:
        self._connection = connection
        self._reports = reports
        self.exitcode = None

    def join(self, timeout=None):
        if self._reports:
            self._connection.send((say.DONE, REPORTS, [None]))
        self._connection.close()
        self.exitcode = 0


@pytest.mark.parametrize("reports", [True, False])
def test_a_process_that_reports_and_ends_while_it_is_looked_at_has_not_died(reports):
    here, there = multiprocessing.Pipe()
    process = CallersProcess(0, Ending(there, reports=reports), here, None)
    words = [word for word, *_ in process.heard()]
    assert words == ([say.DONE] if reports else [])
    assert process.exited
    assert process.ended == reports
    assert process.died != reports
