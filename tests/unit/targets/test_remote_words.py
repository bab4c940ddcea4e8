"""URLs, headers and bodies: what is sent to a server, from what a user wrote."""

from __future__ import annotations

import json

import pytest
import torch

import inferload as il
from inferload.plan.server import body_from_text, header_from_text, server_from_words
from inferload.targets.inputs.given import inputs_from_text
from inferload.targets.remote.address import Address
from inferload.targets.remote.failures import (
    of_status,
    without_secrets,
    without_secrets_in,
    words_of,
)
from inferload.targets.remote.headers import resolved, resolved_body
from inferload.targets.remote.protocols.openai import OpenAi
from inferload.targets.remote.protocols.plain import PlainHttp
from inferload.targets.remote.protocols.v2_http import V2Http
from inferload.targets.remote.protocols.v2_tensors import arrays_of


@pytest.mark.parametrize(
    ("url", "protocol", "model", "port"),
    [
        ("http://a/v2/models/net", "v2-http", "net", 80),
        ("https://a/v2/models/net/versions/3/infer", "v2-http", "net", 443),
        ("http://a:1/kf/v2/models/my%20net", "v2-http", "my net", 1),
        ("grpc://a/net", "v2-grpc", "net", 8001),
        ("grpcs://a:9/net/versions/2", "v2-grpc", "net", 9),
        ("http://a/v1/completions", "openai-completions", None, 80),
        ("http://a/openai/v1/chat/completions", "openai-chat", None, 80),
        ("http://a/v1/embeddings/", "openai-embeddings", None, 80),
        ("http://[::1]:5/predict?raw=1", "http", None, 5),
        ("HTTP://a", "http", None, 80),
    ],
)
def test_the_path_of_a_url_says_how_a_server_is_spoken_to(url, protocol, model, port):
    found = Address.of(url)
    assert (found.protocol, found.model, found.port) == (protocol, model, port)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://user:pw@a/x", "Authorization: Basic env:NAME"),
        ("http://user:pw@a:99999/x", "Authorization: Basic env:NAME"),
        ("http://a/x?sig=pw", "sig"),
        ("http://a/x?api_key=1", "api_key"),
        ("http:///x", "names no host"),
        ("ftp://a/x", "http, https, grpc or grpcs"),
        ("grpc://a", "does not name a model"),
        ("http://a:99999/x", "cannot be read"),
        ("http://a/x#y", "leave it out"),
    ],
)
def test_a_url_that_names_no_server_or_holds_a_secret_is_refused(url, says):
    with pytest.raises(il.PlanError, match=says) as refused:
        Address.of(url)
    assert "pw" not in str(refused.value)


def test_a_url_with_a_port_is_a_url_and_no_name_in_a_file():
    from inferload.plan.model import spec_parts

    assert spec_parts("http://localhost:8080") == ("http://localhost:8080", None)


def test_a_secret_is_taken_from_where_it_is_and_known_as_one(monkeypatch, tmp_path):
    monkeypatch.setenv("A_TOKEN", "s3cr3t")
    (tmp_path / "key").write_text("hidden\n")
    pairs = [("Authorization", "Bearer env:A_TOKEN"), ("X-Api-Key", f"file:{tmp_path / 'key'}")]
    headers, secrets = resolved([*pairs, ("X-Tenant", "a")])
    assert headers == {
        "Authorization": "Bearer s3cr3t", "X-Api-Key": "hidden", "X-Tenant": "a",
    }  # fmt: skip
    said = without_secrets(of_status(401, b'{"error": "bad key s3cr3t or hidden"}'), secrets)
    assert str(said) == "status 401: bad key *** or ***"
    assert type(said).__name__ == "RequestRefused"


@pytest.mark.parametrize(
    "text", ["Authorization: Bearer sk-abc", "x-api-key: 1", "Cookie: a=b", "My-Pass: x",
             "Authorization: Bearer sk-lit env:HOME"],
)  # fmt: skip
def test_a_secret_on_the_command_line_is_refused_without_repeating_it(text):
    with pytest.raises(il.PlanError, match="env:NAME") as refused:
        header_from_text(text)
    assert text.partition(": ")[2] not in str(refused.value)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([("Authorization", "env:NOT_THERE_AT_ALL")], "NOT_THERE_AT_ALL, which is not set"),
        ([("X-Key", "file:/no/such/file")], "cannot be read"),
    ],
)
def test_a_secret_that_is_not_there_is_named(pairs, says):
    with pytest.raises(il.PlanError, match=says):
        resolved(pairs)


@pytest.mark.parametrize("text", ["nothing", "A b: c", "Host: x", "X: a\nB: c", ": x"])
def test_what_is_no_header_is_refused(text):
    with pytest.raises(il.PlanError):
        header_from_text(text)


