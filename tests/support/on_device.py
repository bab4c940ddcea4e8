"""Runs on the simulated device, of a model that keeps it busy."""

from __future__ import annotations

from pathlib import Path

import torch

import inferload as il

SUPPORT = Path(__file__).parents[1] / "support"
MODEL = SUPPORT / "simulated_models.py"
EXECUTORS = ("threads", "native")


def busy(executor: str) -> torch.nn.Module:
    from support import simulated_models

    model = simulated_models.Busy().eval()
    return torch.jit.script(model) if executor == "native" else model


def run(executor: str, **options) -> il.RunResult:
    asked = {
        "load": il.ClosedLoop(callers=4),
        "calls": 60,
        "warmup_calls": 2,
        "device": "sim:0",
        "executor": executor,
    } | options
    with torch.no_grad():
        return il.run(busy(executor), [torch.ones(2, 4), torch.zeros(2, 4)], **asked)
