"""Pieces of a server have the time at which their bytes arrived, whatever reading them takes."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp.client_proto import ResponseHandler

import inferload as il
from inferload.targets.remote import arrivals
from inferload.targets.remote.protocols.streamed import Streamed


def test_bytes_of_all_connections_are_stamped_before_any_are_parsed(monkeypatch):
    times = iter(range(100))
    parsed: list[tuple[str, bytes, int]] = []
    monkeypatch.setattr(arrivals, "perf_counter_ns", lambda: next(times))

    def parse(connection: ResponseHandler, data: bytes) -> None:
        parsed.append((connection.name, data, next(times)))

    monkeypatch.setattr(ResponseHandler, "data_received", parse)

    async def receive() -> list[list[int]]:
        loop, stamps = asyncio.get_running_loop(), [[], []]
        own = [arrivals.StampedConnection(loop, one) for one in stamps]
        own[0].name, own[1].name = "a", "b"
        for connection in own:
            connection.data_received(b"1")
        own[0].data_received(b"2")
        assert not parsed
        await asyncio.sleep(0)
        return stamps

    assert asyncio.run(receive()) == [[0, 2], [1]]
    assert parsed == [("a", b"1", 3), ("b", b"1", 4), ("a", b"2", 5)]


@pytest.mark.parametrize("tokens", [None, 7])
def test_a_piece_is_as_old_as_its_bytes_and_tokens_are_those_that_were_told(tokens):
    began: list[int] = []

    def answer(_):
        start = time.perf_counter_ns()
        began.append(start)

        async def pieces(told: Streamed):
            for number in range(3):
                await asyncio.sleep(0.002)
                told.arrived_ns = start + 1000 * number
                yield "piece"
            told.tokens = tokens

        return Streamed(pieces)

    result = il.run(answer, [(1,)], calls=4, warmup_calls=1, executor="async")
    times = result.log.piece_times
    own = times.times_ns.reshape(4, 3)
    assert [*(own[:, 1:] - own[:, :-1]).ravel()] == [1000] * 8
    assert result.log.columns()["tokens"].tolist() == [tokens or 3] * 4
