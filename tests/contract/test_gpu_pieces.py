"""Answers in pieces and coroutines on a real GPU: a piece is there when its work is finished."""

from __future__ import annotations

import asyncio

import pytest
import torch

import inferload as il

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CYCLES = 4_000_000  # more than 1 ms of any clock below 4 GHz
LEAST_NS = 1_000_000


class Decodes(torch.nn.Module):
    """Yields tensors, or the numbers in them, whose work is some ms of a busy device."""

    def __init__(self, *, numbers: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.numbers = numbers

    def forward(self, x: torch.Tensor):
        for _ in range(4):
            torch.cuda._sleep(CYCLES)
            x = x * self.weight
            yield x.item() if self.numbers else x


class Awaits(Decodes):
    async def forward(self, x: torch.Tensor):
        await asyncio.sleep(0)
        torch.cuda._sleep(CYCLES)
        return x * self.weight


def run(model: torch.nn.Module, **options: object) -> il.RunResult:
    given = {"load": il.ClosedLoop(callers=2), "device": "cuda", "calls": 40, "warmup_calls": 2}
    with torch.no_grad():
        return il.run(model, [torch.ones(1)], **given | options)


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize(
    "load", [il.ClosedLoop(callers=3), il.OpenLoop.constant(50, callers=3)], ids=["loop", "rate"]
)
def test_a_piece_is_there_when_its_work_is_finished(numbers, load):
    result = run(Decodes(numbers=numbers), load=load, verify=True)
    assert (result.log.pieces == 4).all()
    assert result.log.stages["first_piece_ns"].min() >= LEAST_NS
    assert result.log.piece_times.gaps_ns().min() >= LEAST_NS - 100_000
    assert not result.verification.differing


@pytest.mark.parametrize("transfers", [False, True])
def test_pieces_on_streams_of_their_own_do_not_wait_for_those_of_others(transfers):
    result = run(Decodes(numbers=False), load=il.ClosedLoop(callers=4), transfers=transfers)
    # four streams are busy side by side: _sleep takes no more than one multiprocessor
    alone = run(Decodes(numbers=False), load=il.ClosedLoop(), transfers=transfers)
    assert result.summary.pieces.gap_ms.mean < 3 * alone.summary.pieces.gap_ms.mean


def test_tasks_wait_for_the_device_without_holding_up_their_loop():
    result = run(Awaits(numbers=False), load=il.ClosedLoop(callers=4))
    assert result.spec.executor == "async"
    assert result.spec.streams == "shared"
    assert result.log.service_ns.min() >= LEAST_NS
    assert "loop-blocked" not in [one.code for one in result.warnings]
