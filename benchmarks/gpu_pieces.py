"""What inferload takes of answers in pieces on a GPU, against threads by hand.

    python benchmarks/gpu_pieces.py [--rounds 9]

A decoder of 12 layers yields tokens as tensors on the device, each caller on a stream of its own;
by hand a thread each iterates, waits for its stream after each token and stamps it.
"""

from __future__ import annotations

import argparse
import threading
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING

import torch

import inferload as il
from measuring import Row, print_rows, rates_row, to_and_fro

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS, WIDTH = 64, 512
now = time.perf_counter_ns


class Decoder(torch.nn.Module):
    """Steps over one token, without a cache: what is timed is the way from piece to piece."""

    def __init__(self) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(WIDTH, 8, 4 * WIDTH, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Take ``(1, 1, 512)``, yield tensors of shape ``(1, 1)``."""
        for _ in range(TOKENS):
            x = self.layers(x)
            yield x.argmax(-1)


def ours(model: torch.nn.Module, x: torch.Tensor, callers: int, calls: int) -> float:
    """Pieces per second of a run."""
    with torch.inference_mode():
        result = il.run(
            model, [x], load=il.ClosedLoop(callers=callers), calls=calls, warmup_calls=2,
            warmup="fixed", telemetry=False,
        )  # fmt: skip
    pieces = result.summary.pieces
    if pieces is None:
        raise AssertionError("every call gives pieces")
    return pieces.pieces_per_s.value


def by_hand(model: torch.nn.Module, x: torch.Tensor, callers: int, calls: int) -> float:
    """Pieces per second of as many threads."""
    line = threading.Barrier(callers + 1)

    def call() -> None:
        stream = torch.cuda.Stream()
        stamps = []
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in model(x):
                stream.synchronize()
            line.wait()
            for _ in range(calls // callers):
                for _ in model(x):
                    stream.synchronize()
                    stamps.append(now())

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    line.wait()
    began = now()
    for thread in threads:
        thread.join()
    return calls // callers * callers * TOKENS / ((now() - began) / 1e9)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=9)
    rounds = options.parse_args().rounds
    warnings.simplefilter("ignore")
    model, x = Decoder().eval().cuda(), torch.randn(1, 1, WIDTH, device="cuda")
    rows: list[Row] = []
    for callers in (1, 4):
        calls = 8 * callers
        mine, its = to_and_fro(
            rounds,
            partial(ours, model, x, callers, calls),
            partial(by_hand, model, x, callers, calls),
        )
        rows.append(
            rates_row(f"{callers} callers, tokens as tensors, pieces/s", mine, its, ">= 0.95x")
        )
    print_rows(rows, rounds)


if __name__ == "__main__":
    main()
