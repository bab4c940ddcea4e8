"""Options of a study's runs, by the names that ``il.run`` has for them."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from inferload.bench import names_of_devices
from inferload.errors import PlanError
from inferload.run_options import RunOptions

if TYPE_CHECKING:
    from inferload.loads import ClosedLoop, OpenLoop

# What a study sets itself.
_NOT_ASKED = {
    "load", "lanes", "decide", "devices", "trace", "rank", "ranks", "local_rank", "local_ranks",
    "calls_of_all",
}  # fmt: skip


def options_of(options: dict[str, Any], load: ClosedLoop | OpenLoop) -> RunOptions:
    """Options by the names that ``il.run`` has for them.

    Raises:
        PlanError: there is no such option.
    """
    known = {one.name for one in fields(RunOptions)} - _NOT_ASKED | {"device"}
    for name in options:
        if name not in known:
            raise PlanError(f"there is no option {name!r}: choose of {', '.join(sorted(known))}")
    own = dict(options)
    devices = names_of_devices(own.pop("device", None))
    return RunOptions(load=load, devices=devices, **own)


def words_of(options: dict[str, Any]) -> dict[str, Any]:
    """Options as they are written into a file."""
    return {
        name: value if isinstance(value, int | float | str | bool | None) else str(value)
        for name, value in options.items()
    }
