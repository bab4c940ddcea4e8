"""Servers over TLS: whom is trusted, what is refused with the way round, and what a result says."""

from __future__ import annotations

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
import torch
import trustme
from tritonclient.grpc import service_pb2, service_pb2_grpc

import inferload as il
from support.program import inferload, inferload_here
from support.scripted_server import at_once, serving

INPUTS = ["text:1 x1"]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, monkeypatch, tmp_path):
    """Have its certificates trusted."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


def with_certificate(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def run(origin: str, **options) -> il.RunResult:
    server = il.Server(f"{origin}/x", **options)
    return il.run(server, INPUTS, calls=10, warmup_calls=1)


def words(result: object) -> str:
    return " ".join(str(result).split())


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_an_authority_that_is_named_is_trusted(authority):
    with serving(at_once, with_certificate(authority)) as server:
        result = run(server.origin)
    assert result.summary.completed_calls == 10
    (seen,) = result.servers
    assert seen.reached.tls == "TLSv1.3"
    assert seen.reached.tls_ms > 0
    assert "TLSv1.3" in words(result)
    assert "not verified" not in words(result)
    assert not result.spec.servers[0].insecure


@pytest.mark.usefixtures("trusted")
def test_a_handshake_is_a_part_of_a_call_that_opens_its_connection(authority, tmp_path):
    """In a process of its own: some connections are still being closed when its loop ends."""
    path = tmp_path / "r.json"
    words = ["--inputs", *INPUTS, "--calls", 10, "--warmup", 1, "--connections", "new"]
    with serving(at_once, with_certificate(authority)) as server:
        done = inferload("run", f"{server.origin}/x", *words, "--json", path, timeout_s=100)
    assert done.returncode == 0, done.stderr
    result = il.load_result(path)
    (seen,) = result.servers
    assert seen.opened == 10
    assert 0 < seen.open_p50_ms <= result.summary.service_ms.max


def test_an_unknown_authority_is_refused_with_the_way_round(authority):
    with (
        serving(at_once, with_certificate(authority)) as server,
        pytest.raises(il.PlanError, match="cannot be trusted") as found,
    ):
        run(server.origin)
    assert not server.asked
    assert "SSL_CERT_FILE" in str(found.value)
    assert "--insecure (insecure=True)" in str(found.value)


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_another_host_is_refused(authority):
    with (
        serving(at_once, with_certificate(authority, "elsewhere.test")) as server,
        pytest.raises(il.PlanError, match=r"127\.0\.0\.1.*cannot be trusted.*mismatch"),
    ):
        run(server.origin)
    assert not server.asked


@pytest.mark.parametrize("name", ["127.0.0.1", "elsewhere.test"])
def test_what_is_not_verified_works_and_the_report_says_so(name, authority, tmp_path):
    path = tmp_path / "r.json"
    with serving(at_once, with_certificate(authority, name)) as server:
        given = ["--inputs", *INPUTS, "--calls", 10, "--warmup", 1, "--insecure", "--no-isolate"]
        done = inferload_here("run", f"{server.origin}/x", *given, "--json", path)
    assert done.returncode == 0, done.stderr
    assert "its certificate was not verified (--insecure)" in " ".join(done.stdout.split())
    result = il.load_result(path)
    assert result.spec.servers[0].insecure
    assert result.servers[0].reached.tls == "TLSv1.3"
    assert result.summary.completed_calls == 10


@pytest.mark.parametrize("insecure", [False, True])
def test_https_to_a_server_of_http_is_told(insecure):
    with (
        _answers_no_handshake() as port,
        pytest.raises(il.PlanError, match=r"does not speak TLS .*is it http:// there\?"),
    ):
        run(f"https://127.0.0.1:{port}", insecure=insecure)


@contextmanager
def _answers_no_handshake():
    """The port of a server that answers a handshake as servers of HTTP do."""

    def serve() -> None:
        with listening.accept()[0] as one:
            one.recv(65_536)
            one.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)


class Twice(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A model that answers with twice its input."""

    def ModelMetadata(self, request, context):  # noqa: N802 - names of the protocol
        found = service_pb2.ModelMetadataResponse(name=request.name)
        found.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        return found

    def ModelInfer(self, request, context):  # noqa: N802
        found = service_pb2.ModelInferResponse(model_name=request.model_name)
        (given,) = request.inputs
        found.outputs.add(name="y", datatype="FP32", shape=given.shape)
        twice = 2 * np.frombuffer(request.raw_input_contents[0], np.float32)
        found.raw_output_contents.append(twice.tobytes())
        return found


@pytest.fixture
def over_grpc(authority):
    """The URL of a model of a server of gRPC."""
    own = authority.issue_cert("127.0.0.1")
    chain = b"".join(one.bytes() for one in own.cert_chain_pems)
    key = own.private_key_pem.bytes()
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Twice(), server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    yield f"grpcs://127.0.0.1:{port}/twice"
    server.stop(None).wait()


@pytest.mark.usefixtures("trusted")
def test_grpc_goes_over_tls_as_well(over_grpc):
    result = il.run(over_grpc, [torch.ones(3, 2)], calls=10, verify=True)
    assert (result.verification.compared, result.verification.differing) == (10, 0)
    assert result.servers[0].reached.tls == "TLSv1.3"


@pytest.mark.parametrize(
    ("options", "says"),
    [({}, "cannot be trusted .*SSL_CERT_FILE"), ({"insecure": True}, "leave insecure .* out")],
    ids=["unknown", "insecure"],
)
def test_and_is_always_verified(options, says, over_grpc):
    with pytest.raises(il.PlanError, match=says):
        il.run(il.Server(over_grpc, **options), [torch.ones(3, 2)], calls=10)
