"""What machine, what build, what settings."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import psutil
import torch

from inferload.files import storable
from inferload.machine.hardware import cpu_model, governor, turbo, usable_cores


def environment(devices: set[torch.device]) -> dict[str, Any]:
    """Everything about machine and build that a figure depends on, as JSON values."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "governor": governor(),
        "turbo": turbo(),
        "devices": sorted(_device_name(device) for device in devices),
        "python": platform.python_version(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "torch": str(torch.__version__),  # a class of torch's, which no reader should need
        "torch_parallel": torch.__config__.parallel_info().strip(),
        "torch_intra_op_threads": torch.get_num_threads(),
        "torch_inter_op_threads": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "allocator": os.environ.get("LD_PRELOAD") or None,
        "variables": {
            name: storable(value)
            for name, value in sorted(os.environ.items())
            if name.startswith(("OMP_", "MKL_", "KMP_", "GOMP_", "TORCH", "PYTORCH_", "CUDA_"))
        },
    }


def _device_name(device: torch.device) -> str:
    module = torch.get_device_module(device.type)
    name = getattr(module, "get_device_name", lambda _: "")(device)
    return f"{device} {name}".strip()
