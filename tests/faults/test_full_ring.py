"""What happens while the log's ring is full: one call is stuck, and the others have filled it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.program import run

SCRIPT = """
import sys, time, torch
import inferload as il
from inferload.log import ring as log_file, tally
log_file.KEPT_CALLS = 2048
tally.SAMPLED_CALLS = 1000
executor, what = sys.argv[1:]

class Works(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ones(64, 64)
        for _ in range(int(x[0])):
            y = torch.mm(y, y) * 0.01
        if bool(x[0] > 1000):
            raise RuntimeError("stuck, then failed")
        return y

model = Works() if executor == "threads" else torch.jit.script(Works())
# in the first 2,000 calls one takes about half a second and then raises
inputs = [torch.tensor([0.0])] * 1999 + [torch.tensor([40000.0])]
load = il.OpenLoop.constant(2e4, callers=2, drain_s=3600.0)  # however slow the machine
if what == "closed":
    load = il.ClosedLoop(callers=2)
options = {"precision": 0.5, "quantile": "p50", "time_limit_s": 2.0}
if what == "counted":
    options = {"calls": 20_000}
with torch.inference_mode():
    result = il.run(model, inputs, load=load, executor=executor, on_error="record",
                    warmup_calls=0, threads_per_call=1, **options)
tallied = result.log.tally.calls if result.log.tally else len(result.log)
print("done", tallied, result.summary.failed_calls > 0 or result.summary.from_s > 0)
"""


@pytest.mark.native
@pytest.mark.parametrize("executor", ["threads", "native"])
@pytest.mark.parametrize("what", ["closed", "open", "counted"])
def test_a_stuck_call_never_hangs_a_run_whose_log_is_full(executor, what, tmp_path: Path):
    script = tmp_path / "full.py"
    script.write_text(SCRIPT)
    done = run([sys.executable, str(script), executor, what])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("done ")
    if what == "counted":
        assert done.stdout.split()[1] == "20000"