def test_flags_of_servers_without_a_server_are_refused():
    words = {"header": None, "body": None, "connections": "new", "insecure": False,
             "answer_bytes": None}  # fmt: skip
    with pytest.raises(il.PlanError, match="--connections is of servers"):
        server_from_words(words, of_server=False)
    assert server_from_words(words | {"connections": "kept"}, of_server=False) is None


def test_a_body_may_be_a_file(tmp_path):
    (tmp_path / "b.json").write_text('{"a": 1}')
    assert body_from_text(f"@{tmp_path / 'b.json'}") == {"a": 1}
    with pytest.raises(il.PlanError, match="no JSON"):
        body_from_text("{a}")
    with pytest.raises(il.PlanError, match="cannot be read"):
        body_from_text("@/no/such/file")


def body_of(protocol, one: il.CallInput):
    return json.loads(protocol.request(0, one).body)


@pytest.mark.parametrize(
    ("template", "one", "body"),
    [
        (None, il.CallInput((), {"text": "a"}), {"text": "a"}),
        (None, il.CallInput(([1, 2],)), [1, 2]),
        (None, il.CallInput((torch.ones(1, 2),)), [[1.0, 1.0]]),
        ({"x": "{input}"}, il.CallInput((torch.ones(2),)), {"x": [1.0, 1.0]}),
        ({"x": "{input}"}, il.CallInput((), {"text": "a"}), {"x": "a"}),
        ({"x": ["{a}", "b {a}"]}, il.CallInput((), {"a": "t"}), {"x": ["t", "b t"]}),
        ({"x": "{0}", "y": "{1}", "n": 4}, il.CallInput((1, 2)), {"x": 1, "y": 2, "n": 4}),
        ({"q": "{a} {b}"}, il.CallInput((), {"a": "{b}", "b": 1}), {"q": "{b} 1"}),
        ({"q": "{input} and {input}"}, il.CallInput(("}{",)), {"q": "}{ and }{"}),
    ],
)
def test_plain_http_posts_the_input_or_what_a_template_makes_of_it(template, one, body):
    assert body_of(PlainHttp("/x", template), one) == body


def test_bytes_are_posted_as_they_are():
    found = PlainHttp("/x").request(0, il.CallInput((b"\x00\xff",)))
    assert found.body == b"\x00\xff"
    assert found.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("template", "one", "says"),
    [
        ({"x": 1}, il.CallInput(("a",)), "no place for the input"),
        (None, il.CallInput(("a",), {"b": 1}), "positional and keyword"),
        (None, il.CallInput((), {"b": object()}), "cannot be sent as JSON"),
        (None, il.CallInput((), {"b": float("nan")}), "cannot be sent as JSON"),
        ({"x": "a {input}"}, il.CallInput((torch.ones(1),)), "stands within a text"),
    ],
)
def test_an_input_that_has_no_body_is_refused(template, one, says):
    with pytest.raises(il.PlanError, match=says):
        PlainHttp("/x", template).request(0, one)


def openai(path: str, fields=None) -> OpenAi:
    return OpenAi(Address.of(f"http://a{path}"), {"model": "m"} | (fields or {}))


def test_a_text_becomes_the_prompt_the_message_or_the_input():
    text = il.CallInput((), {"text": "hi"})
    assert body_of(openai("/v1/completions"), text)["prompt"] == "hi"
    assert body_of(openai("/v1/embeddings"), text) == {"model": "m", "input": "hi"}
    chat = body_of(openai("/v1/chat/completions", {"max_tokens": 8}), text)
    assert chat["messages"] == [{"role": "user", "content": "hi"}]
    assert (chat["max_tokens"], chat["stream"]) == (8, True)
    assert chat["stream_options"] == {"include_usage": True}


def test_fields_of_an_input_go_before_those_of_all():
    own = il.CallInput((), {"prompt": "hi", "max_tokens": 2})
    assert body_of(openai("/v1/completions", {"max_tokens": 8}), own)["max_tokens"] == 2


def test_several_texts_are_so_many_items():
    several = il.CallInput((), {"input": ["a", "b", "c"]})
    assert openai("/v1/embeddings").request(0, several).items == 3


def test_answers_are_whole_where_nobody_streams():
    protocol = openai("/v1/completions", {"stream": False})
    assert not protocol.in_pieces
    body = body_of(protocol, il.CallInput(("hi",)))
    assert not body["stream"]
    assert "stream_options" not in body


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (il.CallInput((torch.ones(1),)), "has no text"),
        (il.CallInput((), {"prompt": "a", "stream": False}), "input 0 says stream: false"),
    ],
)
def test_an_input_of_no_text_or_of_another_kind_of_answer_is_refused(one, says):
    with pytest.raises(il.PlanError, match=says):
        openai("/v1/completions").request(0, one)


KNOWN = [{"name": "ids", "datatype": "INT64"}, {"name": "mask", "datatype": "INT64"}]


def test_tensors_take_the_names_that_the_server_tells():
    one = il.CallInput((torch.zeros(1, 2, dtype=torch.int64),), {"mask": torch.ones(1, 2).long()})
    found = arrays_of(0, one, KNOWN)
    assert [(name, kind) for name, kind, _ in found] == [("ids", "INT64"), ("mask", "INT64")]


