"""Answers of coroutines, asynchronous generators and futures, brought to their end in the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import torch

from inferload.callers.answers.used_up import Answers
from inferload.targets.outputs.unfinished import ASYNC_STREAM, FUTURE, kind_of
from inferload.targets.remote.protocols.streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class AwaitedAnswers(Answers):
    """What one task's calls return, awaited, used up, or waited for within the call."""

    def awaiting(self, number: int, call: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
        """What makes a call with an input, and returns when its answer is whole."""
        whole, brought = self.whole, self._awaited

        async def answered() -> Any:
            place = self._place
            if place is not None:
                self._place = place + 1
            output = call()
            if output.__class__ is CoroutineType:
                output = await output
            if output.__class__ not in whole:
                output = await brought(output, place, number)
            if self._devices:
                await self._finished()
            return output

        return answered

    async def _awaited(self, output: Any, place: int | None, number: int) -> Any:
        kind = kind_of(output)
        if kind == ASYNC_STREAM:
            return await self._used_up_awaiting(output, place, number)
        if kind == FUTURE and not isinstance(output, asyncio.Future):
            output = await _result_of(output)
        elif isawaitable(output):
            output = await output
        else:
            return self._brought(output, place, number)
        if output.__class__ in self.whole:
            return output
        return await self._awaited(output, place, number)

    async def of_class_unseen_awaiting(self, output: Any) -> Any:
        """As :meth:`of_class_unseen`, of what a coroutine returned."""
        kind = kind_of(output)
        if kind == ASYNC_STREAM:
            raise self._unexpected(kind)
        if kind == FUTURE or (kind is not None and isawaitable(output)):
            return await self._awaited(output, None, 0)
        return self.of_class_unseen(output)

    async def _used_up_awaiting(
        self, stream: Any, place: int | None, number: int
    ) -> list[Any] | None:
        """As ``_used_up``, of an asynchronous generator."""
        if place is None:  # a warm-up call
            self._answer_in_pieces()
        now, plain, look = self._now, self._plain, self._look
        times: list[int] = []
        add, count, last, tokens = times.append, 0, 0, 0
        kept: list[Any] | None = [] if self._keeps else None
        most = self.log.most()
        arrives = isinstance(stream, Streamed)
        returned = False
        said: int | None = None
        try:
            async for piece in stream:
                if piece.__class__ not in plain:
                    tokens += look(piece) - 1
                # a server's had arrived before it was read
                last = stream.arrived_ns if arrives else now()
                if count < most:
                    add(last)
                count += 1
                if kept is not None:
                    kept.append(piece)
            returned = True
            said = stream.tokens if isinstance(stream, Streamed) else None
        finally:
            if place is not None:
                pieces = (count, last, tokens + count if said is None else said)
                self.log.write(place, number, times, pieces, returned=returned)
        return kept

    async def _finished(self) -> None:
        """Wait, without holding up the loop, for what this task has on devices."""
        marks = []
        for device in self._devices:
            mark = torch.Event(device)
            mark.record(torch.accelerator.current_stream(device))
            marks.append(mark)
        while not all(mark.query() for mark in marks):  # noqa: ASYNC110 - devices set no event
            await asyncio.sleep(0)


async def _result_of(future: Any) -> Any:
    """What a future of threads or of torch gives, once it has it."""
    if isinstance(future, concurrent.futures.Future):
        return await asyncio.wrap_future(future)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(_: Any) -> None:
        loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))

    future.add_done_callback(tell)
    await done
    return future.value()
