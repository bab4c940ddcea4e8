"""Streams of servers: when their pieces came, whatever packets they came in."""

from __future__ import annotations

import asyncio
import gc
import json
import time

import pytest

import inferload as il
from support.scripted_server import Asked, after, answering, at_once, serving

OUTPUTS = [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}]
PIECE = json.dumps({"choices": [{"index": 0, "text": "a"}]})
LAST = json.dumps({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})


def events(count: int) -> bytes:
    return b"".join(b"data: %s\n\n" % PIECE.encode() for _ in range(count))


def test_pieces_are_never_older_than_their_packet():
    """Headers at once, two in a packet, the end of a frame by itself, three in a packet."""

    async def script(asked: Asked) -> None:
        if asked.path == "/v1/models":
            await asked.answer({"data": [{"id": "m"}]})
            return
        await asked.begin()
        for count in (2, 3):
            await asyncio.sleep(0.02)
            data = events(count)
            await asked.send(b"%x\r\n%s" % (len(data), data))
            await asyncio.sleep(0.01)
            await asked.send(b"\r\n")
        await asked.event(LAST)
        await asked.end()

    with serving(script) as server:
        result = il.run(f"{server.origin}/v1/completions", ["text:1 x1"], calls=6, warmup_calls=1)
    log, kept = result.log, result.log.piece_times
    assert log.pieces.tolist() == [5] * 6
    assert log.columns()["first_piece_ns"].min() >= 20e6
    stamps = kept.times_ns.reshape(6, 5)
    assert (stamps[:, 0] == stamps[:, 1]).all()
    assert (stamps[:, 1] < stamps[:, 2]).all()
    assert (stamps[:, 2] == stamps[:, 4]).all()


@pytest.mark.parametrize("data", ["5", "null", '"x"', "[1]", '{"choices": ["x"]}', "[" * 10_000])
def test_events_that_are_json_of_another_kind_are_no_answer(data):
    async def script(asked: Asked) -> None:
        if asked.path == "/v1/models":
            await asked.answer({"data": [{"id": "m"}]})
            return
        await asked.begin()
        await asked.event(data if asked.number > 4 else LAST)
        await asked.end()

    with serving(script) as server:
        url = f"{server.origin}/v1/completions"
        result = il.run(url, ["text:1 x1"], calls=6, warmup_calls=1)
    assert [one.type for one in result.failures] == ["NoAnswer"]


def test_a_stream_where_the_first_answer_was_whole_is_not_counted_as_one():
    async def script(asked: Asked) -> None:
        if asked.number < 8:
            await at_once(asked)
            return
        await asked.begin()
        await asked.event("x")
        await asked.end()

    with serving(script) as server:
        result = il.run(f"{server.origin}/x", ["text:1 x1"], calls=10, warmup_calls=2)
    assert [one.type for one in result.failures] == ["NoAnswer"]
    assert "first one was none" in result.failures[0].example


def test_a_first_request_that_a_busy_server_turns_away_is_made_again():
    async def script(asked: Asked) -> None:
        if asked.number < 2:
            await asked.answer(b"later", 503)
            return
        await asked.begin()
        await asked.event("x")
        await asked.end()

    with serving(script) as server:
        result = il.run(f"{server.origin}/x", ["text:1 x1"], calls=4, warmup_calls=1)
    assert result.log.pieces.tolist() == [1] * 4


def too_much(chunks: int):
    async def script(asked: Asked) -> None:
        if asked.number < 4:
            await (at_once(asked) if asked.path == "/x" else _short(asked))
            return
        await asked.begin("text/event-stream" if asked.path != "/x" else "application/json")
        for _ in range(chunks):
            await asked.chunk(events(20))
        await asked.end()

    return script


async def _short(asked: Asked) -> None:
    if asked.path == "/v1/models":
        await asked.answer({"data": [{"id": "m"}]})
        return
    await asked.begin()
    await asked.event(LAST)
    await asked.end()


@pytest.mark.parametrize("path", ["/x", "/v1/completions"])
def test_an_answer_in_chunks_that_does_not_end_is_too_large(path):
    with serving(too_much(500)) as server:
        target = il.Server(f"{server.origin}{path}", answer_bytes=2000)
        result = il.run(target, ["text:1 x1"], calls=6, warmup_calls=1)
    assert {one.type for one in result.failures} == {"AnswerTooLarge"}
    assert result.failures[0].calls >= 3


