"""Which models run in which forms: every model of ``zoo/`` in every form, by the command line.

    python benchmarks/forms.py [--only PATTERN] [--forms eager,script] [--markdown FILE]

Results are kept in a file, so that a run that was ended goes on where it stopped. Models of
packages that are not installed are left out, and named; run it again in an environment that has
them, with the same file: torchvision and torchao must fit torch.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent / "zoo"))
import trial
from catalogue import rows

if TYPE_CHECKING:
    from catalogue import Row


class Kept:
    """The results so far, in a file that is written after each of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        self._trials = {(one["row"], one["column"]): trial.Trial(**one) for one in kept}

    def get(self, row: str, column: str) -> trial.Trial | None:
        """What is known of a row in a column."""
        return self._trials.get((row, column))

    def add(self, one: trial.Trial) -> None:
        """Keep one more."""
        self._trials[one.row, one.column] = one
        text = json.dumps([asdict(known) for known in self._trials.values()], indent=1)
        self._path.write_text(text, encoding="utf-8")

    def all(self) -> list[trial.Trial]:
        """Everything that is known."""
        return list(self._trials.values())


def main() -> None:
    """Run what is not known yet, and write the table."""
    chosen = _options()
    known = rows()
    kept = Kept(chosen.results)
    wanted = [
        one
        for name, one in known.items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in chosen.only)
    ]
    for one in wanted:
        if one.missing:
            print(f"{one.name}: left out, {' and '.join(one.missing)} is not installed")
    todo = [
        (one, column)
        for column in chosen.forms
        for one in wanted
        if not one.missing and _undone(kept, one, column, again=chosen.again)
    ]
    for number, (one, column) in enumerate(todo, 1):
        made = trial.tried(one, column, chosen.limit)
        kept.add(made)
        print(f"{number}/{len(todo)} {one.name} {column}: {_in_short(made)}", flush=True)
    ours = [made for made in kept.all() if not (made.works or made.torch or made.out_of_time)]
    print(f"torch alone can, and inferload does not: {len(ours)} of {len(kept.all())}")
    for failed in ours:
        print(f"  {failed.row}, {failed.column}: {failed.said}")
    if chosen.markdown:
        import table

        chosen.markdown.write_text(table.page(known, kept.all()), encoding="utf-8")


def _undone(kept: Kept, one: Row, column: str, *, again: str) -> bool:
    before = kept.get(one.name, column)
    return before is None or again == "all" or (again == "failed" and not before.works)


def _in_short(made: trial.Trial) -> str:
    told = " ".join(f"[{code}]" for code in made.warnings)
    if made.works:
        return f"works, verified {made.verified[:80]} {told} ({made.seconds:g} s)"
    torch = f"torch alone: {made.torch[:80]!r} {made.torch_works}" if made.torch else "torch works"
    return f"FAILS: {made.said[:160]} | {torch} ({made.seconds:g} s)"


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", action="append", help="names of rows; * and ? are wildcards")
    options.add_argument("--forms", type=lambda text: text.split(","), default=list(trial.COLUMNS))
    options.add_argument("--limit", type=float, default=120.0, help="seconds of each trial")
    options.add_argument("--again", choices=("none", "failed", "all"), default="none")
    options.add_argument(
        "--results", type=Path, default=Path(tempfile.gettempdir()) / "inferload-forms.json"
    )
    options.add_argument("--markdown", type=Path)
    chosen = options.parse_args()
    chosen.only = chosen.only or ["*"]
    unknown = set(chosen.forms) - set(trial.COLUMNS)
    if unknown:
        options.error(f"unknown forms {', '.join(sorted(unknown))}: {', '.join(trial.COLUMNS)}")
    return chosen


if __name__ == "__main__":
    main()
