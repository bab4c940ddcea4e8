from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest

import inferload as il
from inferload.targets.conversion.time_limit import at_most


def test_what_takes_too_long_is_ended_and_said():
    with (
        pytest.raises(
            il.PlanError, match=r"turning M into 'aoti' had not come to an end after 0\.05"
        ),
        at_most(0.05, "turning M into 'aoti'"),
    ):
        time.sleep(60)


def test_what_swallows_exceptions_is_ended_all_the_same():
    def compiles() -> None:
        for _ in range(60):
            with suppress(Exception):  # as compilers do
                time.sleep(1)

    with pytest.raises(il.PlanError), at_most(0.05, "compiling"):
        compiles()


def test_what_is_done_in_time_leaves_nothing_behind():
    before = signal.getsignal(signal.SIGALRM)
    with at_most(30, "nothing"):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_its_own_errors_come_through():
    with pytest.raises(KeyError), at_most(30, "nothing"):
        raise KeyError("mine")


def test_other_threads_have_no_limit():
    done = []

    def work() -> None:
        with at_most(0.01, "nothing"):
            time.sleep(0.05)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
