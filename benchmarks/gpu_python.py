"""Python callers on a device against threads by hand: a stream each, a call, and a wait for it.

One command: ``python benchmarks/gpu_python.py --markdown docs/benchmarks.md``, on an otherwise idle
GPU. ``--apart`` takes what the harness takes to pieces; ``--device sim`` tries all of it on the
simulated device of the tests.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gpu_apart import apart_rows
from gpu_by_hand import CALLERS, MODELS, by_hand, linears, measured, ours, told
from measuring import GPU_HEADING, Row, print_rows, rates_row, to_and_fro

if TYPE_CHECKING:
    import inferload as il

HEADING = "### Python callers against threads by hand"


def python_rows(
    rounds: int, scale: int, device: str = "cuda", models: tuple[Any, ...] = MODELS
) -> list[Row]:
    """Python callers against threads by hand, from 1 and 16 callers, by both ways to wait.

    The loop by hand is measured twice a round: its own spread is what ours is seen against; and
    once with three stamps a call, which no harness can do without.
    """
    rows, seconds = [], 0.7 / scale
    for count, width, batch in models:
        model, x = linears(count, width, device), torch.randn(batch, width, device=device)
        for callers in CALLERS:
            name = f"{count} x Linear({width}), batch {batch}, {callers} Python callers"
            for completion in ("sync", "event"):
                hand = partial(by_hand, model, x, seconds, callers, completion)
                mine, its, again, stamped = to_and_fro(
                    rounds,
                    partial(ours, model, x, seconds, callers, completion),
                    hand,
                    hand,
                    partial(hand, stamped=True),
                )
                what = f"{name}, {completion}"
                rows.append(told(rates_row(f"{what}: against by hand", mine, its, ">= 0.97x")))
                rows.append(told(rates_row(f"{what}: by hand against itself", again, its, "-")))
                rows.append(told(rates_row(f"{what}: by hand, with stamps", stamped, its, "-")))
            rows.append(told(floor_row(name, measured(model, x, seconds, callers))))
    return rows


def floor_row(name: str, result: il.RunResult) -> Row:
    """What the report says that the harness takes of a call."""
    set_up, service = result.set_up, result.summary.service_ms
    if set_up.floor_ms is None or set_up.floor_by_hand_ms is None or service is None:
        raise RuntimeError("the floor was not measured on the device")
    stages = result.summary.stages
    timed = 0 if stages is None or stages.device_ms is None else stages.device_ms.count
    return Row(
        measure=f"{name}: an empty call that waits, against by hand",
        ours=f"{1e3 * set_up.floor_ms:.1f} us",
        reference=f"{1e3 * set_up.floor_by_hand_ms:.1f} us",
        figure=f"{(set_up.harness_ms or 0.0) / service.quantile(0.5):.2%} of the median",
        spread=f"stages of {timed:,} calls of {service.count:,} timed",
        reach="-",
    )


def write(path: Path, rows: list[Row], rounds: int) -> None:
    """Put the table at the end of the page's section on GPUs, in place of an older one."""
    table = [
        f"| {r.measure} | {r.ours} | {r.reference} | {r.figure} | {r.spread} "
        f"| {r.reach} | {r.met} |"
        for r in rows
    ]
    before = path.read_text(encoding="utf-8") if path.is_file() else f"{GPU_HEADING}\n"
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "the simulated device"
    path.write_text(
        f"""{before.split(HEADING)[0].rstrip()}

{HEADING}

Written by `python benchmarks/gpu_python.py --markdown docs/benchmarks.md` on {device}, torch
{torch.__version__}: {rounds} alternating rounds of 0.7 s, medians, and the median ratio of the
rounds with its range. By hand: as many threads with a stream and an input each, that call the model
and wait for their stream (sync) or for an event that blocks (event). By hand against itself: the
same loop a second time in each round, which is how far these figures can be trusted. By hand, with
stamps: it writes down when each call starts, is enqueued and ends, and no more.

| measure | inferload | by hand | figure | range | reach | met |
|---|---|---|---|---|---|---|
{chr(10).join(table)}
""",
        encoding="utf-8",
    )


def main() -> None:
    """Measure and print everything."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--quick", action="store_true", help="one short round of everything")
    options.add_argument("--apart", action="store_true", help="what the harness takes, in pieces")
    options.add_argument("--device", default="cuda")
    options.add_argument("--markdown", type=Path, help="write the table into this file too")
    chosen = options.parse_args()
    models: tuple[Any, ...] = MODELS
    if chosen.device == "sim":
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from support import simulated_device

        simulated_device.load()
        models = MODELS[:1]
    elif not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device (or --device sim to try it)")
    rounds, scale = (1, 5) if chosen.quick else (chosen.rounds, 1)
    with torch.inference_mode():
        rows = (apart_rows if chosen.apart else python_rows)(rounds, scale, chosen.device, models)
    print_rows(rows, rounds)
    print(f"median of the ratios: {statistics.median(_ratio(row) for row in rows):.3f}")
    if chosen.markdown:
        write(chosen.markdown, rows, rounds)


def _ratio(row: Row) -> float:
    return float(row.figure.rstrip("x")) if row.figure.endswith("x") else 1.0


if __name__ == "__main__":
    main()
