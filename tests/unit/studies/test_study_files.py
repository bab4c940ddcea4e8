"""Files of studies that an earlier inferload of this schema version wrote are still read."""

from __future__ import annotations

import errno
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import inferload as il
from inferload.report.text.studies.sweeps import study_report
from inferload.studies import keeping
from inferload.studies.keeping import StudyKeeper
from inferload.studies.records.files import measured_any, save_study

GOLDEN = Path(__file__).parents[2] / "golden"


def holds(found: object, was: object) -> bool:
    """Whether all that was there is there; fields that came since are beside it."""
    if isinstance(was, dict) and isinstance(found, dict):
        return all(name in found and holds(found[name], one) for name, one in was.items())
    if isinstance(was, list) and isinstance(found, list):
        return len(found) == len(was) and all(map(holds, found, was))
    return found == was


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("sweep", il.Sweep, "most: 190 calls/s with 2 callers"),
        ("search", il.MaxRate, "100 calls/s keep p90 <= 15.0 ms"),
        ("comparison", il.Comparison, "gate p50 +5%: crossed"),
        ("tuning", il.Tuning, "best: 2 callers, 1 thread a call, form aoti"),
    ],
)
def test_studies_of_version_1_are_read_drawn_and_written_as_version_3(tmp_path, name, kind, says):
    path = GOLDEN / f"{name}_v1.json"
    study = il.load_study(path)
    assert isinstance(study, kind)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(study_report(study))
    assert says in console.export_text()
    save_study(study, tmp_path / "again.json")
    was = json.loads(path.read_text())
    was["schema_version"] = 5
    was["study"]["made_by"] = None
    for one in was["study"].get("confirmations", ()):
        one["margin"]["made_by"] = None
    assert holds(json.loads((tmp_path / "again.json").read_text()), was)


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("sweep", {"runs": (), "points": ()}),
        ("search", {"probes": ()}),
        ("comparison", {"runs": ()}),
        ("tuning", {"trials": ()}),
    ],
)
def test_a_study_in_which_nothing_was_measured_replaces_none_that_is_whole(tmp_path, name, without):
    path = tmp_path / "s.json"
    whole = replace(il.load_study(GOLDEN / f"{name}_v1.json"), status="complete")
    nothing = replace(whole, status="interrupted", **without)
    assert measured_any(whole)
    assert not measured_any(nothing)
    save_study(whole, path)
    before = path.read_bytes()
    keeper = StudyKeeper(path, type(whole), dict(whole.asked))
    keeper.keep(nothing)
    assert path.read_bytes() == before
    assert "nothing was measured, and" in keeper.trouble
    assert not keeper.kept
    keeper.keep(replace(whole, status="interrupted"))  # what was measured is what was asked for
    assert keeper.trouble is None
    assert path.read_bytes() != before
    # where nothing would be lost, an interrupted study is written from its beginning
    first = StudyKeeper(tmp_path / "new.json", type(whole), dict(whole.asked))
    first.keep(nothing)
    assert first.kept


def test_a_study_that_cannot_be_written_is_told_of_and_not_lost(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keeping, "save_study", full)
    told = keeping.trouble_saving(None, tmp_path / "e.json")
    assert told == f"{tmp_path}/e.json could not be written: No space left on device"
