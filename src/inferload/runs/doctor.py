"""What this machine offers, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inferload.callers.local.devices import info_of
from inferload.callers.native.build import compiler, library_path, native_extension
from inferload.callers.python.clock import MonotonicClock
from inferload.errors import NativeBuildError
from inferload.files import is_file, is_folder
from inferload.machine.cgroups import throttled_s
from inferload.machine.disturbances import stolen_and_total
from inferload.machine.gpu_watch import GpuWatch
from inferload.machine.hardware import (
    TURBO_HINT,
    cpu_model,
    first_line,
    governor,
    turbo,
    usable_cores,
)
from inferload.plan.server import SERVER_PACKAGES
from inferload.targets.kinds.package_check import package_trouble, shared_objects, static_compiler
from inferload.units import bytes_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# So long a counter is looked at beside the clock.
_COUNTER_TRIED_NS = 50_000_000
_CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: whether it is well, what was found, and what to do if not."""

    name: str
    well: bool
    found: str
    hint: str = ""


def findings(announce: Callable[[str], None]) -> list[Finding]:
    """Look at everything that a run depends on and that needs no model.

    Compiles the native callers if they are not there yet, and tells ``announce`` so.
    """
    return [
        _torch(),
        *_devices(),
        _cores(),
        _quota(),
        _steal(),
        _governor(),
        _turbo(),
        _clock(),
        _timer(),
        _allocator(),
        _compiler(),
        _aoti_compiler(),
        *_native_callers(announce),
        _servers(),
    ]


def _quota() -> Finding:
    held_back = throttled_s()
    return Finding(
        name="quota",
        well=not held_back,
        found="no cgroup says that it throttles"
        if held_back is None
        else f"throttled for {held_back:.3g} s since the cgroup was made",
        hint="raise cpu.max, or use fewer threads than the quota has cores",
    )


def _steal() -> Finding:
    ticks = stolen_and_total()
    if ticks is None or not ticks[1]:
        return Finding(name="steal", well=True, found="unknown: there is no /proc/stat")
    fraction = ticks[0] / ticks[1]
    return Finding(
        name="steal",
        well=fraction <= 0.005,
        found=f"{fraction:.2%} of the time since boot went to other virtual machines",
        hint="compare only runs that alternate, or use a machine of your own",
    )


def _governor() -> Finding:
    found = governor()
    return Finding(
        name="governor",
        well=found in {None, "performance"},
        found=found or "unknown: the system does not show it (a virtual machine?)",
        hint="cpupower frequency-set --governor performance",
    )


def _turbo() -> Finding:
    on = turbo()
    return Finding(
        name="turbo",
        well=not on,
        found="unknown: the system does not show it" if on is None else "on" if on else "off",
        hint=TURBO_HINT,
    )


def _clock() -> Finding:
    source = first_line(_CLOCK_SOURCE) or "unknown"
    reads = 20_000
    began = time.perf_counter_ns()
    for _ in range(reads):
        time.perf_counter_ns()
    each = (time.perf_counter_ns() - began) / reads
    return Finding(
        name="clock",
        well=each < 200,
        found=f"{source}, a reading from Python takes {each:.0f} ns",
        hint="readings leave the process: boot with clocksource=tsc if the hardware allows it",
    )


def _timer() -> Finding:
    clock = MonotonicClock()
    with clock.caller():
        late = []
        for _ in range(200):
            due = time.perf_counter_ns() + 1_000_000
            clock.sleep(1_000_000)
            late.append((time.perf_counter_ns() - due) / 1e3)
    late.sort()
    middle, tail = late[99], late[197]
    return Finding(
        name="timer",
        well=tail < clock.spin_ns / 1e3,
        found=f"a sleep lasts {middle:.0f} us too long in the median, 198 of 200 up to "
        f"{tail:.0f} us",
        hint="calls of open loops will begin late: Python callers look at the clock for the last "
        f"{clock.spin_ns / 1e3:.0f} us only, native ones for up to 500; leave a core free, or use "
        "a quieter machine",
    )


def _allocator() -> Finding:
    preloaded = os.environ.get("LD_PRELOAD", "")
    known = next((name for name in ("tcmalloc", "jemalloc", "mimalloc") if name in preloaded), None)
    return Finding(
        name="allocator",
        well=True,
        found=known or "the C library's; tcmalloc or jemalloc (LD_PRELOAD) is often faster",
    )


def _torch() -> Finding:
    return Finding(
        name="torch",
        well=True,
        found=f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} intra-op threads",
    )


