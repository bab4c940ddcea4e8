"""A simulated accelerator, the device "sim", for tests of what needs one and has none.

``load()`` gives this process a backend with two devices, for good: torch knows one PrivateUse1
backend per process, and ``torch.accelerator`` is that one from then on, even beside a GPU. The
streams are asynchronous in time only, see simulated_time.h.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import torch

NAME = "inferload_simulated_device"
SOURCE = Path(__file__).with_suffix(".cpp")
PARTS = [SOURCE, *sorted(SOURCE.parent.glob("simulated_*.h"))]
FLAGS = ("-O0",)  # the build is slower than all that the tests compute

Device = torch.device | str | int | None

_loading = threading.Lock()
_extension: types.ModuleType | None = None


def load(build_directory: Path | str | None = None) -> types.ModuleType:
    """Make the device "sim" known to torch; returns what governs the simulation.

    These are ``set_exclusive(bool)``, ``set_capacity(bytes)``, ``set_copy_rate(bytes_per_s)``,
    ``hold_clock(bool)`` (its time passes only where the host waits for a device) and
    ``clear_error()`` for all devices, and ``allocated(device)``, ``peak(device)`` and
    ``reset_peak(device)``, where no device means the current one. ``torch.ops.sim.work(x, ns)`` and
    ``torch.ops.sim.fail(x)`` give a device something to do.
    """
    global _extension
    with _loading:
        if _extension is None:
            extension = _built(Path(build_directory) if build_directory else _cache_folder())
            torch.utils.rename_privateuse1_backend("sim")
            torch._register_device_module("sim", _DeviceModule(extension))
            torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
            _extension = extension
        return _extension


def _cache_folder() -> Path:
    own = os.environ.get("INFERLOAD_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "inferload"


def _built(folder: Path) -> types.ModuleType:
    made_from = (torch.__config__.show(), sysconfig.get_config_var("SOABI"), FLAGS)
    text = b"".join(one.read_bytes() for one in PARTS)
    key = hashlib.sha256(text + repr(made_from).encode()).hexdigest()[:16]
    library = folder / f"torch-{torch.__version__}-sim" / f"{NAME}-{key}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    # torch's own lock is a file that outlives a killed build; this one dies with its process
    with (library.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.is_file():
            for left_behind in library.parent.glob("build-*"):
                shutil.rmtree(left_behind, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="build-", dir=library.parent) as build:
                return _compiled(Path(build), library)
    spec = importlib.util.spec_from_file_location(
        NAME, library, loader=importlib.machinery.ExtensionFileLoader(NAME, str(library))
    )
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    return extension


def _compiled(build: Path, library: Path) -> types.ModuleType:
    from torch.utils import cpp_extension

    # ninja comes with the environment, which need not be activated
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
    try:
        extension = cpp_extension.load(
            NAME,
            [str(SOURCE)],
            extra_cflags=list(FLAGS),
            build_directory=str(build),
            with_cuda=False,
        )
    finally:
        os.environ["PATH"] = path
    # moved, not copied: mapped a second time, the library would register its operators twice
    (build / f"{NAME}.so").replace(library)
    return extension


class _DeviceModule(types.ModuleType):
    """What torch looks up as ``torch.sim``."""

    Stream, Event = torch.Stream, torch.Event

    def __init__(self, extension: types.ModuleType) -> None:
        super().__init__("torch.sim")
        self._extension = extension

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _lazy_init(self) -> None:
        """Without it ``torch.accelerator.synchronize()`` does nothing (torch 2.11)."""

    def device_count(self) -> int:
        return 2

    def current_device(self) -> int:
        return torch.accelerator.current_device_index()

    def set_device(self, device: Device) -> None:
        torch.accelerator.set_device_index(_index_of(device))

    @contextlib.contextmanager
    def device(self, device: Device) -> Iterator[None]:
        before = self.current_device()
        self.set_device(device)
        try:
            yield
        finally:
            self.set_device(before)

    def get_device_name(self, device: Device = None) -> str:
        return "Simulated device"

    def synchronize(self, device: Device = None) -> None:
        torch.accelerator.synchronize(_index_of(device))

    def current_stream(self, device: Device = None) -> torch.Stream:
        return torch.accelerator.current_stream(_index_of(device))

    def set_stream(self, stream: torch.Stream) -> None:
        torch.accelerator.set_stream(stream)

    @contextlib.contextmanager
    def stream(self, stream: torch.Stream) -> Iterator[None]:
        # `with stream:` keeps what was before in the object, which other threads may share
        with self.device(stream.device):
            before = self.current_stream()
            self.set_stream(stream)
            try:
                yield
            finally:
                self.set_stream(before)

    def memory_allocated(self, device: Device = None) -> int:
        return self._extension.allocated(_index_of(device))

    def max_memory_allocated(self, device: Device = None) -> int:
        return self._extension.peak(_index_of(device))

    # nothing is cached, so nothing is reserved beyond what is in use
    memory_reserved, max_memory_reserved = memory_allocated, max_memory_allocated

    def reset_peak_memory_stats(self, device: Device = None) -> None:
        self._extension.reset_peak(_index_of(device))

    def mem_get_info(self, device: Device = None) -> tuple[int, int]:
        return self._extension.memory_info(_index_of(device))

    def empty_cache(self) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Nothing: random numbers come from the CPU's generator; torch warns if it is missing."""


def _index_of(device: Device) -> int:
    if isinstance(device, int):
        return device
    device = torch.device("sim" if device is None else device)
    if device.type != "sim":
        raise ValueError(f"{device} is no simulated device")
    return torch.accelerator.current_device_index() if device.index is None else device.index
