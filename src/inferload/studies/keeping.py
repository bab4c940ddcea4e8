"""A study that is written down as it goes, and goes on where it was interrupted."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from inferload.errors import PlanError
from inferload.files import check_writable, is_there
from inferload.studies.records.comparison import Comparison
from inferload.studies.records.files import Study, load_study, measured_any, save_study
from inferload.studies.records.max_rate import MaxRate
from inferload.studies.records.sweep import Sweep
from inferload.studies.records.tuning import Tuning

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T", Sweep, MaxRate, Comparison, Tuning)


def trouble_saving(study: Study, path: Path) -> str | None:
    """Write a study down; why that could not be done, in words: it was made, and is not lost."""
    try:
        save_study(study, path)
    except OSError as error:
        return f"{path} could not be written: {error.strerror or error}"
    return None


def keep(study: Study, path: Path | None) -> None:
    """Write a study down, if it is asked for; where that fails, a warning says why."""
    trouble = None if path is None else trouble_saving(study, path)
    if trouble is not None:
        logging.getLogger("inferload").warning(trouble)


def check_kind(path: Path, kind: type[T]) -> T:
    """The study that lies in a file, of the kind that is to be written there.

    Raises:
        PlanError: it is one of another kind.
        ResultFormatError: the file is no study of this version.
    """
    found = load_study(path)
    if not isinstance(found, kind):
        raise PlanError(f"{path} holds a study of another kind: name another file, or remove it")
    return found


class StudyKeeper(Generic[T]):
    """Keeps a study in a file; ``done`` is what lies there of the same study, interrupted.

    Raises:
        PlanError: the file cannot be written, or holds an interrupted study of something else.
        ResultFormatError: the file is no study of this version.
    """

    def __init__(self, path: Path | None, kind: type[T], asked: dict[str, Any]) -> None:
        self._path = path
        self.done: T | None = None
        #: Why the study could not be written down the last time.
        self.trouble: str | None = None
        #: Whether something was written down.
        self.kept = False
        self._over_another = False
        if path is None:
            return
        check_writable(path)
        if not is_there(path):
            return
        found = check_kind(path, kind)
        if found.status == "complete":
            self._over_another = measured_any(found)
            return  # it is made anew
        same = json.loads(json.dumps(asked)) == json.loads(json.dumps(found.asked))
        if not same:
            raise PlanError(
                f"{path} holds an interrupted study of something else, asked for in other words or "
                "made on another machine: name another file, or remove it"
            )
        self.done = found

    def keep(self, study: Study) -> None:
        """Write down what there is so far; where that fails, ``trouble`` says why."""
        if self._path is None:
            return
        if self._over_another and not measured_any(study):
            self.trouble = f"nothing was measured, and {self._path} is left as it was"
            return
        self.trouble = trouble_saving(study, self._path)
        if self.trouble is not None:
            logging.getLogger("inferload").warning(self.trouble)
        else:
            self.kept = True
