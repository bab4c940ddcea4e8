"""What is changed, one thing at a time, to see whether it bounds a run."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.plan.cores import usable_cpus
from inferload.studies.bench import Turn
from inferload.studies.records.settings import Settings
from inferload.units import count_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inferload.plan.options import RunOptions
    from inferload.records.spec import RunSpec

#: The run as it was asked for.
BASE = "base"
# Where Linux keeps libraries, and the allocators that are worth a try.
_LIBRARIES = (
    "usr/lib/*-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/lib",
    f"{sys.prefix}/lib".lstrip("/"),
)
_ALLOCATORS = {"jemalloc": "libjemalloc.so*", "tcmalloc": "libtcmalloc*.so*"}
# Calls that make fewer pages anew keep what they free.
_FEW_FAULTS = 8
# glibc gives freed memory of these sizes back to the kernel, and asks for it again: 0 blocks are
# mapped apart, and heaps are not cut. With several arenas a heap is at most 64 MiB.
_KEEPING = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_ARENA_MAX": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One change; ``turn`` is what is called with it.

    ``processes``: so many at once, each with that turn. ``environment``: what they find there.
    ``flags`` keep the change on the command line. ``watched``: devices are watched meanwhile, and
    the change that is told is that they are not. ``settles``: bounds are told by it, so
    that it is never left out. ``made_once``: the first round takes longer.
    """

    name: str
    what: str
    turn: Turn
    processes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    watched: bool = False
    settles: bool = False
    made_once: bool = False

    @property
    def apart(self) -> bool:
        """Whether it needs processes of its own."""
        return bool(self.processes > 1 or self.environment)


@dataclass(frozen=True, slots=True)
class NotTried:
    """A change that there is no point in, or no way to, and why."""

    name: str
    what: str
    why: str


def arms_of(
    options: RunOptions, spec: RunSpec, cores: int, faults: float | None = None
) -> tuple[tuple[Arm, ...], tuple[NotTried, ...]]:
    """The run as it was asked for, the changes to it, and those that are not tried.

    ``spec`` is that of a run with ``options``; ``cores``: how many it may use. ``faults``: how many
    pages a call makes; ``None``: not known.
    """
    found: list[Arm] = [Arm(name=BASE, what="as asked", turn=Turn(options=options))]
    left: list[NotTried] = []
    for part in (_callers, _threads, _forms, _processes, _batch, _pins, _on_devices, _allocators):
        for one in part(options, spec, cores):
            if isinstance(one, Arm):
                found.append(one)
            else:
                left.append(one)
    for one in found:
        if one.name == "memory-kept" and faults is not None and faults < _FEW_FAULTS:
            found.remove(one)
            left.append(NotTried(one.name, one.what, f"a call makes {faults:.2g} pages anew"))
            break
    return tuple(found), tuple(left)


def environment_arm(
    name: str,
    what: str,
    options: RunOptions,
    environment: Mapping[str, str],
    *,
    settles: bool = False,
) -> Arm:
    """The run as it was asked for, in a process with more in its environment."""
    turn = Turn(options=options)
    return Arm(name=name, what=what, turn=turn, environment=environment, settles=settles)


