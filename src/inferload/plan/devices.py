"""The devices that processes are put on, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_names(devices: Sequence[str]) -> None:
    """Refuse names of no device, and a device that is named twice.

    Raises:
        PlanError: naming them all.
    """
    if not all(devices):
        raise PlanError(
            f"devices {','.join(devices)!r} name an empty one: give cuda, or cuda:0,cuda:1"
        )
    whole = {one if ":" in one or one == "cpu" else f"{one}:0" for one in devices}
    if len(whole) < len(devices):
        raise PlanError(
            f"devices {','.join(devices)} name one twice: processes of one device are asked for by "
            "processes"
        )
