"""Models behind servers, over loopback, from the URL to the result."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import inferload as il
from inferload.report.html.document import write_html
from inferload.runs.doctor import findings
from support.program import inferload_here
from support.scripted_server import Asked, after, answering, at_once, chat_of, serving

LOAD = il.ClosedLoop(callers=2)


def test_a_url_takes_the_place_of_a_model():
    with serving(at_once) as server:
        result = il.run(f"{server.origin}/predict", ["text:4 x3"], load=LOAD, calls=40)
        sent = [one.json for one in server.asked]
    assert result.summary.completed_calls == 40
    assert result.spec.executor == "async"
    assert result.spec.on_error == "record"
    assert {len(one["text"].split()) for one in sent} == {4}
    assert len({one["text"] for one in sent}) == 3
    (spec,), (seen,) = result.spec.servers, result.servers
    assert (spec.protocol, spec.http, spec.connections) == ("plain HTTP", "HTTP/1.1", "kept")
    assert seen.reached is not None
    assert seen.reached.address == f"127.0.0.1:{server.port}"
    assert "plain HTTP, HTTP/1.1" in str(result)


def test_warm_up_is_real_requests_and_opens_the_connections_that_are_kept():
    with serving(at_once) as server:
        result = il.run(f"{server.origin}/x", ["text:4 x1"], load=LOAD, calls=40, warmup_calls=3)
        asked = len(server.asked)
    assert asked == 1 + 2 * 3 + 40
    (seen,) = result.servers
    assert (seen.opened_before, seen.opened) == (2, 0)


def test_a_new_connection_for_each_call_is_a_part_of_it():
    with serving(at_once) as server:
        target = il.Server(f"{server.origin}/x", connections="new")
        result = il.run(target, ["text:4 x1"], load=LOAD, calls=40, warmup_calls=3)
    (seen,) = result.servers
    assert seen.opened == 40
    assert seen.open_p50_ms is not None
    assert 0 < seen.open_p50_ms <= result.summary.service_ms.max
    assert "40 connections opened in the run" in " ".join(str(result).split())


def test_processes_send_too_each_by_connections_of_its_own():
    with serving(at_once) as server:
        result = il.run(f"{server.origin}/x", ["text:4"], load=LOAD, calls=40, processes=2)
        connections = len({one.connection for one in server.asked})
    assert result.summary.completed_calls == 40
    assert result.servers[0].opened_before == 4
    assert connections >= 4


def test_pieces_of_a_chat_are_timed_and_its_tokens_counted():
    with serving(chat_of(["a", "b", "c"])) as server:
        url = f"{server.origin}/v1/chat/completions"
        result = il.run(url, ["text:5 x2"], load=LOAD, calls=20)
    assert result.log.pieces.tolist() == [3] * 20
    assert result.log.columns()["tokens"].tolist() == [6] * 20
    assert result.spec.servers[0].model == il.ServerModel(name="tiny")
    assert result.summary.pieces is not None


def test_a_plain_stream_of_events_is_one_of_pieces():
    async def script(asked: Asked) -> None:
        await asked.begin()
        for number in range(4):
            await asked.event({"n": number})
        await asked.end()

    with serving(script) as server:
        result = il.run(f"{server.origin}/stream", ["text:1 x1"], calls=5)
    assert result.log.pieces.tolist() == [4] * 5


async def v2(asked: Asked) -> None:
    """A model that answers with twice its input, by the binary extension."""
    if asked.method == "GET":
        ids = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        await asked.answer({"name": "twice", "versions": ["1"], "inputs": [ids], "outputs": []})
        return
    length = int(asked.headers["inference-header-content-length"])
    values = 2 * np.frombuffer(asked.body[length:], np.float32)
    tensor = {"name": "y", "datatype": "FP32", "shape": [len(values) // 2, 2]}
    tensor["parameters"] = {"binary_data_size": values.nbytes}
    head = json.dumps({"model_name": "twice", "outputs": [tensor]}).encode()
    await asked.answer(
        head + values.tobytes(),
        kind="application/octet-stream",
        headers=[("Inference-Header-Content-Length", len(head))],
    )


def test_the_open_inference_protocol_is_spoken_in_binary_tensors():
    with serving(v2) as server:
        url = f"{server.origin}/v2/models/twice"
        result = il.run(url, [torch.ones(3, 2)], calls=10, verify=True)
    assert result.summary.completed_calls == 10
    assert result.spec.items_per_input == (3,)
    assert result.spec.servers[0].model.inputs == ("x: FP32 [-1, 2]",)
    assert result.verification is not None
    assert (result.verification.compared, result.verification.differing) == (10, 0)


def test_a_secret_is_sent_and_told_nowhere(monkeypatch, tmp_path):
    async def echo(asked: Asked) -> None:
        said = asked.headers["authorization"]
        await (at_once(asked) if asked.number < 5 else asked.answer({"error": said}, 403))

    monkeypatch.setenv("A_TOKEN", "s3cr3t-value")
    with serving(echo) as server:
        url = f"{server.origin}/x"
        words = ["run", url, "--inputs", "text:1 x1", "--calls", "10", "--warmup", "1"]
        words += ["--header", "Authorization: Bearer env:A_TOKEN", "--no-isolate"]
        words += ["--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
        done = inferload_here(*words, "--markdown", tmp_path / "r.md")
        sent = {one.headers["authorization"] for one in server.asked}
    assert sent == {"Bearer s3cr3t-value"}
    assert done.returncode == 1  # calls failed
    assert "Bearer ***" in " ".join(done.stdout.split())
    written = b"".join(one.read_bytes() for one in tmp_path.iterdir())
    assert b"RequestRefused" in written
    assert "s3cr3t" not in done.stdout + done.stderr
    assert b"s3cr3t" not in written


def test_what_a_server_says_reaches_a_page_as_text(tmp_path):
    page = b'{"error": "<script>alert(1)</script>"}'
    with serving(after(15, answering(500, page))) as server:
        result = il.run(f"{server.origin}/x", ["text:1 x1"], calls=20)
    write_html(result, tmp_path / "r.html")
    written = Path(tmp_path / "r.html").read_text()
    assert "&lt;script&gt;alert(1)" in written
    assert "<script>alert(1)" not in written


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--form", "compile"], "--form is of models here"),
        (["--device", "cpu"], "--device is of models here"),
        (["--executor", "native"], "--executor is of models here"),
        (["--max-batch", "4", "--rate", "10"], "--max-batch is of models here"),
        (["--header", "Authorization: x-1"], "env:NAME"),
        (["--threads-per-call", "1"], "--threads-per-call is of models here"),
        (["--body", "{"], "no JSON"),
    ],
)
def test_what_a_server_decides_for_itself_is_refused_with_the_way_round(words, says):
    with serving(at_once) as server:
        done = inferload_here(
            "run", f"{server.origin}/x", "--inputs", "text:1", "--no-isolate", *words
        )
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())


def test_a_server_that_is_not_there_is_told_at_once():
    with serving(at_once) as server:
        port = server.port
    with pytest.raises(il.PlanError, match=f"nothing listens at 127.0.0.1:{port}"):
        il.run(f"http://127.0.0.1:{port}/x", ["text:1"])


def test_a_call_that_takes_too_long_is_cancelled_and_the_next_one_is_made():
    async def slow(asked: Asked) -> None:
        if asked.number % 4 == 3:
            await asyncio.sleep(30)
        await at_once(asked)

    with serving(slow) as server:
        result = il.run(f"{server.origin}/x", ["text:1 x1"], calls=12, timeout_s=1, warmup_calls=0)
    assert result.status == "complete"
    assert {one.type for one in result.failures} == {"TimedOut"}
    assert result.summary.completed_calls == 12 - result.failures[0].calls > 0


def test_pieces_before_a_cut_are_kept():
    async def script(asked: Asked) -> None:
        if asked.path == "/v1/models":
            await asked.answer({"data": [{"id": "m"}]})
            return
        await asked.begin()
        for _ in range(3):
            await asked.event({"choices": [{"text": "a"}]})
        if asked.number > 12:
            asked.close()
            return
        await asked.event("[DONE]")
        await asked.end()

    with serving(script) as server:
        result = il.run(f"{server.origin}/v1/completions", ["text:1 x1"], calls=10)
    failed = result.log.error >= 0
    assert result.failures[0].type == "CutOff"
    assert failed.sum() == result.failures[0].calls > 0
    assert result.log.pieces[failed].tolist() == [3] * failed.sum()


def test_models_of_a_mix_may_be_behind_servers_and_beside_one_here(tmp_path):
    with serving(at_once) as server:
        (tmp_path / "net.py").write_text(
            "def model():\n    return net\n\ndef net(x):\n    return x\n"
        )
        (tmp_path / "mix.toml").write_text(
            f'calls = 40\ncallers = 2\n[models.there]\nmodel = "{server.origin}/x"\nweight = 1\n'
            'inputs = ["text:2 x2"]\n[models.also]\n'
            f'model = "{server.origin}/y"\nweight = 1\ninputs = ["text:3 x2"]\n'
        )
        done = inferload_here(
            "run", tmp_path / "mix.toml", "--no-isolate", "--json", tmp_path / "r.json"
        )
        paths = {one.path for one in server.asked}
    assert done.returncode == 0, done.stderr
    assert paths == {"/x", "/y"}
    assert len(il.load_result(tmp_path / "r.json").servers) == 2


def test_without_the_packages_a_url_is_refused_with_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    gone = {"aiohttp", "grpc"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda one: None if one in gone else found(one)
    )
    with pytest.raises(il.PlanError, match=r"aiohttp, grpc is not.*inferload\[remote\]"):
        il.run("http://127.0.0.1:1/x", ["text:1"])
    (row,) = [one for one in findings(lambda _: None) if one.name == "servers"]
    assert (row.well, row.found) == (False, "aiohttp, grpc not installed")


def test_a_server_is_not_tuned_from_here():
    with pytest.raises(il.PlanError, match="inferload search URL"):
        il.tune("http://127.0.0.1:1/x", ["text:1"])
    assert inferload_here("tune", "http://127.0.0.1:1/x", "--inputs", "text:1").returncode == 2


@pytest.mark.multiprocess
def test_studies_of_a_server_are_those_of_a_model():
    with serving(at_once) as server:
        url, load = f"{server.origin}/x", il.ClosedLoop(callers=2)
        swept = il.sweep(url, ["text:1"], callers=[1, 2], duration_s=0.1, blocks=1)
        found = il.find_max_rate(url, ["text:1"], limit="p50<=1s", load=load, time_limit_s=3)
    assert len(swept.points) == 2
    assert found.closed_loop_per_s > 0
