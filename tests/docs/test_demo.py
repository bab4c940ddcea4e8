"""The first thing that a newcomer runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.forks import OF_MINILM
from support.program import run

if TYPE_CHECKING:
    from support.forks import Forks

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.mark.slow
@pytest.mark.native
def test_the_demo_draws_its_table_within_80_columns(forks: Forks):
    forks.import_before(*OF_MINILM)
    done = run(
        [sys.executable, str(DEMO), "--callers", "1,2", "--rounds", "1", "--seconds", "0.3"],
        env=os.environ | {"COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    cells = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    assert [one[1].strip() for one in cells] == ["eager"] * 2 + ["script"] * 2 + ["aoti"] * 2
    assert max(map(len, done.stdout.splitlines())) <= 80
