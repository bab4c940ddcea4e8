"""Which configurations of a model are worth a try: what fits the cores."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError
from inferload.plan.model import spec_parts
from inferload.plan.numbers import check_count
from inferload.plan.server import is_served
from inferload.studies.records.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_CANDIDATES = 2000
#: ``None``: as the model is.
FORMS_OF_A_MODEL = (None, "script", "export", "compile", "aoti")
WITHOUT_GIL = ("script", "aoti")
# Model files of another kind than Python have their form already.
_FILES = (".pt", ".pth", ".ts", ".pt2")


def powers_up_to(most: int) -> tuple[int, ...]:
    """Powers of 2, and the most itself.

    >>> powers_up_to(6)
    (1, 2, 4, 6)
    """
    found = [1 << bit for bit in range(most.bit_length())]
    return tuple(found if found[-1] == most else [*found, most])


def forms_of(spec: str, *, on_device: bool) -> tuple[str | None, ...]:
    """The forms that a model, named as on the command line, may be turned into."""
    if spec_parts(spec)[0].endswith(_FILES):
        return (None,)
    return (*FORMS_OF_A_MODEL, "cudagraph") if on_device else FORMS_OF_A_MODEL


def check_tunable(model: object) -> None:
    """Refuse a model whose configuration is not chosen here.

    Raises:
        PlanError: it is behind a server.
    """
    if is_served(model):
        raise PlanError(
            "what there is to tune of a server is chosen where it is started. From here: the "
            "highest rate that keeps limits (inferload search URL --limit ...), or how rate and "
            "latency go with callers (inferload sweep URL --callers 1..16); tune its model where "
            "that is a file (inferload tune MODEL)"
        )


def candidates(
    axes: Mapping[str, Sequence[Any]], cores: int, *, all_sizes: bool, nodes: int = 1
) -> tuple[Settings, ...]:
    """Every combination whose callers' threads find a core each.

    ``axes`` maps names of ``Settings`` to values; callers, processes and threads that are not given
    go up to ``cores`` in powers of 2. Unless ``all_sizes``, what leaves half of the cores or more
    without work is left out: the same with more callers makes more calls. So are several processes
    of a form without the GIL, if processes are not given and all cores are of one of the ``nodes``
    of memory: callers in one process share nothing there that processes would not.

    Raises:
        PlanError: a value is no number, or none of the combinations fits the cores.
    """
    check_count("cores", cores, at_least=1, at_most=100_000)
    values = {
        name: tuple(axes.get(name, powers_up_to(cores)))
        for name in ("callers", "processes", "threads_per_call")
    }
    for name, own in values.items():
        for one in own:
            check_count(name, one, at_least=1, at_most=100_000)
    free = not {"callers", "processes", "threads_per_call"} <= axes.keys()
    found = []
    for callers, processes, threads in itertools.product(*values.values()):
        used = callers * processes * threads
        if used > cores or (free and not all_sizes and 2 * used <= cores):
            continue
        found += [
            Settings(
                callers=callers,
                processes=None if processes == 1 else processes,
                threads_per_call=threads,
                batch_size=size,
                form=form,
                max_batch=most,
                max_delay_s=delay_s,
            )
            for most in axes.get("max_batch", (None,))
            for delay_s in axes.get("max_delay_s", (None,))
            for size in axes.get("batch_size", (None,))
            for form in axes.get("form", (None,))
            if processes == 1 or form not in WITHOUT_GIL or "processes" in axes or nodes > 1
        ]
    if not found:
        given = ", ".join(
            f"{name.replace('_', ' ')} {', '.join(map(str, axes[name]))}"
            for name in values
            if name in axes
        )
        raise PlanError(
            f"no combination of {given} fits {cores} core{'s' * (cores > 1)}: give smaller values, "
            "or more cores (--cores), as for a model that waits"
        )
    if len(found) > MOST_CANDIDATES:
        raise PlanError(f"{len(found):,} configurations are too many: give fewer values")
    return tuple(dict.fromkeys(found))
