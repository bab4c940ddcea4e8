"""Small models that tests call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch


class NoOp(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Affine(torch.nn.Module):
    """Keyword and non-tensor arguments, nested containers, a dict of outputs."""

    def forward(
        self, x: torch.Tensor, pair: dict[str, torch.Tensor], scale: int = 1
    ) -> dict[str, torch.Tensor]:
        return {"y": x * scale + pair["shift"], "x": x}


class WritesIntoItsInput(torch.nn.Module):
    """Fails if any other caller has written into this input before."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = float(x.sum())
        x.add_(1)
        if float(x.sum()) != before + x.numel():
            raise RuntimeError("somebody else wrote into this input")
        x.sub_(1)
        return x


def asking(ask: Callable[[torch.Tensor], object]) -> torch.nn.Module:
    """A model whose calls are one of this Python function, also in TorchScript and natively.

    So a test says with locks and events when a call returns, whatever the machine does meanwhile.
    """

    class Asks(torch.nn.Module):
        @torch.jit.ignore
        def asked(self, x):
            ask(x)
            return x

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.asked(x)

    return Asks().eval()


class RaisesOnNegative(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() < 0):
            raise RuntimeError("negative input")
        return x


class Sleeps(torch.nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return x


class Leaks(torch.nn.Module):
    """Keeps a copy of every input."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.0002)
        self.kept.append(x.clone())
        return x


class Spikes(torch.nn.Module):
    """Takes so much memory in its first call only, and gives it back."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.size_bytes:
            torch.ones(self.size_bytes, dtype=torch.uint8)
            self.size_bytes = 0
        return x


class SleepsOn(torch.nn.Module):
    """Sleeps on inputs of one size, once it has warmed up; is quick on others."""

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__()
        self.size = size
        self.seconds = seconds
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls > 10 and len(x) == self.size:
            time.sleep(self.seconds)
        return x


class ExpectsState(torch.nn.Module):
    """Raises unless the thread it runs in has the state that the test set."""

    def __init__(self, grad: bool, inference: bool, autocast: bool) -> None:
        super().__init__()
        self.grad = grad
        self.inference = inference
        self.autocast = autocast

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() != self.grad:
            raise RuntimeError("grad mode did not cross")
        y = torch.mm(x, x)
        if y.is_inference() != self.inference:
            raise RuntimeError("inference mode did not cross")
        if (y.dtype == torch.bfloat16) != self.autocast:
            raise RuntimeError("autocast did not cross")
        return y


class Counts:
    """A callable that counts its calls and the threads they came from."""

    def __init__(self) -> None:
        self.calls = 0
        self.threads: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        with self._lock:
            self.calls += 1
            self.threads.add(threading.get_ident())
        return x


def mlp() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
    ).eval()


class Meeting:
    """Where calls of several threads wait for each other, for a while."""

    def __init__(self, callers: int) -> None:
        self._callers = callers
        self._came = 0
        self._changed = threading.Condition()

    def meet(self) -> None:
        """Wait until another caller has come after this one; the last of all waits in vain."""
        if self._callers == 1 or threading.current_thread() is threading.main_thread():
            return
        with self._changed:
            self._came += 1
            mine = self._came
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._came > mine, timeout=1.0)


def sharing_a_buffer(callers: int) -> torch.nn.Module:
    """Not safe to call from several threads: an intermediate result lives in a buffer.

    A call by one of several callers goes on when another one has written there.
    """
    meeting = Meeting(callers)

    class SharesABuffer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scratch", torch.zeros(2000))

        @torch.jit.ignore
        def met(self, x):  # TorchScript reads no annotation that is a text
            meeting.meet()
            return x

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.scratch.copy_(x)
            x = self.met(x)  # unused, it would return None there
            return self.scratch + 0.0

    return SharesABuffer().eval()


# Released by each call of Released in this process.
_others = threading.Semaphore(0)


class Released(torch.nn.Module):
    """Lets a ``Held`` of the same process know of each of its calls."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _others.release()
        return x


class Held(torch.nn.Module):
    """The first call returns when so many of ``Released`` were made since it began."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while self.calls and _others.acquire(blocking=False):
            pass  # those of before
        while self.calls:
            if not _others.acquire(timeout=120):
                raise RuntimeError("nobody else was called meanwhile")
            self.calls -= 1
        return x


class Takes(torch.nn.Module):
    """Takes anything, and spoils the tensors it gets."""

    def forward(self, *args, **kwargs):
        for one in (*args, *kwargs.values()):
            if isinstance(one, torch.Tensor) and one.is_floating_point():
                one.add_(1)


def for_executor(model: torch.nn.Module, executor: str) -> torch.nn.Module:
    return torch.jit.script(model) if executor == "native" else model
