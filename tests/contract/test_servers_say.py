"""What servers count themselves, beside our figures."""

from __future__ import annotations

import asyncio
import time

import pytest

import inferload as il
from inferload.report.html.document import write_html
from inferload.report.markdown import markdown_text
from support.counting_server import Counting, counting
from support.program import inferload_here as called
from support.scripted_server import Asked, ScriptedServer, at_once, serving

LOAD = il.ClosedLoop(callers=2)


def ran(server: ScriptedServer, **options) -> il.RunResult:
    options = {"load": LOAD, "calls": 60, "warmup_calls": 7} | options
    return il.run(f"{server.origin}/v2/models/m", ["x=1x2:float32"], **options)


def codes(result: il.RunResult) -> set[str]:
    return {one.code for one in result.warnings}


def said_by(result: il.RunResult):
    (seen,) = result.servers
    assert seen.said is not None
    return seen.said


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_server_counted_is_of_the_measured_calls_alone(processes):
    """Neither of the 1,000 requests before, nor of a warm-up that takes long."""

    async def slow_at_first(asked: Asked) -> None:
        if asked.number < 20:
            await asyncio.sleep(0.05)
        await counts.script(asked)

    with counting() as (server, counts):
        server.script = slow_at_first
        result = ran(server, processes=processes)
        looks = [one.path for one in server.looks]
    assert counts.answered > 1060
    said = said_by(result)
    assert (said.requests, said.statistics.success.count) == (60, 60)
    assert said.statistics.queue.mean_ms == pytest.approx(2)
    assert said.statistics.compute_infer.mean_ms == pytest.approx(3)
    assert said.statistics.batches == ((1, 60),)
    (predict,) = said.metrics
    assert (predict.value, predict.mean) == (60, pytest.approx(3))
    assert predict.p50 == pytest.approx(3)
    assert sorted(looks) == 2 * ["/metrics"] + 2 * ["/v2/models/m/stats"]
    assert not codes(result) & {"server-counts-differ", "server-unread"}


