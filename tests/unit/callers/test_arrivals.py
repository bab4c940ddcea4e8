"""Pieces of a server have the time at which their bytes arrived, whatever reading them takes."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from aiohttp.client_proto import ResponseHandler

import inferload as il
from inferload.targets.remote import arrivals
from inferload.targets.remote.protocols.streamed import Streamed


def test_bytes_of_all_connections_are_stamped_before_any_are_parsed(monkeypatch):
    times = iter(range(1, 100))
    parsed: list[tuple[str, bytes, int]] = []
    monkeypatch.setattr(arrivals, "perf_counter_ns", lambda: next(times))

    def parse(connection: ResponseHandler, data: bytes) -> None:
        parsed.append((connection.name, data, next(times)))
        connection._payload = connection.body
        connection.body.total_bytes += len(data)

    monkeypatch.setattr(ResponseHandler, "data_received", parse)

    async def receive() -> list[list[tuple[bytes, int]]]:
        loop, stamps = asyncio.get_running_loop(), [arrivals.Arrivals(), arrivals.Arrivals()]
        own = [arrivals.StampedConnection(loop, one) for one in stamps]
        for connection, name in zip(own, "ab", strict=True):
            connection.name, connection.body = name, SimpleNamespace(total_bytes=0)
            connection.data_received(b"1")
        own[0].data_received(b"23")
        assert not parsed
        await asyncio.sleep(0)
        return [list(stamps[0].parts(b"123")), list(stamps[1].parts(b"1"))]

    assert asyncio.run(receive()) == [[(b"1", 1), (b"23", 3)], [(b"1", 2)]]
    assert parsed == [("a", b"1", 4), ("b", b"1", 5), ("a", b"23", 6)]


def test_bytes_have_the_time_of_their_packet_however_they_are_read():
    own = arrivals.Arrivals()
    own.begin()
    own.add(0, 1)  # headers
    own.add(4, 2)
    own.add(4, 3)  # the end of a chunk's frame
    own.add(6, 4)
    assert list(own.parts(b"abc")) == [(b"abc", 2)]
    assert list(own.parts(b"def")) == [(b"d", 2), (b"ef", 4)]
    own.begin()
    own.add(2, 9)
    assert list(own.parts(b"xy")) == [(b"xy", 9)]


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
