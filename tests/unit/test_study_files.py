"""Files of studies that an earlier inferload of this schema version wrote are still read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import inferload as il
from inferload.report.studies import study_report
from inferload.studies.files import save_study

GOLDEN = Path(__file__).parents[1] / "golden"


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
def test_studies_of_version_1_are_read_drawn_and_written_as_version_2(tmp_path, name, kind, says):
    path = GOLDEN / f"{name}_v1.json"
    study = il.load_study(path)
    assert isinstance(study, kind)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(study_report(study))
    assert says in console.export_text()
    save_study(study, tmp_path / "again.json")
    was = json.loads(path.read_text())
    was["schema_version"] = 2
    was["study"]["made_by"] = None
    for one in was["study"].get("confirmations", ()):
        one["margin"]["made_by"] = None
    assert holds(json.loads((tmp_path / "again.json").read_text()), was)
