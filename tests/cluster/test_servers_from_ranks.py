"""Ranks that ask one server together."""

from __future__ import annotations

import pytest

import inferload as il
from support.rank_programs import ended, torchrun
from support.scripted_server import at_once, serving

pytestmark = [pytest.mark.cluster, pytest.mark.multiprocess]


def test_every_rank_sends_and_what_they_saw_is_one_result(tmp_path):
    path = tmp_path / "r.json"
    with serving(at_once) as server:
        words = ("--inputs", "text:2 x2", "--calls", 400, "--callers", 2, "--json", path)
        code, shown, said = ended(torchrun(f"{server.origin}/x", *words, ranks=2))
    assert code == 0, said
    result = il.load_result(path)
    assert (result.spec.ranks, len(result.log)) == (2, 400)
    assert [one.completed_calls for one in result.ranks] == [200, 200]
    (seen,) = result.servers
    assert (seen.opened_before, seen.opened) == (4, 0)
    assert "2 ranks x 2 callers" in shown
