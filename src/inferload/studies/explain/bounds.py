"""What bounds a run, by what changes it: rules, the first that holds is the answer.

Each looks at effects first, which were tried, and at figures only for what no change can show.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from inferload.studies.explain.facts import Bound, change_of, twice_text
from inferload.studies.explain.on_devices import DEVICE_RULES
from inferload.units import count_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferload.studies.explain.facts import Facts

# A change by less than this is no bound.
_LEAST = 0.1
# One caller that makes so much of what all make: they take turns.
_SERIAL = 0.8
# Twice the callers that make no more than this: there is no room for them.
_NO_ROOM = 1.15
# More callers that make so much more had room.
_ROOM = 0.2
# A core that is at work for less than this share waits; more than one at a time, and it computes.
_WAITS, _COMPUTES = 0.5, 0.6
# Operators that are launched faster than they could do much, and so many of them.
_SMALL_MS, _MANY = 0.02, 100
# Twice the items in nearly the same time.
_FOR_FREE = 0.25
# Of what the machine reaches, from here on it is the bound.
_NEAR_PEAK = 0.5
# More than a copy reaches is no traffic of memory: it stays in caches.
_IN_CACHES = 1.3
# Half the callers that make so much of what all make.
_ALL_BUT = 0.9
# Of a call, for any number of items.
_FIXED = 0.5
# Of the cores, with others: nothing can be told of callers that seem to take turns.
_DISTURBED = 0.25
_MARGIN = 0.15
# Of the time on cores, in the kernel: pages are made all the time.
_KERNELS = 0.15
# What others take of the cores is said from here on.
_OTHERS = 0.1
_ALLOCATORS = ("memory-kept", "jemalloc", "tcmalloc")


def bound_of(facts: Facts) -> Bound:
    """What bounds it."""
    rules = [*(DEVICE_RULES if facts.on_device else ()), *_RULES]
    found = next((one for rule in rules if (one := rule(facts)) is not None), None)
    found = found or _compute(facts)
    if facts.others > _OTHERS * facts.used.usable_cores:
        others = f" Other programs, or the machine's owner, had {facts.others:.1f} of "
        return Bound(found.word, f"{found.says}{others}{_cores(facts)} meanwhile.")
    return found


def _allocation(facts: Facts) -> Bound | None:
    gain = facts.gain(*_ALLOCATORS)
    others = max(facts.gain("processes"), facts.gain("callers-twice"))
    used = facts.used
    if gain < _LEAST or gain < others / 2 or used.system_share < _KERNELS:
        return None
    return Bound(
        "allocation",
        f"Memory that is given back and asked for again bounds it: with "
        f"{_what(facts, _ALLOCATORS)} it makes {gain:+.0%}; a call makes "
        f"{count_text(round(used.faults), 'page')}, and {used.system_share:.0%} of the time on "
        "cores is the kernel's.",
    )


def _threads(facts: Facts) -> Bound | None:
    gain = facts.gain("threads-1")
    if facts.threads < 2 or gain < _LEAST or gain < facts.gain("processes") / 2:
        return None
    wanted = facts.threads * facts.callers
    return Bound(
        "threads",
        f"Too many threads bound it: {facts.callers} x {facts.threads} = {wanted} threads of calls "
        f"on {_cores(facts)}; with one a call it makes {gain:+.0%}.",
    )


def _launches(facts: Facts) -> Bound | None:
    """Many small operators: a call with twice the items takes as long."""
    traced, gain = facts.traced, facts.gain("batch")
    count = facts.operators
    if traced is None or count < _MANY or gain < 2 * _FOR_FREE:
        return None
    in_operators_s = (1 - traced.outside) * facts.callers / max(facts.calls_per_s, 1e-9)
    each_ms = 1e3 * in_operators_s / count
    if each_ms > _SMALL_MS * max(facts.callers / max(facts.used.cores, 1.0), 1.0):
        return None
    more = ""
    form = max(("form-script", "form-aoti", "form-cudagraph"), key=facts.gain)
    if facts.gain(form) >= _LEAST:
        more = f", and as {facts.effects[form].what} {facts.gain(form):+.0%}"
    if facts.gain("processes") >= _LEAST:
        more += f"; callers take turns at the GIL for it: {facts.effects['processes'].what} make "
        more += f"{facts.gain('processes'):+.0%}"
    return Bound(
        "launches",
        f"Launching operators bounds it: a call has {count:,.0f} of them, small ones, and takes "
        f"as long with twice the items, which makes {gain:+.0%} items{more}.",
    )


def _one_at_a_time(facts: Facts) -> Bound | None:
    """Callers that take turns: one makes as much as all of them, on idle cores."""
    one, twice = facts.ratio("callers-one"), facts.effects.get("callers-twice")
    by_processes = facts.python and facts.gain("processes") > _ROOM
    if not facts.idle and not by_processes:
        return None
    if facts.callers > 1:
        if not facts.makes("callers-one", _SERIAL):
            return None
        turns = f"one caller makes {one:.0%} of what {facts.callers} make"
    else:
        if twice is None or (twice.high or math.inf) > _NO_ROOM + _MARGIN:
            return None
        turns = f"two callers make {twice.ratio:.0%} of what one makes"
    turns += f", with {facts.used.cores:.1f} of {_cores(facts)} at work"
    in_process = facts.gain("processes") if "processes" in facts.effects else None
    waits = facts.waits_for_gil
    if waits is None:
        waits = facts.used.cores > _COMPUTES and (in_process or 0.0) > _ROOM
    if facts.python and waits:
        return Bound("gil", f"The GIL bounds it: {turns}{_without_gil(facts)}.")
    where = ""
    if in_process is not None:
        inside = in_process > _ROOM
        process = facts.effects["processes"]
        where = f"; {process.what} make {change_of(process)}, so it is " + (
            "in this process" if inside else "outside of the process (a file, a device, a service)"
        )
    return Bound(
        "lock",
        f"Something that lets one call through at a time bounds it, and not the GIL: {turns}{where}"
        ". A lock, a connection, or a handle that calls share.",
    )


def _few_at_a_time(facts: Facts) -> Bound | None:
    half, one = facts.ratio("callers-half"), facts.ratio("callers-one")
    if not facts.idle or half is None or not facts.makes("callers-half", _ALL_BUT) or not one:
        return None
    return Bound(
        "lock",
        f"Something that lets about {round(1 / one)} calls through at a time bounds it: half the "
        f"callers make {half:.0%} of what {facts.callers} make, with {facts.used.cores:.1f} of "
        f"{_cores(facts)} at work. A pool of connections, a semaphore, a number of workers.",
    )


def _waiting(facts: Facts) -> Bound | None:
    twice = facts.gain("callers-twice")
    if not facts.idle or twice < _ROOM:
        return None
    each = facts.used.cores / facts.callers
    if each < _WAITS:
        return Bound(
            "waiting",
            f"Waiting bounds it: a caller computes for {each:.0%} of the time, and for the rest of "
            f"it a call waits for something that is not this machine's cores; twice the callers "
            f"make {twice:+.0%}.",
        )
    return Bound(
        "callers",
        f"The number of callers bounds it: {facts.used.cores:.1f} of {_cores(facts)} are at work, "
        f"and twice the callers make {twice:+.0%}.",
    )


def _memory(facts: Facts) -> Bound | None:
    share = bytes_share(facts)
    work = facts.work
    if share is None or work is None or not _NEAR_PEAK <= share <= _IN_CACHES:
        return None
    if work.bytes is not None and work.bytes < 2 * (work.cache_bytes or 0.0):
        return None  # what a call touches may stay there
    return Bound(
        "memory",
        f"Memory bandwidth bounds it: calls read and write {min(share, 1.0):.0%} of what a copy on "
        f"all cores reaches here{twice_text(facts)}.",
    )


def _disturbed(facts: Facts) -> Bound | None:
    """Callers that seem to take turns, on a machine that others use."""
    if facts.others < _DISTURBED * facts.used.usable_cores or not facts.callers > 1:
        return None
    if not facts.makes("callers-one", _SERIAL, margin=1.0):
        return None
    return Bound(
        "unknown",
        f"What bounds it cannot be told on a machine that is busy with something else: one caller "
        f"makes {facts.ratio('callers-one'):.0%} of what {facts.callers} make, as where they take "
        "turns, or have no more than a core.",
    )


def _per_call(facts: Facts) -> Bound | None:
    gain = facts.gain("batch")
    fixed = 2 - 2 / (1 + gain)  # of a call that takes a + b for each of its items
    if fixed < _FIXED:
        return None
    return Bound(
        "calls",
        f"What a call costs whatever it holds bounds it: twice the items a call make {gain:+.0%} "
        f"items, so that about {min(fixed, 1.0):.0%} of a call is the same for any number of them.",
    )


def _compute(facts: Facts) -> Bound:
    share = flops_share(facts)
    of_peak = ""
    if share is not None:
        of_peak = f"; calls compute {min(share, 1.0):.0%} of what a matrix product reaches here"
    busy = f"{facts.used.cores:.1f} of {_cores(facts)} are at work"
    if facts.idle:
        return Bound(
            "unknown",
            f"What bounds it was not found: {busy}, and none of the changes makes more{of_peak}.",
        )
    return Bound(
        "compute", f"The cores bound it: {busy}{twice_text(facts)}{of_peak}{_less(facts)}."
    )


_RULES: tuple[Callable[[Facts], Bound | None], ...] = (
    _launches,
    _allocation,
    _threads,
    _one_at_a_time,
    _few_at_a_time,
    _waiting,
    _memory,
    _disturbed,
    _per_call,
)


def bytes_share(facts: Facts) -> float | None:
    """Of the bytes a second that a copy reaches here, what calls read and write."""
    work = facts.work
    if work is None or not work.bytes or not work.peak_bytes_per_s:
        return None
    return work.bytes * facts.calls_per_s / work.peak_bytes_per_s


def flops_share(facts: Facts) -> float | None:
    """Of the floating point operations a second that a matrix product reaches here."""
    work = facts.work
    if work is None or not work.flops or not work.peak_flops_per_s:
        return None
    return work.flops * facts.calls_per_s / work.peak_flops_per_s


def _cores(facts: Facts) -> str:
    return f"{facts.used.usable_cores:g} core{'s' * (facts.used.usable_cores != 1)}"


def _what(facts: Facts, names: tuple[str, ...]) -> str:
    best = max((one for one in names if one in facts.effects), key=facts.gain)
    return facts.effects[best].what


def _less(facts: Facts) -> str:
    """What does the same in less, by much."""
    names = ["form-aoti", "form-script", "jemalloc", "tcmalloc", "pin", "threads-2"]
    texts = [
        f"{facts.effects[name].what} {facts.gain(name):+.0%}"
        for name in sorted(names, key=facts.gain, reverse=True)
        if facts.gain(name) >= _LEAST
    ]
    return f". What makes more of them: {', '.join(texts)}" if texts else ""


def _without_gil(facts: Facts) -> str:
    texts = [
        f"{facts.effects[name].what} make{'s' * (name != 'processes')} {facts.gain(name):+.0%}"
        for name in ("processes", "form-script", "form-aoti")
        if facts.gain(name) >= _LEAST
    ]
    return "".join(f"; {one}" for one in texts)
