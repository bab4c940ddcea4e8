"""The thread-local state of the thread that starts a run, as each Python caller takes it over."""

from __future__ import annotations

import contextvars
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils._device import DeviceContext

if TYPE_CHECKING:
    from collections.abc import Iterator

# at::autocast::_AUTOCAST_SUPPORTED_DEVICES, by name; what this torch does not know is left out.
_AUTOCAST_DEVICES = ("cpu", "cuda", "mtia", "maia", "xpu", "ipu", "hpu", "xla", "mps")
_PRIVATE_BACKEND = torch.utils.backend_registration._privateuse1_backend_name  # noqa: SLF001


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableState:
    """The part of a thread's state that another process can take over."""

    grad: bool
    inference: bool
    autocast: dict[str, tuple[bool, torch.dtype]]
    autocast_cache: bool
    default_device: torch.device

    @property
    def grad_words(self) -> str:
        """As one of ``GRAD_MODES`` of the command line."""
        return "inference" if self.inference else "on" if self.grad else "no"

    @contextmanager
    def taken_over(self) -> Iterator[None]:
        """Put a fresh thread into this state."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(mode=self.inference))
            torch.set_grad_enabled(self.grad)
            for device, (enabled, dtype) in self.autocast.items():
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)
            torch.set_autocast_cache_enabled(self.autocast_cache)
            if self.default_device != torch.get_default_device():
                stack.enter_context(DeviceContext(self.default_device))
            yield


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadState:
    """All of it that a call can see.

    Grad and inference mode, autocast of every device and its cache flag, the default device,
    dispatch keys and context variables.
    """

    grad: bool
    inference: bool
    autocast: dict[str, tuple[bool, torch.dtype]]
    autocast_cache: bool
    default_device: torch.device
    included_keys: torch._C.DispatchKeySet
    excluded_keys: torch._C.DispatchKeySet
    context: contextvars.Context

    @staticmethod
    def of_this_thread() -> ThreadState:
        """Read the state of the calling thread."""
        return ThreadState(
            grad=torch.is_grad_enabled(),
            inference=torch.is_inference_mode_enabled(),
            autocast=_autocast_settings(),
            autocast_cache=torch.is_autocast_cache_enabled(),
            default_device=torch.get_default_device(),
            included_keys=torch._C._dispatch_tls_local_include_set(),  # noqa: SLF001
            excluded_keys=torch._C._dispatch_tls_local_exclude_set(),  # noqa: SLF001
            context=contextvars.copy_context(),
        )

    @property
    def portable(self) -> PortableState:
        """What another process can be told of it: not dispatch keys and context variables."""
        return PortableState(
            grad=self.grad,
            inference=self.inference,
            autocast=self.autocast,
            autocast_cache=self.autocast_cache,
            default_device=self.default_device,
        )

    @contextmanager
    def taken_over(self) -> Iterator[None]:
        """Put a fresh thread into this state; meant for threads that end afterwards."""
        with (
            self.portable.taken_over(),
            torch._C._ForceDispatchKeyGuard(  # noqa: SLF001
                self.included_keys, self.excluded_keys
            ),
        ):
            yield

    @property
    def grad_mode(self) -> str:
        """``"inference"``, ``"no grad"`` or ``"grad"``."""
        return "inference" if self.inference else "grad" if self.grad else "no grad"

    @property
    def autocast_mode(self) -> str:
        """Such as ``"cpu:bfloat16"``; ``"off"`` where no device has it on."""
        on = [
            f"{device}:{str(dtype).removeprefix('torch.')}"
            for device, (enabled, dtype) in self.autocast.items()
            if enabled
        ]
        return ", ".join(on) or "off"


def _autocast_settings() -> dict[str, tuple[bool, torch.dtype]]:
    found = {}
    for device in (*_AUTOCAST_DEVICES, _PRIVATE_BACKEND):
        try:
            found[device] = (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        except RuntimeError:  # noqa: PERF203 - this torch has no such device type, or no autocast for it
            continue
    return found
