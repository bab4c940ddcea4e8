from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from inferload.errors import PlanError
from inferload.log import ring as log_file
from inferload.log.ring import LogFile


@pytest.fixture
def open_log():
    made: list[LogFile] = []

    def make(rows: int | None) -> LogFile:
        made.append(LogFile(rows))
        return made[-1]

    yield make
    for log in made:
        log.close()


def filled(log: LogFile, rows: int, unfinished: tuple[int, ...] = ()) -> None:
    columns = log.columns
    columns["scheduled_ns"][:rows] = columns["started_ns"][:rows] = 1000 + np.arange(rows)
    columns["finished_ns"][:rows] = 2000 + np.arange(rows)
    columns["finished_ns"][list(unfinished)] = 0
    columns["input"][:rows] = np.arange(rows)
    columns["error"][:rows] = -1


def test_a_full_log_is_handed_over_without_a_copy_and_timed_from_the_start_line(open_log):
    log = open_log(1500)
    filled(log, 1500)
    calls = log.hand_over(1000, 0, 1500, ())
    assert calls.started_ns[0] == 0
    assert (calls.response_ns == 1000).all()
    assert np.shares_memory(calls.input, log.columns["input"])


def test_rows_that_did_not_finish_are_left_out(open_log):
    log = open_log(None)
    filled(log, 3000, unfinished=(5, 2999))
    calls = log.hand_over(0, 0, 3000, ())
    assert len(calls) == 2998
    assert 5 not in calls.input


def test_finished_calls_are_counted_from_where_the_last_count_ended(open_log):
    log = open_log(5000)
    filled(log, 3000, unfinished=(2048,))
    assert log.finished_calls(0, 3000) == (2999, 2048)
    assert log.finished_calls(2048, 3000) == (951, 2048)
    filled(log, 5000)
    assert log.finished_calls(2048, 5000) == (2952, 4096)


def test_a_full_disk_is_refused_before_any_caller_starts(monkeypatch: pytest.MonkeyPatch):
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(PlanError, match=r"No space left on device.*TMPDIR"):
        LogFile(1000)


def test_a_call_costs_36_bytes(open_log):
    assert log_file.ROW_BYTES == 36
    assert open_log(1_024_000).reserved_bytes == 36 * 1_024_000
