"""Requests of a closed loop leave one by one, though their answers came together."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp

import inferload as il
from inferload.callers.tasks.turns import LoopTurns
from support.scripted_server import answering, serving


class TurnsOfLoop:
    """Counts them, of each loop from the first look in it on."""

    def __init__(self) -> None:
        self.number = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def look(self) -> int:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._loop.call_soon(self._tick)
        return self.number

    def _tick(self) -> None:
        self.number += 1
        self._loop.call_soon(self._tick)


def test_each_has_a_turn_of_its_own_in_the_order_in_which_they_asked():
    async def begun() -> list[tuple[str, int]]:
        turns, counted = LoopTurns(asyncio.get_running_loop()), TurnsOfLoop()
        found: list[tuple[str, int]] = []

        async def begin(name: str) -> None:
            counted.look()
            await turns.one()
            found.append((name, counted.look()))

        tasks = [asyncio.ensure_future(begin(name)) for name in "abcd"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        with suppress(asyncio.CancelledError):
            await tasks[1]
        await asyncio.wait([tasks[0], *tasks[2:]])
        await begin("e")
        return found

    found = asyncio.run(begun())
    assert [name for name, _ in found] == ["a", "c", "d", "e"]
    assert len({turn for _, turn in found}) == 4


def test_no_two_requests_of_a_closed_loop_are_made_in_one_turn_of_the_loop(monkeypatch):
    """uvloop sends when its turn ends: whoever began before others were built, too."""
    made: list[int] = []
    counted, post = TurnsOfLoop(), aiohttp.ClientSession.post

    def noted(session, *args, **options):
        made.append(counted.look())
        return post(session, *args, **options)

    with serving(answering(200, b"{}")) as server:
        plan = {"calls": 60, "warmup_calls": 0, "load": il.ClosedLoop(callers=12)}
        il.run(server.origin, [{}], **plan)  # looks at the server, once
        monkeypatch.setattr(aiohttp.ClientSession, "post", noted)
        result = il.run(server.origin, [{}], **plan)
    assert result.log.completed.all()
    own = made[-60:]
    assert len(own) == len(set(own))
