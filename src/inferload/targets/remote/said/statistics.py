"""The statistics of a model in the Open Inference Protocol: what two readings differ by."""

from __future__ import annotations

from collections import Counter
from typing import Any

from inferload.records.server import ModelStatistics, SaidTime

_TIMES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def statistics_of(found: Any, name: str) -> ModelStatistics:
    """All versions of a model together, from JSON as the protocol has it.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md

    Raises:
        ValueError: it is something else.
    """
    try:
        told = [one for one in found["model_stats"] if one.get("name", name) == name]
        if not told:
            raise ValueError(f"there are none of {name}")
        sizes: Counter[int] = Counter()
        for one in told:
            for batch in one.get("batch_stats") or ():
                count = (batch.get("compute_infer") or {}).get("count", 0)
                sizes[int(batch["batch_size"])] += int(count)
        times = [one.get("inference_stats") or {} for one in told]
        return ModelStatistics(
            inferences=sum(int(one.get("inference_count", 0)) for one in told),
            executions=sum(int(one.get("execution_count", 0)) for one in told),
            batches=_sorted(sizes),
            **{stage: _time(times, stage) for stage in _TIMES},
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _time(told: list[Any], name: str) -> SaidTime:
    own = [one.get(name) or {} for one in told]
    return SaidTime(
        count=sum(int(one.get("count", 0)) for one in own),
        total_ns=sum(int(one.get("ns", 0)) for one in own),
    )


def counted_between(before: ModelStatistics, after: ModelStatistics) -> ModelStatistics | None:
    """What was counted from one reading to the next; ``None``: a count has fallen."""
    times = {
        name: SaidTime(
            count=getattr(after, name).count - getattr(before, name).count,
            total_ns=getattr(after, name).total_ns - getattr(before, name).total_ns,
        )
        for name in _TIMES
    }
    sizes = Counter(dict(after.batches))
    sizes.subtract(dict(before.batches))
    found = ModelStatistics(
        inferences=after.inferences - before.inferences,
        executions=after.executions - before.executions,
        batches=_sorted(sizes),
        **times,
    )
    counts = [found.inferences, found.executions, *(one.count for one in times.values())]
    return None if min(counts) < 0 else found


def _sorted(sizes: Counter[int]) -> tuple[tuple[int, int], ...]:
    return tuple((size, count) for size, count in sorted(sizes.items()) if count > 0)
