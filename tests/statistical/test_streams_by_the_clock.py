"""Pieces on the wall clock: every stamp lies between those of the script on either side of it."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
import torch

import inferload as il

PIECES = 6
now = time.perf_counter_ns


class Script:
    """Stamps when it begins, before each piece and after it, for each call in turn."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.before: list[list[int]] = []
        self.after: list[list[int]] = []

    def begin(self) -> tuple[list[int], list[int]]:
        self.begun.append(now())
        own: tuple[list[int], list[int]] = ([], [])
        self.before.append(own[0])
        self.after.append(own[1])
        return own

    def threads(self, _: torch.Tensor):
        before, after = self.begin()
        for _ in range(PIECES):
            time.sleep(0.002)
            before.append(now())
            yield 1
            after.append(now())

    async def tasks(self, _: torch.Tensor):
        before, after = self.begin()
        for _ in range(PIECES):
            await asyncio.sleep(0.002)
            before.append(now())
            yield 1
            after.append(now())


@pytest.mark.parametrize("who", ["threads", "tasks"])
@pytest.mark.parametrize("callers", [1, 8])
def test_first_pieces_gaps_and_wholes_are_those_of_the_script(who, callers):
    script = Script()
    calls = 8 * callers
    log = il.run(
        getattr(script, who),
        [torch.zeros(1)],
        load=il.ClosedLoop(callers=callers),
        calls=calls,
        warmup_calls=1,
    ).log
    begun, before, after = (
        np.array(one[-calls:]) for one in (script.begun, script.before, script.after)
    )
    # calls of the log in the order in which they began are those of the script
    order = np.argsort(log.started_ns, kind="stable")
    times = log.piece_times
    rank = np.argsort(np.argsort(times.calls["started_ns"], kind="stable"))
    stamps = np.empty((calls, PIECES), np.int64)
    stamps[rank] = times.times_ns.reshape(calls, PIECES)
    gaps = np.diff(stamps, axis=1)
    # a caller may lose its core between the script's stamps and ours: no order of calls is certain
    if callers == 1:
        assert (gaps <= after[:, 1:] - before[:, :-1]).all()
        assert (gaps >= before[:, 1:] - after[:, :-1]).all()
        first = log.duration_ns("first_piece_ns")[order]
        assert (first >= before[:, 0] - begun).all()
        assert (log.service_ns[order] >= after[:, -1] - begun).all()
    for quantile in (0.5, 0.99):
        least = np.quantile(before[:, 1:] - after[:, :-1], quantile, method="inverted_cdf")
        most = np.quantile(after[:, 1:] - before[:, :-1], quantile, method="inverted_cdf")
        found = np.quantile(gaps, quantile, method="inverted_cdf")
        assert least <= found <= most
