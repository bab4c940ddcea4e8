"""How many requests a GPU serves within 3 ms at p99, called one by one and in batches.

    python benchmarks/gpu_batching.py [--seconds 2]

8 x Linear(2048), requests of one item, Poisson arrivals. The highest rate is bracketed and halved
between; a rate is kept up where p99 of the response is within the limit and the queue does not
grow.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import torch

import inferload as il
from inferload.records.batches import BatchSpec
from inferload.targets.as_target import as_target
from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs

LIMIT_MS = 3.0
FEATURES = 2048
STEPS = 4


def linears(dtype: torch.dtype) -> torch.nn.Module:
    """The model."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(FEATURES, FEATURES) for _ in range(8)]
    return torch.nn.Sequential(*layers).eval().cuda().to(dtype)


class Setting:
    """One way to serve: a model, its callers, and how they batch."""

    def __init__(
        self, name: str, model: object, *, callers: int, executor: str,
        first_per_s: float, batching: il.Batching | None = None, transfers: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        self.name, self.model, self.callers = name, model, callers
        self.executor, self.batching, self.transfers = executor, batching, transfers
        self.first_per_s = first_per_s
        self.inputs = [torch.randn(1, FEATURES, device="cuda", dtype=dtype) for _ in range(64)]

    def tried(self, rate_per_s: float, seconds: float) -> tuple[bool, str]:
        """Whether a rate is kept up, and what was seen."""
        with torch.inference_mode():
            result = il.run(
                self.model, self.inputs,
                load=il.OpenLoop.poisson(rate_per_s=rate_per_s, callers=self.callers, drain_s=1),
                batching=self.batching, duration_s=seconds, executor=self.executor,
                transfers=self.transfers, telemetry=False, threads_per_call=1, on_error="stop",
            )  # fmt: skip
        summary, response = result.summary, result.summary.response_ms
        p99 = response.quantile(0.99) if response is not None else float("inf")
        well = p99 <= LIMIT_MS and summary.overload is None and not summary.unfinished_calls
        size = "" if summary.batches is None else f", of {summary.batches.mean_size:.1f}"
        late = 0.0 if summary.lateness_ms is None else summary.lateness_ms.quantile(0.99)
        p50 = response.quantile(0.5) if response is not None else float("inf")
        return well, f"p50 {p50:.3f}, p99 {p99:.3f} ms{size}, late p99 {late * 1e3:.0f} us"

    def highest(self, seconds: float) -> tuple[float, str]:
        """The highest rate that was kept up, and what was seen there."""
        kept, said, rate = 0.0, "none", self.first_per_s
        broken = float("inf")
        while broken == float("inf"):
            well, seen = self.tried(rate, seconds)
            print(f"    {rate:,.0f}/s {'kept' if well else 'broken'}: {seen}", flush=True)
            if well:
                kept, said, rate = rate, seen, rate * 1.6
            elif kept or rate < self.first_per_s / 20:
                broken = rate
            else:
                rate /= 2
        for _ in range(STEPS):
            middle = (kept + broken) / 2
            well, seen = self.tried(middle, seconds)
            print(f"    {middle:,.0f}/s {'kept' if well else 'broken'}: {seen}", flush=True)
            if well:
                kept, said = middle, seen
            else:
                broken = middle
        return kept, said


def settings(dtype: torch.dtype, *, aoti: bool) -> list[Setting]:
    """Single calls by Python and native callers, and batches."""
    model = linears(dtype)
    script = torch.jit.script(model)
    wide = il.Batching(max_batch=256)
    python: dict[str, Any] = {"executor": "threads", "dtype": dtype}
    native: dict[str, Any] = {"executor": "native", "dtype": dtype}
    found = [
        *(
            Setting(f"single, eager, {callers} Python callers", model, callers=callers,
                    first_per_s=4_000, **python)
            for callers in (1, 4, 16)
        ),
        Setting("single, script, 16 native callers", script, callers=16, first_per_s=16_000,
                **native),
        *(
            Setting(f"batches of up to {most}, script, {callers} native", script, callers=callers,
                    batching=il.Batching(max_batch=most), first_per_s=300_000, **native)
            for callers, most in ((2, 512), (4, 256), (4, 512))
        ),
        Setting("batches of up to 256, script, 4 native, copied from the host", script, callers=4,
                batching=wide, first_per_s=100_000, transfers=True, **native),
        Setting("batches of up to 256, eager, 4 Python callers", model, callers=4, batching=wide,
                first_per_s=24_000, **python),
    ]  # fmt: skip
    if aoti:
        given = as_call_inputs([torch.randn(1, FEATURES, device="cuda", dtype=dtype)])
        other = as_target(linears(dtype))
        with torch.inference_mode():
            package = as_form(other, "aoti", given, batching=BatchSpec(max_batch=256))
        found.insert(7, Setting("batches of up to 256, AOTInductor, 4 native", package, callers=4,
                                batching=wide, first_per_s=300_000, **native))  # fmt: skip
    return found


def main() -> None:
    """Print the highest rate of each setting."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--no-aoti", action="store_true")
    options.add_argument("--only", help="settings whose name has this")
    options.add_argument("--dtype", default="float32")
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    found = {}
    dtype = getattr(torch, chosen.dtype)
    for one in settings(dtype, aoti=not chosen.no_aoti):
        if chosen.only and chosen.only not in one.name:
            continue
        print(one.name, flush=True)
        found[one.name] = one.highest(chosen.seconds)
    print(f"\nhighest rate with p99 <= {LIMIT_MS:g} ms, 8 x Linear({FEATURES}) {chosen.dtype}, "
          f"{torch.cuda.get_device_name()}")  # fmt: skip
    single = {
        kind: max(
            rate for name, (rate, _) in found.items() if name.startswith("single") and kind in name
        )
        for kind in ("Python callers", "16 native")
        if any(name.startswith("single") and kind in name for name in found)
    }
    for name, (rate, said) in found.items():
        times = [f"{rate / max(of, 1):.1f}x {kind}" for kind, of in single.items()]
        print(f"{name}: {rate:,.0f}/s ({', '.join(times)}), {said}")


if __name__ == "__main__":
    main()
