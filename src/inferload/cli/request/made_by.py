"""The command line as it was given, less what only says where its result goes."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Flags that are no part of what is measured, and whether a value follows.
_OF_THE_OUTPUT = {
    "--json": True,
    "--html": True,
    "--markdown": True,
    "--trace": True,
    "--quiet": False,
}


def made_by(args: Sequence[str] | None = None, batch_size: int | None = None) -> str:
    """What makes such a result again; of a run of one batch size out of several, that one alone.

    >>> made_by(["run", "m.py", "--callers", "4", "--json", "r.json", "--quiet"])
    'inferload run m.py --callers 4'
    """
    words, kept = iter(sys.argv[1:] if args is None else args), []
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag in _OF_THE_OUTPUT:
            if _OF_THE_OUTPUT[flag] and not equals:
                next(words, None)
        elif flag == "--batch-sizes" and batch_size is not None:
            if not equals:
                next(words, None)
            kept += [flag, str(batch_size)]
        else:
            kept.append(word)
    launcher = _launcher(os.environ) if args is None else []
    # a name that is no UTF-8 must not keep a result from being written
    return os.fsencode(shlex.join([*launcher, "inferload", *kept])).decode(
        errors="backslashreplace"
    )


def _launcher(variables: Mapping[str, str]) -> list[str]:
    """How torchrun was called, as far as it says so: of several machines not where they meet."""
    if "WORLD_SIZE" not in variables:
        return []
    each, machines = variables.get("LOCAL_WORLD_SIZE"), variables.get("GROUP_WORLD_SIZE")
    if each is None or machines is None:
        return ["torchrun", "...", "-m"]
    meeting = [] if machines == "1" else ["--nnodes", machines, "--rdzv-endpoint", "..."]
    return ["torchrun", *meeting, "--nproc-per-node", each, "-m"]
