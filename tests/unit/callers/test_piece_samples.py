"""Which single pieces are kept of many: of a share of the calls that the seed draws."""

from __future__ import annotations

import torch

import inferload as il
from support.virtual_time import simulated

MS = 1_000_000
ONE = il.ClosedLoop(callers=1)


def scripted(*gaps_ms: float, after_ms: float = 0.0):
    """A target that yields after each of these times, and ends so long after the last piece."""

    def of(clock):
        def stream(_):
            for gap in gaps_ms:
                clock.sleep(int(gap * MS))
                yield "token"
            clock.sleep(int(after_ms * MS))

        return stream

    return of


def test_of_many_pieces_a_share_of_the_calls_is_kept_that_the_seed_draws(monkeypatch):
    monkeypatch.setattr("inferload.callers.answers.piece_log.MOST_TIMES", 600)

    def burst(_):
        def stream(_):
            yield from range(50)

        return stream

    first, again, other = (
        simulated(burst, ONE, calls=200, seed=seed).log.piece_times for seed in (1, 1, 2)
    )
    assert 0 < first.share <= 0.0625
    assert len(first.times_ns) <= 600
    assert len(first.times_ns) == 50 * len(first.calls)
    assert first.calls["drawn"].tolist() == again.calls["drawn"].tolist()
    assert first.calls["drawn"].tolist() != other.calls["drawn"].tolist()
    assert (first.calls["drawn"] < first.share).all()


def test_many_callers_share_one_sample(monkeypatch):
    monkeypatch.setattr("inferload.callers.answers.piece_log.MOST_TIMES", 4000)

    def burst(_):
        yield from range(100)

    load = il.ClosedLoop(callers=32)
    times = il.run(burst, [torch.zeros(1)], load=load, calls=400, warmup_calls=2).log.piece_times
    assert 4000 / 3 < len(times.times_ns) <= 4000


def test_of_a_long_call_the_first_pieces_are_kept_and_all_are_counted(monkeypatch):
    for place in ("callers.answers.piece_log", "log.piece_times", "report.text.pieces"):
        monkeypatch.setattr(f"inferload.{place}.MOST_OF_A_CALL", 10)
    result = simulated(scripted(*[1] * 25), ONE, calls=2, limit="gap p50<=2ms")
    log = result.log
    assert result.limits[0].verdict == "open"  # nobody knows the gaps of the rest
    assert "of 2 long calls gaps are those of the first 10 pieces" in str(result)
    assert log.piece_times.calls["pieces"].tolist() == [10, 10]
    assert log.pieces.tolist() == [25, 25]
    assert log.stages["last_piece_ns"].tolist() == [25 * MS] * 2
