from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import inferload


def test_the_public_names_are_sorted_and_all_of_them_are_there():
    assert inferload.__all__ == sorted(inferload.__all__)
    assert all(getattr(inferload, name) is not None for name in inferload.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        inferload.nothing_like_this  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import inferload",
        "import inferload.cli",
        "import inferload.report.text.run, inferload.runs.saved, inferload.stats.summary",
    ],
)
def test_torch_is_not_imported_by(code: str):
    script = f"import sys; {code}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_type_checkers_are_asked_about_every_public_name():
    asked = (Path(__file__).parents[1] / "typing" / "api.py").read_text()
    assert set(inferload.__all__) == set(re.findall(r"\bil\.(\w+)", asked))
