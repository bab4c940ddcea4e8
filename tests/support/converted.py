"""Models turned into another form in the words of tests."""

from __future__ import annotations

import torch

from inferload.targets.forms import as_form
from inferload.targets.inputs.given import as_call_inputs

X = torch.ones(2, 4)


def forms_of(model: torch.nn.Module, form: str, inputs: list, **more: object):
    return as_form(
        model.eval() if isinstance(model, torch.nn.Module) else model,
        form,
        as_call_inputs(inputs),
        **more,
    )


def codes(target) -> list[str]:
    return [one.code for one in target.notes]