def test_classes_are_counted_however_many_texts_a_server_has():
    """More than a log has entries for, each with a number of its own; then two other classes."""

    async def script(asked: Asked) -> None:
        if asked.number < 3:
            await at_once(asked)
        elif asked.number < 303:
            await asked.answer({"error": f"busy, request {asked.number}"}, 503)
        else:
            await asked.answer({"error": f"slow, request {asked.number}"}, 429)

    with serving(script) as server:
        result = il.run(f"{server.origin}/x", ["text:1 x1"], calls=350, warmup_calls=1)
    found = {one.type: one.calls for one in result.failures}
    assert found == {"Unavailable": 300, "TooManyRequests": 49}
    assert [one.type for one in result.failures] == ["Unavailable", "TooManyRequests"]
    assert "request 3" in result.failures[0].example


def test_a_closed_loop_ends_though_its_server_says_nothing(monkeypatch):
    monkeypatch.setattr("inferload.runs.driving.SERVER_DRAIN_S", 0.3)

    async def silent(asked: Asked) -> None:
        await asyncio.sleep(60)

    began = time.monotonic()
    with serving(after(8, silent)) as server:
        result = il.run(
            f"{server.origin}/x", ["text:1 x1"], load=il.ClosedLoop(callers=2), duration_s=0.2,
            warmup_calls=2,
        )  # fmt: skip
    assert time.monotonic() - began < 30
    assert "calls-given-up" in {one.code for one in result.warnings}


@pytest.mark.parametrize("frozen", [False, True])
def test_the_collector_of_garbage_is_left_as_it_was(frozen):
    if frozen:
        gc.freeze()
    before = gc.get_freeze_count()
    try:
        with serving(at_once) as server:
            il.run(f"{server.origin}/x", ["text:1 x1"], calls=4, warmup_calls=1)
        after_it = gc.get_freeze_count()  # what is let go of meanwhile is frozen no more
        assert after_it == before if not frozen else after_it > 0.9 * before
    finally:
        gc.unfreeze()


def test_what_a_server_repeats_of_a_secret_is_told_nowhere(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "sk/s3cr3t")

    async def repeats(asked: Asked) -> None:
        said = asked.headers["authorization"]
        if asked.method == "GET":
            await asked.answer({"name": said, "platform": said, "inputs": []})
        else:
            await asked.answer({"outputs": OUTPUTS}, headers=[("Server", said)])

    async def counts(asked: Asked) -> None:
        said = asked.headers["authorization"]
        number = len(server.asked)
        lines = [f'a_total{{who="{one}"}} {number}' for one in (said, "b")]
        page = "\n".join(["# TYPE a_total counter", *lines, ""])
        await asked.answer(page.encode(), kind="text/plain")

    with serving(repeats) as server:
        server.counts = counts
        target = il.Server(
            f"{server.origin}/v2/models/m", headers={"Authorization": "Bearer env:A_TOKEN"}
        )
        result = il.run(target, [{"inputs": [{"name": "x"}]}], calls=4, warmup_calls=1)
    assert result.spec.servers[0].model.name == "Bearer ***"
    assert result.servers[0].software == "Bearer ***"
    assert "who" in f"{result.servers[0].said}"
    assert "s3cr3t" not in f"{result} {result.spec} {result.servers}"


def test_the_version_of_http_is_the_servers():
    async def old(asked: Asked) -> None:
        await asked.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}")
        asked.close()

    with serving(old) as server:
        result = il.run(f"{server.origin}/x", ["text:1 x1"], calls=4, warmup_calls=1)
    assert result.spec.servers[0].http == "HTTP/1.0"
    (hint,) = [one.hint for one in result.warnings if one.code == "connections-reopened"]
    assert "keeps none" in hint
    assert result.servers[0].open_max_ms >= result.servers[0].open_p50_ms


def test_an_answer_that_nobody_asked_to_be_compressed_is_told():
    script = answering(200, b"\x1f\x8b\x08", headers=[("Content-Encoding", "gzip")])
    with serving(script) as server, pytest.raises(il.PlanError, match=r"compressed \(gzip\)"):
        il.run(f"{server.origin}/x", ["text:1 x1"], calls=4)
