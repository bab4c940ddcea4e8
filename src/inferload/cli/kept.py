"""The folder beside a result in which a run grows, should the command line itself be killed."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inferload.cli import output
from inferload.files import is_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def kept_beside(json: Path | None) -> Iterator[Path | None]:
    """A folder for the logs of a run that is to be saved as ``json``; it goes when that is over.

    What an earlier run has left in it, that was killed, is saved first.

    Raises:
        PlanError: another run goes on that is to be saved there, or the folder cannot be made.
    """
    if json is None:
        yield None
        return
    from inferload.errors import PlanError
    from inferload.machine.disks import is_remote
    from inferload.runs.partial.keeping import claim, was_measured

    folder = json.with_name(f"{json.name}.partial")
    if is_there(folder):
        _save_left_behind(folder, json)
    if is_remote(folder.parent):  # its log would be written over the network while calls are timed
        yield None
        return
    try:
        claim(folder)
    except OSError as error:
        raise PlanError(f"{folder} cannot be made ({error.strerror}): save it elsewhere") from error
    try:
        yield folder
    except BaseException:
        if was_measured(folder):  # and was not saved, for a reason that nobody foresaw
            output.say(f"the calls that were made are kept: inferload report {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _free(json: Path) -> Path:
    """A name beside ``json`` that no file has."""
    stem, number = json.name.removesuffix(".json"), 1
    while is_there(path := json.with_name(f"{stem}.killed{number}.json")):
        number += 1
    return path


def _save_left_behind(folder: Path, json: Path) -> None:
    from inferload.errors import PlanError, ResultFormatError
    from inferload.runs.partial.finding import found_in, is_partial, owner_of

    if not is_partial(folder):
        raise PlanError(f"{folder} is in the way, and is no run: remove it, or save elsewhere")
    owner = owner_of(folder)
    if owner is not None:
        raise PlanError(f"{json} is what another run (process {owner}) will be saved as: wait")
    try:
        found = found_in(folder)
    except ResultFormatError:  # nothing was measured
        found = None
    if found is not None:
        path = _free(json)
        found.save(path)
        output.say(f"an earlier run was killed before it was saved: its calls are now in {path}")
    shutil.rmtree(folder)