def _cores() -> Finding:
    usable, present = usable_cores(), os.cpu_count() or 1
    return Finding(
        name="cores",
        well=usable >= present,
        found=f"{usable:g} of {present} usable, {cpu_model()}",
        hint="an affinity mask or a cgroup quota holds the rest back",
    )


def _servers() -> Finding:
    """What requests to servers are sent by."""
    found = {one: importlib.util.find_spec(one) is not None for one in SERVER_PACKAGES}
    missing = [one for one, there in found.items() if not there]
    versions = [f"{one} {version(name)}" for one, name in SERVER_PACKAGES.items() if found[one]]
    return Finding(
        name="servers",
        well=not missing,
        found=", ".join(versions) if not missing else f"{', '.join(missing)} not installed",
        hint="pip install 'inferload[remote]', to ask models by the URL of their server",
    )


def _compiler() -> Finding:
    path = compiler()
    return Finding(
        name="C++ compiler",
        well=path is not None,
        found=path or f"{os.environ.get('CXX', 'c++')} is not on the PATH",
        hint="install g++ or clang++, or set CXX",
    )


def _aoti_compiler() -> Finding:
    trouble = static_compiler()
    return Finding(
        name="AOTInductor",
        well=trouble is None,
        found=trouble or "its compiler links libstdc++ as torch does",
        hint="CXX=/usr/bin/g++, and build packages again that were made with the other",
    )


def _devices() -> list[Finding]:
    """Each device that torch sees, and whether its clocks and power can be looked at."""
    available = torch.accelerator.is_available()  # torch 2.6 raises where it is asked for one
    accelerator = torch.accelerator.current_accelerator() if available else None
    count = torch.accelerator.device_count()
    if accelerator is None or not count:
        built = "" if torch.version.cuda else "; it is built without CUDA"
        return [Finding(name="devices", well=True, found=f"torch sees none{built}")]
    infos = [info_of(torch.device(accelerator.type, number)) for number in range(count)]
    found = []
    for info in infos:
        memory = "" if info.memory_bytes is None else f", {bytes_text(info.memory_bytes)}"
        found.append(Finding(name=info.device, well=True, found=f"{info.name}{memory}"))
    with GpuWatch([one for one in infos if one.device.startswith("cuda")]) as watch:
        pass
    found.append(
        Finding(
            name="telemetry",
            well=watch.trouble is None,
            found=watch.trouble or "clocks, power and memory of devices can be looked at",
            hint="until then reports say nothing of clocks, power and energy",
        )
    )
    return found


def package_finding(path: Path) -> Finding:
    """Whether an AOTInductor package can be loaded here without harm."""
    hint = "name a .pt2 file that aoti_compile_and_package wrote"
    if not is_file(path):
        found = "is a folder" if is_folder(path) else "is not there"
        return Finding(name=path.name or str(path), well=False, found=found, hint=hint)
    if not shared_objects(path):
        found = "cannot be read as a package, or has no compiled code in it"
        return Finding(name=path.name, well=False, found=found, hint=hint)
    trouble = package_trouble(path)
    return Finding(
        name=path.name,
        well=trouble is None,
        found=trouble or "its code links libstdc++ as torch does",
        hint="export and compile it again",
    )


def _native_callers(announce: Callable[[str], None]) -> list[Finding]:
    path = library_path()
    if not is_file(path) and compiler() is None:
        own = Finding(
            name="native callers",
            well=False,
            found="not available: they are not compiled yet, and there is no C++ compiler",
            hint="until then Python threads call every target, holding the GIL",
        )
        return [own]
    was_there = is_file(path)
    try:
        extension = native_extension(announce)
    except NativeBuildError as error:
        own = Finding(
            name="native callers",
            well=False,
            found=f"not available: {error}",
            hint=f"until then Python threads call every target; free disk: "
            f"{shutil.disk_usage(path.anchor).free >> 20:,} MiB",
        )
        return [own]
    own = Finding(
        name="native callers",
        well=True,
        found=f"available, {'compiled before' if was_there else 'compiled just now'}: {path}",
    )
    return [own, _stamps(extension)]


def _stamps(extension: ModuleType) -> Finding:
    """What native callers in a closed loop take their stamps of."""
    tick_ns, counts, off_ns = extension.try_counter(_COUNTER_TRIED_NS, 0.0)
    if not tick_ns:
        found = "of the clock: the kernel does not go by the processor's counter"
    elif not counts:
        found = f"of the clock: the processor's counter was {off_ns:,} ns off"
    else:
        found = f"of the processor's counter, {tick_ns:.3g} ns a tick and {off_ns:,} ns off"
    return Finding(name="stamps of native callers", well=True, found=found)
