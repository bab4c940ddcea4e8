"""A model here compared with one behind a server."""

from __future__ import annotations

import time

import pytest

import inferload as il
from inferload.cli.request.asked import Asked
from inferload.plan.options import RunOptions
from inferload.report.text.run import plain_report
from inferload.studies.compare import at_the_peak, peak_pairs
from support import scripted_server
from support.program import inferload_here
from support.scripted_server import serving

MODEL = """
import time

def model():
    return predict

def predict(text):
    time.sleep(0.002)
    return {{"length": len(text)}}

def inputs():
    return [{inputs}]
"""
QUICK = ["--calls", "40", "--callers", "2", "--threads-per-call", "1", "--warmup", "1"]


async def answers(asked: scripted_server.Asked) -> None:
    """As the model, a little later."""
    time.sleep(0.004)  # noqa: ASYNC251 - it is busy
    await asked.answer({"length": len(asked.json["text"])})


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(MODEL.format(inputs='{"text": "a queue"}, {"text": "forms"}'))
    return path


def test_a_server_is_asked_with_the_inputs_of_the_model_and_its_cost_is_told(net, tmp_path):
    with serving(answers) as server:
        url = f"{server.origin}/predict"
        done = inferload_here(
            "compare", net, url, "--rate", "100", *QUICK, "--json", tmp_path / "c.json"
        )
        texts = {one.json["text"] for one in server.asked}
    assert done.returncode == 0, done.stderr
    assert texts == {"a queue", "forms"}
    found = il.load_study(tmp_path / "c.json")
    assert isinstance(found, il.Comparison)
    assert found.served == "b"
    assert found.outputs_alike, found.outputs
    assert (len(found.runs), len(found.peaks)) == (20, 8)
    assert found.peak_sides == ("a", "b", "b", "a", "a", "b", "b", "a")
    a, b = found.peaks_per_s("a"), found.peaks_per_s("b")
    assert all(mine > theirs for mine, theirs in zip(a, b, strict=True))
    said = " ".join(done.stdout.split())
    assert "it adds" in said
    assert "At 100/s the server adds" in said
    assert "its highest rate is 0." in said
    assert "highest rate: closed loop" in said
    assert plain_report(found).split() == done.stdout.split()


def test_flags_of_each_side_are_its_own():
    """A header is the server's, a form the model's."""
    words = {"form": "compile", "threads_per_call": 1, "header": ["X-Tenant: a"]}
    asked = Asked(model="net.py", words=words)
    here, there = asked.side("net.py", "http://a/x"), asked.side("http://a/x", "net.py")
    assert (here.source().form, here.options().threads_per_call) == ("compile", 1)
    assert here.options().on_error == "stop"
    assert (there.source().form, there.options().threads_per_call) == (None, None)
    assert there.options().on_error == "record"
    assert there.source().server.header_pairs == (("X-Tenant", "a"),)
    assert there.source().inputs_of == "net.py"


def test_highest_rates_are_asked_for_where_an_open_loop_does_not_say_them():
    open_loop = il.OpenLoop.constant(rate_per_s=9, callers=2)
    options = [RunOptions(load=one).checked() for one in (open_loop, il.ClosedLoop(callers=2))]
    url, other = "http://a/x", "http://a/y"
    assert [peak_pairs(["net.py", url], one) for one in options] == [4, 0]
    assert peak_pairs([url, other], options[0]) == 0
    assert at_the_peak(options[0]).load == il.ClosedLoop(callers=2)


def test_python_compares_them_too():
    def predict(text):
        time.sleep(0.002)
        return {"length": len(text)}

    with serving(answers) as server:
        found = il.compare(
            f"{server.origin}/x",
            predict,
            [{"text": "abc"}],
            load=il.OpenLoop.constant(rate_per_s=100, callers=2),
            calls=40,
            processes=None,
        )
    assert found.served == "a"
    assert len(found.peaks) == 8
    assert found.outputs_alike, found.outputs
    assert "The server adds" in plain_report(found).replace("At 100/s the", "The")
