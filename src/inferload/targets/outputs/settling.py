"""What a call returned before its work was done, brought to its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Awaitable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from inferload.targets.outputs.unfinished import (
    ASYNC_STREAM,
    FUTURE,
    STREAMS,
    check_returned,
    kind_of,
)

_COLLECTIVES = "torch.distributed._functional_collectives"
_DTENSOR = "torch.distributed.tensor"


def settled(output: Any, name: str) -> Any:
    """The output itself, a list of the pieces it comes in, or what a future gives.

    Raises:
        PlanError: it has its work still to do, and nobody here brings it to its end.
    """
    kind = kind_of(output)
    if kind in STREAMS:
        return list(output)
    if kind == FUTURE and not isinstance(output, asyncio.Future):
        return settled(result_of(output), name)
    if kind == ASYNC_STREAM or isinstance(output, Awaitable):
        return settled(awaited(output), name)
    check_returned(output, name)
    return arrived(output)


def awaited(output: Any) -> Any:
    """What a coroutine gives, or the pieces of an asynchronous generator, in a loop of its own."""

    async def collected() -> Any:
        if isinstance(output, Awaitable):
            return await output
        return [piece async for piece in output]

    # a notebook has a loop running in this thread, which is not to know of this one
    running = asyncio._get_running_loop()  # noqa: SLF001 - there is no public way past it
    asyncio._set_running_loop(None)  # noqa: SLF001
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(collected())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        asyncio._set_running_loop(running)  # noqa: SLF001


def result_of(future: Any) -> Any:
    """What a future gives, once it has it."""
    return future.result() if isinstance(future, concurrent.futures.Future) else future.wait()


def may_arrive_later(output: object) -> bool:
    """Whether it may have tensors of collectives that are under way, which are waited for."""
    modules = sys.modules  # nothing is one of theirs before these are imported
    return (_COLLECTIVES in modules or _DTENSOR in modules) and any(
        _is_collective(one) for one in pytree.tree_leaves(output)
    )


def arrived(output: Any) -> Any:
    """The output when the collectives are finished whose results are in it."""
    if may_arrive_later(output):
        for one in pytree.tree_leaves(output):
            if _is_collective(one):
                local = one.to_local() if hasattr(one, "to_local") else one
                if hasattr(local, "wait"):
                    local.wait()
    return output


def _is_collective(leaf: object) -> bool:
    """Whether it is a tensor of a collective, or one that is spread over ranks."""
    if not isinstance(leaf, torch.Tensor) or type(leaf) is torch.Tensor:
        return False
    return type(leaf).__name__ in {"AsyncCollectiveTensor", "DTensor"}
