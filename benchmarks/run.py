"""Every benchmark, as one table.

    python benchmarks/run.py [--rounds 9] [--quick] [--only PART] [--markdown docs/benchmarks.md]

Each comparison is measured in rounds that alternate between the two sides, and shows the median
ratio of the rounds with their range. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from against_loadgen import loadgen_rows
from against_reference import minilm_rows, no_op_rows
from measuring import GPU_HEADING, Row, markdown, print_rows
from open_loop import open_loop_rows
from own_cost import help_row, memory_rows, print_memory, start_row, summary_row

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Measure and print everything."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--quick", action="store_true", help="a tenth of the calls")
    options.add_argument("--markdown", type=Path, help="write the table to this file too")
    options.add_argument(
        "--only", help="no_op, memory, summary, help, start, open_loop, loadgen or minilm"
    )
    options.add_argument("--memory", choices=("ours", "reference"), help=argparse.SUPPRESS)
    options.add_argument("--calls", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    if chosen.memory:
        print_memory(chosen.memory, chosen.calls)
        return
    rounds, scale = chosen.rounds, 10 if chosen.quick else 1
    parts: dict[str, Callable[[], list[Row]]] = {
        "no_op": lambda: no_op_rows(7 * rounds, scale),
        "memory": lambda: memory_rows(rounds, scale),
        "summary": lambda: [summary_row(rounds, scale)],
        "help": lambda: [help_row(rounds)],
        "start": lambda: [start_row(rounds)],
        "open_loop": lambda: open_loop_rows(rounds, scale),
        "loadgen": lambda: loadgen_rows(rounds, scale),
        "minilm": lambda: minilm_rows(rounds, scale),
    }
    rows = [row for name, part in parts.items() if chosen.only in {None, name} for row in part()]
    print_rows(rows, rounds)
    if chosen.markdown:
        text, on_a_gpu = markdown(rows, rounds), ""
        if chosen.markdown.is_file():  # what benchmarks/gpu.py wrote stays
            before = chosen.markdown.read_text(encoding="utf-8")
            on_a_gpu = before[before.find(GPU_HEADING) :] if GPU_HEADING in before else ""
        chosen.markdown.write_text(f"{text}\n{on_a_gpu}".rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