def _callers(options: RunOptions, spec: RunSpec, cores: int) -> Iterator[Arm]:
    del cores
    count = spec.callers
    numbers = {"callers-one": 1, "callers-half": count // 2, "callers-twice": 2 * count}
    for name, number in numbers.items():
        if number == count or (name == "callers-half" and number < 2):
            continue
        texts = {"callers-half": "half the callers", "callers-twice": "twice the callers"}
        what = f"{texts[name]} ({number:,})" if name in texts else "one caller"
        yield Arm(
            name=name,
            what=what,
            turn=Turn(options=options, settings=Settings(callers=number)),
            flags={"callers": str(number)},
            settles=True,
        )


def _threads(options: RunOptions, spec: RunSpec, cores: int) -> Iterator[Arm]:
    for number in (1, 2):
        if number == spec.threads_per_call or number > cores:
            continue
        yield Arm(
            name=f"threads-{number}",
            what=f"{count_text(number, 'thread')} a call",
            turn=Turn(options=options, settings=Settings(threads_per_call=number)),
            flags={"threads-per-call": str(number)},
            settles=number < spec.threads_per_call,
        )


def _forms(options: RunOptions, spec: RunSpec, cores: int) -> Iterator[Arm | NotTried]:
    del cores
    for form in ("cudagraph", "aoti") if spec.devices else ("script", "aoti"):
        name = f"form-{form}"
        what = "CUDA graphs" if form == "cudagraph" else f"form {form}"
        if form == spec.form:
            continue
        if form not in spec.may_become:
            yield NotTried(name, what, f"a target in the form {spec.form} is not turned into it")
            continue
        yield Arm(
            name=name,
            what=what,
            turn=Turn(options=options, settings=Settings(form=form)),
            flags={"form": form},
            made_once=form == "aoti",
        )


def _processes(options: RunOptions, spec: RunSpec, cores: int) -> Iterator[Arm | NotTried]:
    count = min(spec.callers, cores)
    if count < 2:
        why = "one caller has one process" if spec.callers < 2 else "there is one core"
        yield NotTried("processes", "several processes", why)
        return
    each = -(-spec.callers // count)
    yield Arm(
        name="processes",
        what=f"{count} processes, {count_text(each, 'caller')} each",
        turn=Turn(options=options, settings=Settings(callers=each)),
        processes=count,
        settles="threads" in spec.executors,
        flags={"processes": str(count), "callers": str(each)},
    )


def _batch(options: RunOptions, spec: RunSpec, cores: int) -> Iterator[Arm | NotTried]:
    del cores
    sizes = set(spec.items_per_input)
    if len(sizes) > 1:
        yield NotTried("batch", "batch x2", "inputs have different numbers of items")
        return
    size = 2 * sizes.pop()
    yield Arm(
        name="batch",
        what=f"batch x2 ({count_text(size, 'item')})",
        turn=Turn(options=options, settings=Settings(batch_size=size)),
        flags={"batch-sizes": str(size)},
        settles=True,
    )


def _pins(options: RunOptions, spec: RunSpec, cores: int) -> Iterator[Arm | NotTried]:
    what = "callers on cores of their own"
    if options.pin != "none":
        yield NotTried("pin", what, "they have them already")
        return
    own = [
        tuple(sorted(cpu.number for cpu in one))
        for _, one in groupby(sorted(usable_cpus()), key=lambda cpu: (cpu.node, cpu.core))
    ]
    if cores < 2 or spec.callers * spec.threads_per_call > len(own):
        threads = spec.callers * spec.threads_per_call
        yield NotTried("pin", what, f"{threads} threads of calls are more than {len(own)} cores")
        return
    each = spec.threads_per_call
    cpus = tuple(
        tuple(cpu for core in own[one * each : (one + 1) * each] for cpu in core)
        for one in range(spec.callers)
    )
    yield Arm(name="pin", what=what, turn=Turn(options=options, cpus=cpus), flags={"pin": "cores"})


def _on_devices(options: RunOptions, spec: RunSpec, cores: int) -> Iterator[Arm | NotTried]:
    del cores
    if not spec.devices:
        yield NotTried("telemetry", "telemetry off", "it reads no device of this run")
        return
    if options.transfers:
        without = replace(options, transfers=False)
        yield Arm(
            name="transfers-off", what="inputs stay on the device", turn=Turn(options=without)
        )
    if spec.streams == "per-caller" and spec.callers > 1:
        shared = replace(options, streams="shared")
        yield Arm(
            name="one-stream",
            what="one stream for all callers",
            turn=Turn(options=shared),
            flags={"streams": "shared"},
        )
    if options.telemetry:
        yield Arm(
            name="telemetry",
            what="telemetry off",
            turn=Turn(options=options),
            watched=True,
            flags={"no-telemetry": ""},
        )


def _allocators(options: RunOptions, spec: RunSpec, cores: int) -> Iterator[Arm | NotTried]:
    del spec, cores
    if platform.system() != "Linux":
        yield NotTried("allocator", "another allocator", "it is put in place on Linux only")
        return
    known = {name: _library(pattern) for name, pattern in _ALLOCATORS.items()}
    there = [name for name, path in known.items() if path is not None]
    if there:
        name = there[0]
        yield environment_arm(name, name, options, {"LD_PRELOAD": str(known[name])})
    else:
        names = " or ".join(_ALLOCATORS)
        yield NotTried("allocator", names, "it is not installed (apt, dnf or conda)")
    if platform.libc_ver()[0] == "glibc":
        what = "freed memory kept (glibc)"
        yield environment_arm("memory-kept", what, options, _KEEPING, settles=True)


def _library(pattern: str) -> Path | None:
    """A shared library, without those for debugging."""
    root = Path(sys.prefix).anchor or "/"
    for folder in _LIBRARIES:
        found = [one for one in Path(root).glob(f"{folder}/{pattern}") if "debug" not in one.name]
        if found:
            return min(found, key=lambda one: (len(one.name), one.name))
    return None
