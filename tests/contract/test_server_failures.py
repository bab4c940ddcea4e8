"""What becomes of requests that fail: classes of failures, in time, and never the end of a run."""

from __future__ import annotations

import threading
import time

import pytest

import inferload as il
from support.scripted_server import Asked, ScriptedServer, after, answering, at_once, serving


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (answering(404, {"detail": "no such path"}), "RequestRefused, status 404: no such path"),
        (answering(401, {"error": "who?"}), "RequestRefused, status 401: who\\?"),
        (answering(200, b"{", kind="application/json"), "NoAnswer, the answer is JSON that breaks"),
        (answering(200, b""), "NoAnswer, the answer is empty"),
        (
            answering(307, headers=[("Location", "http://elsewhere.test:81/x")]),
            "Redirected, status 307, to http://elsewhere.test:81/x",
        ),
    ],
    ids=["404", "401", "half", "empty", "redirect"],
)
def test_a_first_request_that_is_wrong_is_told_before_anything_is_measured(script, says):
    with serving(script) as server, pytest.raises(il.PlanError, match=says):
        il.run(f"{server.origin}/x", ["text:1 x1"], calls=5)


async def hang_up(asked: Asked) -> None:
    asked.close()


async def reset(asked: Asked) -> None:
    asked.reset()


async def cut(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    asked.close()


async def no_http(asked: Asked) -> None:
    await asked.send(b"220 mail.example ESMTP\r\n\r\n")
    asked.close()


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        (answering(429, b"slow down", headers=[("Retry-After", 3)]), "TooManyRequests",
         "status 429 (Retry-After: 3): slow down"),
        (answering(503, b"busy"), "Unavailable", "status 503: busy"),
        (answering(500, {"error": "boom"}), "ServerError", "status 500: boom"),
        (answering(422, {"detail": "no"}), "RequestRefused", "status 422: no"),
        (answering(302, headers=[("Location", "/y")]), "Redirected", "status 302, to /y"),
        (answering(200, b'{"a":'), "NoAnswer", "breaks off"),
        (answering(200, b"x" * 2000), "AnswerTooLarge", "than the 1,000 bytes"),
        (hang_up, "Disconnected", "before it answered"),
        (reset, "ConnectionReset", "reset the connection"),
        (cut, "CutOff", "broke off"),
        (no_http, "NoAnswer", "no HTTP"),
    ],
    ids=["429", "503", "500", "422", "302", "half", "large", "fin", "rst", "cut", "no http"],
)  # fmt: skip
def test_failures_are_results_by_their_class(script, kind, says):
    """The first request and the ten of the warm-up are answered, and then ten of twenty."""
    with serving(after(21, script)) as server:
        target = il.Server(f"{server.origin}/x", answer_bytes=1000)
        result = il.run(target, ["text:1 x1"], calls=20)
    assert (result.status, result.summary.completed_calls) == ("complete", 10)
    (found,) = result.failures
    assert (found.type, found.calls) == (kind, 10)
    assert says in found.example
    assert 0 < found.first_s <= found.last_s
    assert kind in str(result)


def test_a_server_that_ends_and_comes_back_is_seen_in_time(tmp_path):
    """Its connections are reset once, and refused until another listens at its port."""
    with serving(at_once) as first:
        port = first.port

        async def ends(asked: Asked) -> None:
            if asked.number == 30:
                first._stop.set()
            await at_once(asked)

        first.script = ends
        url = f"{first.origin}/x"
        with _comes_back(port, first, after_s=0.5) as again:
            load = il.OpenLoop.constant(rate_per_s=100, callers=2)
            result = il.run(url, ["text:1 x1"], load=load, duration_s=1.6, timeout_s=5)
            asked = len(again.asked)
    by_kind = {one.type: one for one in result.failures}
    refused = by_kind["ConnectionRefused"]
    assert result.status == "complete"
    assert asked > 10
    assert len(result.log) == 160
    assert result.summary.completed_calls + sum(one.calls for one in result.failures) == 160
    failed = result.log.finished_ns[result.log.error >= 0]
    last = result.log.finished_ns[result.log.completed].max()
    assert refused.calls > 10
    assert failed.max() < last


class _comes_back:
    """A server at a port of another one, so long after that has gone."""

    def __init__(self, port: int, first: ScriptedServer, after_s: float) -> None:
        self.first = first
        self.server = ScriptedServer(at_once)
        self.server.port = port
        self.after_s = after_s

    def __enter__(self):
        def start() -> None:
            self.first._thread.join()
            time.sleep(self.after_s)
            self.server.start()

        self.thread = threading.Thread(target=start, daemon=True)
        self.thread.start()
        return self.server

    def __exit__(self, *_):
        self.thread.join(10)
        self.server.stop()
