"""Models whose bound is known by construction, each under the name of what bounds it."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from pathlib import Path

import torch

# So long a call takes of its own, whatever the machine.
CALL_S = 0.004


class Sleeps(torch.nn.Module):
    """Waits for a timer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, returned."""
        time.sleep(CALL_S)
        return x


class HoldsTheGil(torch.nn.Module):
    """Computes in Python."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(items, n)``, and a number for each item."""
        found = [sum(i * i for i in range(20_000)) for _ in range(len(x))]
        return x.sum(dim=1) + torch.tensor(found, device=x.device)


class Hashes(torch.nn.Module):
    """Computes without the GIL, in another library."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(items, n)``, returned."""
        for item in x.numpy():
            hashlib.sha256(item.data).digest()
        return x


class Allocates(torch.nn.Module):
    """Asks for memory that is given back to the kernel after each call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(items, n)``, and a number for each item."""
        return torch.stack([torch.ones(12_000_000)[0] + item[0] for item in x])


class Streams(torch.nn.Module):
    """Reads and writes memory that fits no cache."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (torch.ones(16_000_000) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, returned."""
        self.b.copy_(self.a)
        return x


class Launches(torch.nn.Module):
    """A thousand operators that do nearly nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, the same shape."""
        for _ in range(1000):
            x = x + 1
        return x


class Multiplies(torch.nn.Module):
    """One large product of matrices for each item."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(512, 512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(items, 512, 512)``, the same shape."""
        return x @ self.weight


# One a process, as a connection, or a handle that is not safe to share.
LOCK = threading.Lock()


class Locks(torch.nn.Module):
    """Waits while it holds a lock."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, returned."""
        with LOCK:
            time.sleep(CALL_S)
        return x


class ComputesLocked(torch.nn.Module):
    """Computes without the GIL while it holds a lock."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(items, n)``, returned."""
        with LOCK:
            for item in x.numpy():
                hashlib.sha256(item.data).digest()
        return x


class Parallel(torch.nn.Module):
    """Small operators that each wake all intra-op threads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(256, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(items, 256, 256)``, the same shape."""
        for _ in range(30):
            x = torch.tanh(x @ self.weight)
        return x


class SharesAFile(torch.nn.Module):
    """Waits while it holds a lock of a file, which other processes wait for as well."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.gettempdir()) / f"bottleneck-{os.getuid()}.lock"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, returned."""
        import fcntl

        with self.path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            time.sleep(CALL_S)
        return x


class MultipliesOften(torch.nn.Module):
    """Large products of matrices, one after another: a device is busy with few launches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4096, 4096) / 64, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(items, 4096, 4096)``, the same shape."""
        for _ in range(8):
            x = x @ self.weight
        return x


class BringsBack(torch.nn.Module):
    """Waits for the device again and again, by reading a value of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, the same shape."""
        for _ in range(100):
            if x.sum().item() < 0:
                x = x + 1
            x = x * 1.0
        return x


class Reduces(torch.nn.Module):
    """Little work on a large input, which is copied to the device for it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(items, n)``, and a number for each item."""
        return x.sum(dim=1)


SMALL = torch.ones(1, 64)
BYTES = torch.zeros(1, 1_000_000)
# Name, module, input, callers, threads a call, the bound that is right.
CASES: dict[str, tuple[type[torch.nn.Module], torch.Tensor, int, int, str]] = {
    "sleeps": (Sleeps, SMALL, 4, 1, "waiting"),
    "gil": (HoldsTheGil, SMALL, 4, 1, "gil"),
    "hashes": (Hashes, BYTES, 4, 1, "compute"),
    "allocates": (Allocates, SMALL, 2, 1, "allocation"),
    "streams": (Streams, SMALL, 2, 1, "memory"),
    "launches": (Launches, SMALL, 1, 1, "launches"),
    "multiplies": (Multiplies, torch.ones(1, 512, 512), 2, 1, "compute"),
    "locks": (Locks, SMALL, 4, 1, "lock"),
    "computes-locked": (ComputesLocked, BYTES, 4, 1, "lock"),
    "shares-a-file": (SharesAFile, SMALL, 4, 1, "lock"),
    "threads": (Parallel, torch.ones(1, 256, 256), 4, 2, "threads"),
    "callers": (Multiplies, torch.ones(1, 512, 512), 1, 1, "callers"),
}

# The same on a device; of the last one inputs are copied to it in each call.
ON_DEVICES: dict[str, tuple[type[torch.nn.Module], torch.Tensor, int, int, str]] = {
    "device-multiplies": (MultipliesOften, torch.ones(1, 4096, 4096), 4, 1, "device"),
    "device-launches": (Launches, SMALL, 1, 1, "launches"),
    "device-item": (BringsBack, SMALL, 1, 1, "sync"),
    "device-sleeps": (Sleeps, SMALL, 4, 1, "waiting"),
    "device-gil": (HoldsTheGil, SMALL, 4, 1, "gil"),
    "device-transfers": (Reduces, torch.ones(1, 32_000_000), 1, 1, "transfers"),
}


def model(name: str) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """A case's model and its input."""
    module, x, *_ = (CASES | ON_DEVICES)[name]
    return module().eval(), [x]