def test_it_is_told_in_every_report_and_saved(tmp_path):
    with counting() as (server, _):
        result = ran(server)
    result.save(tmp_path / "r.json")
    loaded = il.load_result(tmp_path / "r.json")
    assert loaded.servers == result.servers
    write_html(result, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "What the server says" in page
    for told in (str(loaded), markdown_text(loaded).partition("<details>")[0], page):
        words = " ".join(told.split())
        assert "the server says" in words
        assert "waiting in the queue" in words
        assert "2.00 ms" in words
        assert "all other load on the server" in words
    assert max(map(len, str(result).splitlines())) <= 80


def test_a_process_of_its_own_is_read_beside_too(tmp_path):
    with counting() as (server, _):
        words = ["run", f"{server.origin}/v2/models/m", "--inputs", "x=1x2:float32"]
        done = called(*words, "--calls", "40", "--json", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert said_by(il.load_result(tmp_path / "r.json")).requests == 40


def test_a_server_that_counts_nothing_has_none():
    with counting(Counting(metrics=False, statistics=False)) as (server, _):
        result = ran(server)
        assert len(server.looks) == 2  # and is not asked again
    assert result.servers[0].said is None
    assert "server says" not in str(result)
    assert "server-unread" not in codes(result)


@pytest.mark.parametrize("body", [{"ok": True}, b"<html>all is well</html>", b"\xff\x00"])
def test_a_server_that_answers_whatever_it_is_asked_has_none(body):
    async def anything(asked: Asked) -> None:
        await asked.answer(body)

    with counting() as (server, _):
        server.counts = anything
        result = ran(server)
    assert result.servers[0].said is None
    assert "server-unread" not in codes(result)


async def silent(asked: Asked) -> None:
    await asked.answer(b"busy", 503)


async def hangs(asked: Asked) -> None:
    await asyncio.sleep(30)


async def hangs_up(asked: Asked) -> None:
    asked.close()


async def other(asked: Asked) -> None:
    await asked.answer(b"no such thing")


@pytest.mark.parametrize(
    ("then", "says"),
    [
        (silent, "status 503: busy"),
        (hangs, "no answer within 1."),
        (hangs_up, "Disconnected"),
        (other, "it has no metrics"),
    ],
)
def test_a_server_that_no_longer_says_what_it_counts_is_told_of(then, says):
    with counting() as (server, counts):

        async def twice(asked: Asked) -> None:
            await (counts.counts if len(server.looks) <= 2 else then)(asked)

        server.counts = twice
        began = time.monotonic()
        result = ran(server)
        assert time.monotonic() - began < 5
    said = said_by(result)
    assert (said.metrics, said.statistics, said.requests) == ((), None, None)
    assert len(said.troubles) == 2
    assert all("could not be read after the run: " in one for one in said.troubles)
    assert any(says in one for one in said.troubles)
    assert "server-unread" in codes(result)
    assert result.summary.completed_calls == 60


def test_a_server_that_is_slow_to_say_it_delays_a_run_by_less_than_2_s():
    with counting() as (server, _):
        server.counts = hangs
        result = ran(server, calls=10)
        assert len(server.looks) == 2
    assert result.set_up.open_s < 2
    assert all("before the run: no answer within 0.8 s" in one for one in said_by(result).troubles)


def test_counts_that_went_back_are_of_another_process():
    with counting() as (server, counts):

        async def again(asked: Asked) -> None:
            if len(server.looks) == 3:
                counts.answered = 3
            await counts.counts(asked)

        server.counts = again
        result = ran(server)
    assert "its counters went back" in " ".join(said_by(result).troubles)
    assert said_by(result).metrics == ()
    assert "server-unread" in codes(result)


@pytest.mark.parametrize(("times", "says"), [(2, "120"), (0.5, "30")])
def test_counts_that_differ_from_ours_are_warned_of(times, says):
    with counting(Counting(times=times)) as (server, _):
        result = ran(server)
    (found,) = [one for one in result.warnings if one.code == "server-counts-differ"]
    assert f"the server counted {says} requests" in found.message
    assert "60 were sent" in found.message


def test_a_count_of_metrics_is_compared_too():
    with counting(Counting(statistics=False, times=2)) as (server, _):
        result = ran(server)
    (found,) = [one for one in result.warnings if one.code == "server-counts-differ"]
    assert "120 requests (request_predict_seconds)" in found.message


def test_what_failed_here_may_have_been_answered_there():
    with counting() as (server, counts):

        async def half(asked: Asked) -> None:
            if asked.method == "POST" and asked.number > 20 and asked.number % 2:
                counts.note()
                await asked.answer(b"", 500)
            else:
                await counts.script(asked)

        server.script = half
        result = ran(server)
    assert result.summary.failed_calls > 10
    assert "server-counts-differ" not in codes(result)


def test_any_server_may_have_metrics():
    with serving(at_once) as server:

        async def counts(asked: Asked) -> None:
            text = f"# TYPE asked_total counter\nasked_total {len(server.asked)}\n"
            await asked.answer(text.encode(), kind="text/plain")

        server.counts = counts
        result = il.run(f"{server.origin}/deep/predict", ["text:2"], calls=30)
        assert {one.path for one in server.looks} == {"/metrics"}
    (asked,) = said_by(result).metrics
    assert (asked.name, asked.value) == ("asked_total", 30)


def test_models_behind_one_server_share_its_metrics(tmp_path):
    with counting() as (server, _):
        url = f"{server.origin}/v2/models"
        (tmp_path / "mix.toml").write_text(
            f'calls = 40\ncallers = 2\n[models.one]\nmodel = "{url}/m"\nweight = 1\n'
            f'inputs = ["x=1x2:float32"]\n[models.two]\nmodel = "{url}/n"\nweight = 1\n'
            'inputs = ["x=1x2:float32"]\n'
        )
        done = called("run", tmp_path / "mix.toml", "--no-isolate", "--json", tmp_path / "r.json")
        metrics = [one.path for one in server.looks].count("/metrics")
    assert done.returncode == 0, done.stderr
    assert metrics == 2
    one, two = il.load_result(tmp_path / "r.json").servers
    assert one.said.metrics == two.said.metrics
    assert str(done.stdout).count("predict") == 1
