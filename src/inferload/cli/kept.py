"""The folder beside a result in which a run grows, should the command line itself be killed."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from glob import escape
from typing import TYPE_CHECKING

from inferload.cli import output
from inferload.errors import PlanError
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
    from inferload.machine.disks import is_remote
    from inferload.runs.partial.keeping import claim, is_ours, was_measured

    folder = json.with_name(f"{json.name}.partial")
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


def _free(json: Path, word: str, ending: str) -> Path:
    """A name beside ``json`` that no file has."""
    stem, number = json.name.removesuffix(".json"), 1
    while is_there(path := json.with_name(f"{stem}.{word}{number}{ending}")):
        number += 1
    return path


def _save_left_behind(folder: Path, json: Path) -> None:
    """Make results of what runs have left that were killed, those that a killed start had taken."""
    from inferload.runs.partial.finding import is_partial, owner_of

    taken = [
        one
        for one in folder.parent.glob(f"{escape(folder.name)}.*")
        if one.suffix[1:].isdigit() and not one.is_symlink() and is_partial(one)
    ]
    for one in taken:
        if owner_of(one) is None:
            _save_one(one, folder, json)
    if not is_there(folder) and not folder.is_symlink():
        return
    if folder.is_symlink() or not is_partial(folder):
        raise PlanError(f"{folder} is in the way, and is no run: remove it, or save elsewhere")
    owner = owner_of(folder)
    if owner is not None:
        raise PlanError(f"{json} is what another run (process {owner}) will be saved as: wait")
    _save_one(folder, folder, json)


def _save_one(left: Path, folder: Path, json: Path) -> None:
    """Save what is left of a run, or keep it where it cannot be read; nothing measured is lost."""
    from inferload.errors import ResultFormatError
    from inferload.runs.partial.finding import result_in
    from inferload.runs.partial.keeping import taken_over, was_measured

    with taken_over(left, folder.with_name(f"{folder.name}.{os.getpid()}")) as taken:
        if taken is None:  # another one that starts has it
            return
        if not was_measured(taken.folder):
            taken.remove()
            return
        try:
            found = result_in(taken.folder)
        except ResultFormatError as error:
            kept, why = _free(json, "damaged", ""), str(error)
            why = why.replace(str(taken.folder), str(kept))
            taken.move_to(kept)
            output.errors.print(
                f"an earlier run was killed before it was saved, and cannot be read: {why}; it is "
                f"left in {kept}",
                soft_wrap=True,
            )
            return
        path = _free(json, "killed", ".json")
        try:
            found.save(path)
        except OSError as error:
            raise PlanError(
                f"an earlier run was killed before it was saved, and {path} cannot be written "
                f"({error.strerror}): make room, or save this run elsewhere"
            ) from error
        taken.remove()
    output.errors.print(
        f"an earlier run was killed before it was saved: its calls are now in {path}",
        soft_wrap=True,
    )
