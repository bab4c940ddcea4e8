"""The program with less patience: with other ranks, with calls that hang, with warm-up."""

from __future__ import annotations

from functools import partial

from inferload.cli.main import main
from inferload.runs import driving, warming
from inferload.runs.cluster import link

if __name__ == "__main__":  # a process that callers run in imports this file as well
    waits = link.Waits(beat_s=0.5, look_s=0.5, lost_s=4.0, try_s=1.0)
    link.connected = partial(link.connected, waits=waits)
    driving.PATIENCE_S = 0.5
    warming.FIRST_LOOK_S = warming.LOOK_S = 0.2
    main()
