from __future__ import annotations

import os
import subprocess
import sys

from inferload.callers.budget import Budget

TAKER = """
import sys
from inferload.callers.budget import Budget
budget, taken = Budget(int(sys.argv[1])), []
while some := budget.take(1000, 4):
    taken.append(some)
print(sum(taken))
"""


def test_fair_shares_shrink_towards_the_end_and_all_of_it_is_taken():
    budget, taken = Budget.of(10_000), []
    while some := budget.take(1000, 2):
        taken.append(some)
    assert sum(taken) == 10_000
    assert taken[0] == 1000
    assert taken == sorted(taken, reverse=True)
    assert taken[-1] == 1
    assert budget.left == 0


def test_processes_that_take_at_once_take_each_call_once():
    budget = Budget.of(200_000)
    os.set_inheritable(budget.fileno, True)
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(budget.fileno)],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(budget.fileno,),
        )
        for _ in range(3)
    ]
    taken = [int(taker.communicate()[0]) for taker in takers]
    assert sum(taken) == 200_000
    assert budget.left == 0
