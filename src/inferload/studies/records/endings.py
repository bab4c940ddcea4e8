"""The interrupt that carries what a study had done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferload.studies.records.files import Study


class StudyInterrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP ended a study; ``study`` holds every run that was finished."""

    def __init__(self, message: str, *, study: Study) -> None:
        super().__init__(message)
        self.study = study
