"""The words that ranks say through the store, each under a name, and what follows them.

A word of one rank has its number in its name; others are said by the first rank to all.
"""

from __future__ import annotations

#: The first rank to all: when to start, and by how much clocks differ (JSON).
START = "start"
#: Any rank: the run is to end.
STOP = "stop"
#: The first rank: it needs nobody any more.
OVER = "over"
#: The first rank: results of ranks up to this one may be handed over.
GIVE = "give"
#: Counted: ranks that are ready, and ranks that failed.
READY = "ready"
ERRORS = "errors"


def hello(rank: int) -> str:
    """A rank is there: who it is, and on which machine (JSON)."""
    return f"hello/{rank}"


def ready(rank: int) -> str:
    """A rank could start: its plan (JSON)."""
    return f"ready/{rank}"


def error(rank: int) -> str:
    """A rank failed: its error in words."""
    return f"error/{rank}"


def result(rank: int) -> str:
    """What a rank hands over, in pieces."""
    return f"result/{rank}"


def taken(rank: int) -> str:
    """The first rank has what a rank handed over."""
    return f"taken/{rank}"


def beat(rank: int) -> str:
    """Counted: a rank is alive."""
    return f"beat/{rank}"


def asked(rank: int, number: int) -> str:
    """The first rank asks a rank for its time; the question 0 says that it will."""
    return f"time/{rank}/asked/{number}"


def answer(rank: int, number: int) -> str:
    """The time of a rank, in nanoseconds."""
    return f"time/{rank}/answer/{number}"
