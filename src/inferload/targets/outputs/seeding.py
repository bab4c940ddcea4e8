"""Random numbers that come again: what a model draws with a seed of its own."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


#: A call that draws numbers may give what it gave before by chance: it is asked so often.
MOST_DRAWS = 6


def generator_states() -> tuple[object, ...]:
    """Where the generators of torch, Python and NumPy are: another place after each draw."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - what models draw from
    states = [torch.random.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    of_torch = [one.numpy().tobytes() for one in states]
    return random.getstate(), (name, np.asarray(keys).tobytes(), *rest), of_torch


@contextmanager
def seeded() -> Iterator[None]:
    """With the generators of torch, Python and NumPy at a fixed seed; as they were afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what models draw from
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
