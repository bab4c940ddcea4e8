"""Other work on the same machine, as on a runner that several jobs share."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Each spins and sleeps for so long in turn, in the mean, in seconds.
STATE_S = 3.0
_SPINS = """
import random, sys, time

drawn = random.Random(int(sys.argv[1]))
while True:
    until = time.monotonic() + drawn.expovariate(1 / {state_s})
    while time.monotonic() < until:
        pass
    time.sleep(drawn.expovariate(1 / {state_s}))
"""


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that spin for half of the time, while in here."""
    made = [
        subprocess.Popen([sys.executable, "-c", _SPINS.format(state_s=STATE_S), str(number)])
        for number in range(count)
    ]
    try:
        yield
    finally:
        for one in made:
            one.kill()
            one.wait()
