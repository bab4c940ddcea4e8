"""Run a command beside a load of twice the cores: what is right only on an idle machine shows.

    python tests/support/busy.py python -m pytest tests/contract

The exit status is the command's. The load ends with it, also if either is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

LOOPS_A_CORE = 2
# Each looks now and then whether who started it is still there.
LOOP = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(100_000):
        pass
"""


def main(command: list[str]) -> int:
    cores = len(os.sched_getaffinity(0))
    loops = [
        subprocess.Popen([sys.executable, "-S", "-c", LOOP, str(os.getpid())])
        for _ in range(LOOPS_A_CORE * cores)
    ]
    print(f"beside {len(loops)} busy loops on {cores} cores: {' '.join(command)}", flush=True)
    try:
        tests = subprocess.Popen(command)
        # Ctrl-C goes to the whole group, and the tests say what becomes of it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, _: tests.send_signal(number))
        status = tests.wait()
    finally:
        for one in loops:
            one.kill()
        for one in loops:
            one.wait()
    print(f"ended beside {len(loops)} busy loops on {cores} cores: {' '.join(command)}")
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
