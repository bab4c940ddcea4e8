"""Comparisons on the wall clock: equals, and a side that is slower on purpose.

    python benchmarks/comparing.py --only equals --count 40 --log equals.jsonl
    python benchmarks/comparing.py --only slower --count 20 --log slower.jsonl
    python benchmarks/comparing.py --told equals.jsonl slower.jsonl

Each comparison is ``inferload compare`` as users run it, two minutes by default, one kind of model
after another; its line is added to the log, so that several sessions add up. With ``--noise FILE``
the slices of equals are added to it as ``noise.py`` adds its own. Nothing else should run, but for
``--neighbours N`` processes that spin for half of the time, in states of three seconds.
``slower``: B spins for 5 % of what a call of A takes, which is measured first, and A for nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import inferload as il
from neighbours import neighbours
from noise import added

HERE = Path(__file__).resolve().parent.parent
KINDS = {
    "mlp": ("examples/mlp.py", ()),
    "script": ("examples/mlp.py", ("--form", "script")),
    "minilm": ("examples/minilm.py", ()),
}
SLOWER = 0.05
_SPINNING = """
import sys
import time

import torch

sys.path.insert(0, {folder!r})
import {module} as module

inputs = module.inputs


class Spinning(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = module.model()

    def forward(self, *args, **kwargs):
        found = self.inner(*args, **kwargs)
        end = time.perf_counter_ns() + {spin_ns}
        while time.perf_counter_ns() < end:
            pass
        return found


def model():
    return Spinning().eval()
"""


def spinning(kind: str, spin_ns: int, folder: Path) -> Path:
    """A file with the model of a kind, whose calls spin for so long."""
    file = HERE / KINDS[kind][0]
    made = folder / f"{kind}_{spin_ns}.py"
    made.write_text(_SPINNING.format(folder=str(file.parent), module=file.stem, spin_ns=spin_ns))
    return made


def compared(a: Path, b: Path, more: list[str]) -> il.Comparison:
    """One comparison, by the command line."""
    with tempfile.TemporaryDirectory(prefix="inferload-comparing-") as folder:
        saved = Path(folder) / "c.json"
        words = [sys.executable, "-m", "inferload", "compare", str(a), str(b), *more]
        words += ["--threads-per-call", "1", "--quiet", "--json", str(saved)]
        subprocess.run(words, check=True, cwd=HERE, capture_output=True)
        found = il.load_study(saved)
    if not isinstance(found, il.Comparison):
        raise TypeError("compare saves comparisons")
    return found


def line_of(what: str, kind: str, found: il.Comparison, took_s: float) -> dict[str, Any]:
    """What is kept of a comparison."""
    return {
        "what": what,
        "kind": kind,
        "took_s": round(took_s, 1),
        "pairs": len(found.slices),
        "figures": {
            one.figure: [one.ratio, one.low, one.high, one.verdict] for one in found.differences
        },
    }


def run(
    what: str, count: int, kinds: list[str], log: Path, noise: Path | None, more: list[str]
) -> None:
    """So many comparisons of one sort."""
    kinds = kinds or (list(KINDS) if what == "equals" else ["mlp", "minilm"])
    with tempfile.TemporaryDirectory(prefix="inferload-comparing-") as name:
        for number in range(count):
            kind = kinds[number % len(kinds)]
            file, form = HERE / KINDS[kind][0], list(KINDS[kind][1])
            a = b = file
            if what == "slower":
                a = spinning(kind, 0, Path(name))
                alone = il.run(str(a), duration_s=2.0, threads_per_call=1, processes=1)
                call_ms = alone.summary.response_ms
                if call_ms is None:
                    raise AssertionError("calls were made")
                b = spinning(kind, int(SLOWER * call_ms.quantile(0.5) * 1e6), Path(name))
            began = time.monotonic()
            found = compared(a, b, [*form, *more])
            line = line_of(what, kind, found, time.monotonic() - began)
            with log.open("a", encoding="utf-8") as file_of_log:
                file_of_log.write(json.dumps(line) + "\n")
            print(told(line), file=sys.stderr, flush=True)
            if noise is not None and what == "equals":
                added(kind, found.slices, noise)


def told(line: dict[str, Any]) -> str:
    """A line of a log in words."""
    ratio, low, high, verdict = line["figures"]["throughput"]
    claimed = [name for name, one in line["figures"].items() if one[3] != "no difference found"]
    return (
        f"{line['what']} {line['kind']}: {ratio - 1:+.1%} ({low - 1:+.1%} to {high - 1:+.1%}) "
        f"{verdict}; claimed: {', '.join(claimed) or 'nothing'}; {line['took_s']:.0f} s"
    )


def summary(lines: list[dict[str, Any]]) -> str:
    """What all lines of logs come to."""
    rows = [
        "| sort | model | comparisons | claim anything | throughput, half width |",
        "|---|---|---|---|---|",
    ]
    for what in sorted({one["what"] for one in lines}):
        for kind in [*KINDS, "all"]:
            own = [one for one in lines if one["what"] == what and kind in (one["kind"], "all")]
            if not own:
                continue
            claims = sum(
                any(figure[3] != "no difference found" for figure in one["figures"].values())
                for one in own
            )
            halves = sorted(
                (one["figures"]["throughput"][2] - one["figures"]["throughput"][1]) / 2
                for one in own
            )
            rows.append(
                f"| {what} | {kind} | {len(own)} | {claims} | "
                f"{halves[len(halves) // 2]:.1%} ({halves[0]:.1%} to {halves[-1]:.1%}) |"
            )
    return "\n".join(rows)


def main() -> None:
    """Compare, or tell what was compared."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", choices=["equals", "slower"], default="equals")
    options.add_argument("--count", type=int, default=40)
    options.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[])
    options.add_argument("--log", type=Path, default=Path("comparing.jsonl"))
    options.add_argument("--neighbours", type=int, default=0)
    options.add_argument("--noise", type=Path, help="file of recorded noise to add equals to")
    options.add_argument("--told", type=Path, nargs="+", help="logs to be told, and nothing is run")
    options.add_argument("more", nargs="*", help="further words for inferload compare, after --")
    chosen = options.parse_args()
    if not chosen.told:
        with neighbours(chosen.neighbours):
            run(chosen.only, chosen.count, chosen.kinds, chosen.log, chosen.noise, chosen.more)
    lines = [
        json.loads(one)
        for file in (chosen.told or [chosen.log])
        for one in file.read_text(encoding="utf-8").splitlines()
    ]
    print(summary(lines))


if __name__ == "__main__":
    main()
