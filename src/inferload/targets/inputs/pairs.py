"""Calls that take the input that was recorded with their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferload.log.arrays import Int32s
    from inferload.records.recording import Recording
    from inferload.targets.inputs.call_input import CallInput


def inputs_of_recording(
    given: Sequence[CallInput], recording: Recording | None, *, of_a_mix: bool = False
) -> Int32s | None:
    """Which input was recorded with each time of a recording; ``None`` if some are not given.

    Nor in a mix, whose calls are drawn by the weights of its models.
    """
    if recording is None or of_a_mix:
        return None
    number_of = {
        one.recorded[1]: number
        for number, one in enumerate(given)
        if one.recorded is not None and one.recorded[0] == recording.path
    }
    if len(number_of) > recording.kept:
        raise PlanError(
            f"{recording.path} is damaged: it has {len(number_of):,} inputs, and the times of "
            f"{recording.kept:,} calls"
        )
    if len(number_of) < recording.kept:
        return None
    return np.array([number_of[place] for place in range(recording.kept)], np.int32)
