"""A model as it was measured, to be called again: the words that say so, from a saved result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inferload.cli.request.asked import Asked
from inferload.plan import option_table as table
from inferload.records.batches import EVERY_ARGUMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferload.plan.batching import Batching
    from inferload.records.spec import RunSpec

_OF_BATCHES = {"batch_pad", "batch_sizes_allowed"}
# What says how the model is called and not when, how often, or where its figures go.
_KEPT = {
    row.key
    for row in table.FLAGS
    if row.group in {"inputs", "server", "form", "device", "threads", "state", "errors"}
} | _OF_BATCHES
_FORMS = next(row.one_of for row in table.FLAGS if row.key == "form")
# As a result tells whether gradients were recorded.
_GRAD = {"no grad": "no", "grad": "on"}


def asked_again(
    model: str, asked: Mapping[str, Any], spec: RunSpec | None, batching: Batching | None
) -> Asked:
    """The words that a study was asked for in, or else what the spec of a run repeats of them.

    ``batching``: how requests are called together now, padded as they were.

    Raises:
        PlanError: the model is a run file that cannot be read.
    """
    words = {key: value for key, value in asked.items() if key in _KEPT}
    if batching is None:
        words = {key: value for key, value in words.items() if key not in _OF_BATCHES}
    else:
        words |= {"max_batch": batching.max_batch, "max_delay": f"{batching.max_delay_s:g}s"}
    if spec is not None:
        # a sweep over forms has asked for none, and one that the model has already is left as it is
        words.setdefault("form", spec.asked_form or (spec.form if spec.form in _FORMS else None))
        words.setdefault("mode", spec.mode)
        if len(spec.executors) == 1:
            words.setdefault("executor", spec.executor)
        words["threads_per_call"] = spec.threads_per_call
        words.setdefault("pin", spec.pin)
        words.setdefault("transfers", spec.transfers)
        words.setdefault("grad", _GRAD.get(spec.grad_mode, "inference"))
        if spec.autocast != "off":
            words.setdefault("autocast", spec.autocast.rpartition(" ")[2])
        if batching is not None and spec.batching is not None and spec.batching.pad:
            pads = spec.batching.pad.items()
            texts = [f"{'' if name == EVERY_ARGUMENT else name + '='}{pad:g}" for name, pad in pads]
            words.setdefault("batch_pad", ",".join(texts))
        if spec.devices:
            words.setdefault("device", ",".join(spec.devices))
    found = Asked.again(model, words)
    # of a run file what is measured, and not when or how often
    kept = {key: value for key, value in found.words.items() if key in _KEPT or key in words}
    return replace(found, words=kept)
