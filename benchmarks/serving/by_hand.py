"""The shortest program that a user would write for a closed loop: aiohttp, without torch.

    python -m serving.by_hand URL CALLERS SECONDS uvloop|asyncio

Prints JSON: requests a second after the first half second, and quantiles of their latency.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp

from serving import wording
from serving.http_server import run

_HEADERS = {"Content-Type": "application/json"}
_WARM_UP_S = 0.5


async def _main(url: str, callers: int, seconds: float) -> None:
    body = json.dumps(wording.asked(stream=False)).encode()
    took: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def caller(ends: float) -> None:
            while (began := time.perf_counter()) < ends:
                async with session.post(url, data=body, headers=_HEADERS) as answer:
                    await answer.read()
                took.append(time.perf_counter() - began)

        async def measured(for_s: float) -> float:
            took.clear()
            began = time.perf_counter()
            await asyncio.gather(*[caller(began + for_s) for _ in range(callers)])
            return len(took) / (time.perf_counter() - began)

        await measured(_WARM_UP_S)
        per_s = await measured(seconds)
    took.sort()
    quantiles = {f"p{q}": took[len(took) * q // 100] * 1e3 for q in (50, 99)}
    print(json.dumps({"per_s": per_s, "ms": quantiles}))


if __name__ == "__main__":
    run(
        _main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])),
        plain=sys.argv[4] == "asyncio",
    )
