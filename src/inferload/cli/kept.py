"""The folder beside a result in which a run grows, should the command line itself be killed."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inferload.cli import output
from inferload.files import is_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Kept:
    """The folder, if there is one; ``needed``: nothing else has the calls that were made."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.needed = folder, False


@contextmanager
def kept_beside(json: Path | None) -> Iterator[Kept]:
    """A folder for the logs of a run that is to be saved as ``json``; it goes when that is over.

    What an earlier run has left in it, that was killed, is saved first. It stays where the run
    could not be saved.

    Raises:
        PlanError: another run goes on that is to be saved there, or the folder cannot be made.
    """
    if json is None:
        yield Kept(None)
        return
    from inferload.errors import PlanError
    from inferload.machine.disks import is_remote
    from inferload.runs.partial.keeping import claim, is_ours, was_measured

    folder = json.with_name(f"{json.name}.partial")
    if is_there(folder) or folder.is_symlink():
        _save_left_behind(folder, json)
    if is_remote(folder.parent):  # its log would be written over the network while calls are timed
        yield Kept(None)
        return
    try:
        claim(folder)
    except OSError as error:
        raise PlanError(f"{folder} cannot be made ({error.strerror}): save it elsewhere") from error
    kept = Kept(folder)
    try:
        yield kept
    except BaseException:
        kept.needed = True  # a reason that nobody foresaw
        raise
    finally:
        if kept.needed and was_measured(folder):
            output.say(f"the calls that were made are kept: inferload report {folder}")
        elif is_ours(folder):
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

    if folder.is_symlink() or not is_partial(folder):
        raise PlanError(f"{folder} is in the way, and is no run: remove it, or save elsewhere")
    owner = owner_of(folder)
    if owner is not None:
        raise PlanError(f"{json} is what another run (process {owner}) will be saved as: wait")
    taken = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        folder.rename(taken)
    except FileNotFoundError:  # another one that starts has taken it
        return
    try:
        found = found_in(taken)
    except ResultFormatError:  # nothing was measured
        found = None
    if found is not None:
        path = _free(json)
        try:
            found.save(path)
        except OSError as error:
            taken.rename(folder)
            raise PlanError(
                f"an earlier run was killed before it was saved, and {path} cannot be written "
                f"({error.strerror}): make room, or save this run elsewhere"
            ) from error
        output.errors.print(
            f"an earlier run was killed before it was saved: its calls are now in {path}",
            soft_wrap=True,
        )
    shutil.rmtree(taken)