@pytest.mark.parametrize(
    ("one", "known", "says"),
    [
        (il.CallInput((torch.ones(1),)), [], "names no inputs: name each"),
        (il.CallInput((), {"other": torch.ones(1).long()}), KNOWN, "takes ids, mask"),
        (il.CallInput((torch.ones(1).long(),)), KNOWN, r"lacks mask: the model takes ids \(INT64"),
        (il.CallInput((torch.ones(1), torch.ones(1))), KNOWN, "ids is FP32.*give it as int64"),
        (il.CallInput((), {"x": object()}), [], "x is a object"),
    ],
)
def test_tensors_that_the_server_does_not_take_are_refused(one, known, says):
    with pytest.raises(il.PlanError, match=says):
        arrays_of(3, one, known)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6, dtype=torch.int64).reshape(2, 3),
        torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.rand(2, 2).half().t(),
    ],
    ids=["int64", "bfloat16", "bool", "a transposed one"],
)
def test_a_binary_tensor_comes_back_as_it_was_sent(tensor):
    """The body of a request has the layout of one of an answer."""
    request = V2Http(Address.of("http://a/v2/models/m")).request(0, il.CallInput((), {"x": tensor}))
    length = int(request.headers["Inference-Header-Content-Length"])
    head = json.loads(request.body[:length])
    answer = json.dumps({"model_name": "m", "outputs": head["inputs"]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(answer))}
    found = V2Http(Address.of("http://a/v2/models/m")).read(
        answer + request.body[length:], headers
    )["x"]
    assert head["parameters"]["binary_data_output"]
    assert torch.equal(found, tensor)


def test_texts_are_sent_to_models_that_take_bytes():
    ((name, kind, array),) = arrays_of(0, il.CallInput((), {"text": ["a", "ä"]}), [])
    assert (name, kind, array.tolist()) == ("text", "BYTES", [b"a", "ä".encode()])


def test_bodies_are_read_a_line_each(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "a"}\n\n[1, 2]\n')
    found = inputs_from_text([str(path)], 0)
    assert [(one.args, dict(one.kwargs)) for one in found] == [
        ((), {"prompt": "a"}),
        (([1, 2],), {}),
    ]
    path.write_text('{"prompt": "a"}\n{"prompt"\n')
    with pytest.raises(il.PlanError, match="line 2 is no JSON"):
        inputs_from_text([str(path)], 0)


def test_texts_are_drawn_by_the_seed_and_have_their_lengths():
    found, again = (inputs_from_text(["text:3..6 x50"], 7) for _ in range(2))
    assert found == again != inputs_from_text(["text:3..6 x50"], 8)
    assert {len(one.kwargs["text"].split()) for one in found} == {3, 4, 5}


@pytest.mark.parametrize("text", ["text:0", "text:5..5", "text:9..2", "text:1 x0"])
def test_texts_of_no_length_are_refused(text):
    with pytest.raises(il.PlanError):
        inputs_from_text([text], 0)


def test_secrets_of_a_body_are_references_as_those_of_headers(monkeypatch):
    monkeypatch.setenv("A_KEY", "s3cr3t")
    body = {"api_key": "env:A_KEY", "max_tokens": 5, "q": ["{input}"]}
    assert il.Server("http://a/x", body=body).body == body
    assert resolved_body(body) == (body | {"api_key": "s3cr3t"}, ("s3cr3t",))
    with pytest.raises(il.PlanError, match="the field api_key") as refused:
        il.Server("http://a/x", body={"api_key": "sk-1"})
    assert "sk-1" not in str(refused.value)


def test_a_secret_is_taken_out_however_it_is_written():
    said = rb'{"error": "no sk\/1, sk/1 nor sk%2F1"}'
    assert words_of(without_secrets_in(said, ("sk/1",))) == "no ***, *** nor ***"


def test_a_path_is_encoded_where_it_is_not_yet():
    assert Address.of("http://a/b c/é%20?q=ü").path == "/b%20c/%C3%A9%20?q=%C3%BC"


def test_insecure_is_of_certificates():
    with pytest.raises(il.PlanError, match="http:// has none"):
        il.run(il.Server("http://127.0.0.1:1/x", insecure=True), ["text:1"])


@pytest.mark.parametrize("spec", ["127.0.0.1:8080/predict", "http:/127.0.0.1/x", "localhost:80/x"])
def test_a_forgotten_scheme_is_told(spec):
    with pytest.raises(il.PlanError, match="give the whole URL"):
        il.run(spec, ["text:1"])


def test_what_a_server_says_is_a_line_without_markup_or_control_characters():
    assert words_of(b"<html><body><h1>Bad\x1b[31m</h1>\n gateway</body>") == "Bad\ufffd[31m gateway"
    assert len(words_of(b"x" * 9999)) == 200
