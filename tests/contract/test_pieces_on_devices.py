"""Answers in pieces, and coroutines, whose work is on the simulated device."""

from __future__ import annotations

import asyncio

import pytest
import torch

import inferload as il

pytestmark = pytest.mark.native

WORK_NS = 4_000_000


class Decodes(torch.nn.Module):
    """Yields tensors whose work on the device is still under way; ``asynchronous`` or not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor):
        for _ in range(3):
            x = torch.ops.sim.work(x * self.weight, WORK_NS)
            yield x


class Awaits(Decodes):
    async def forward(self, x: torch.Tensor):
        await asyncio.sleep(0)
        return torch.ops.sim.work(x * self.weight, WORK_NS)


def run(model: torch.nn.Module, **options: object) -> il.RunResult:
    given = {"load": il.ClosedLoop(callers=2), "device": "sim:0", "calls": 12, "warmup_calls": 2}
    with torch.no_grad():
        return il.run(model, [torch.ones(1)], **given | options)


@pytest.mark.parametrize("load", [il.ClosedLoop(callers=2), il.OpenLoop.constant(50, callers=2)],
                         ids=["closed", "open"])  # fmt: skip
@pytest.mark.parametrize("transfers", [False, True])
def test_a_piece_on_a_device_is_there_when_its_work_is_finished(sim, load, transfers):
    log = run(Decodes(), load=load, transfers=transfers).log
    assert (log.pieces == 3).all()
    assert log.stages["first_piece_ns"].min() >= WORK_NS
    assert log.piece_times.gaps_ns().min() >= WORK_NS - 100_000
    assert (log.stages["issue_ns"] >= log.stages["last_piece_ns"]).all()


def test_pieces_on_a_device_are_compared(sim):
    assert run(Decodes(), verify=True).verification.differing == 0


def test_tasks_wait_for_the_device_without_holding_up_their_loop(sim):
    result = run(Awaits(), load=il.ClosedLoop(callers=4), calls=24)
    assert result.spec.executor == "async"
    assert result.spec.streams == "shared"
    assert result.log.service_ns.min() >= WORK_NS
    # calls are on one stream: four in flight wait for each other, each for its own work
    assert result.log.service_ns.max() >= 2 * WORK_NS


def test_tasks_copy_nothing(sim):
    with pytest.raises(il.PlanError, match=r"leave transfers \(--transfers\) out"):
        run(Awaits(), transfers=True)
