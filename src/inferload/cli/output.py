"""What the command line prints and writes, and how it exits."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from inferload.cli import terminal
from inferload.files import is_there

if TYPE_CHECKING:
    from rich.console import RenderableType

    from inferload.records.result import RunResult
    from inferload.studies.records.files import Study

    #: What a report can be of.
    Found = RunResult | Study | dict[str, RunResult]

EXIT_FAILED, EXIT_WRONG_USE, EXIT_CRASHED, EXIT_CANNOT_TELL = 1, 2, 3, 4


errors = terminal.errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Where reports go beside the terminal."""

    html: Path | None = None
    markdown: Path | None = None

    @property
    def paths(self) -> dict[str, Path | None]:
        """Them by their flags."""
        return {"--html": self.html, "--markdown": self.markdown}

    def check(self) -> None:
        """Refuse what could not be written in the end.

        Raises:
            PlanError: naming the file.
        """
        from inferload.files import check_writable

        for path in (self.html, self.markdown):
            if path is not None:
                check_writable(path)


def deliver(found: Found, reports: Reports) -> bool:
    """Write the reports that were asked for and print one; false if one of them came to nothing."""
    written = write_reports(found, reports)
    return print_any(found) and written


def write_reports(found: Found, reports: Reports) -> bool:
    """Write the reports that were asked for; false if one could not be written."""
    well, nothing = True, not measured_any(found)
    for path, write in ((reports.html, _write_html), (reports.markdown, _write_markdown)):
        if path is None:
            continue
        if nothing and is_there(path):
            say(f"{path} is left as it was: nothing was measured")
            continue
        try:
            write(found, path)
        except Exception as error:  # noqa: BLE001 - one report must not keep the others
            say(f"{path} could not be written: {getattr(error, 'strerror', None) or error}")
            well = False
    return well


def _write_html(found: Found, path: Path) -> None:
    from inferload.report.html.document import write_html

    write_html(found, path)


def _write_markdown(found: Found, path: Path) -> None:
    from inferload.report.markdown import write_markdown

    write_markdown(found, path)


def measured_any(found: Found) -> bool:
    """Whether there is anything in it that was measured."""
    from inferload.records.result import RunResult
    from inferload.studies.records.files import measured_any as measured_any_run

    if isinstance(found, RunResult):
        return found.summary.completed_calls > 0
    return isinstance(found, dict) or measured_any_run(found)


def print_report(result: RunResult) -> None:
    """Draw a report as wide as the terminal, or as text."""
    from inferload.report.text.run import plain_report, report

    out = terminal.wide_console()
    if out.is_terminal:
        out.print(report(result), crop=False)
    else:
        out.print(plain_report(result, out.width), soft_wrap=True)


def print_any(found: Found) -> bool:
    """Draw the report of a run, of a study, or of several runs side by side; false if it was lost.

    Who has stopped reading has what was wanted.
    """
    from inferload.records.result import RunResult
    from inferload.report.text.several import several_table
    from inferload.report.text.studies.sweeps import study_report

    if isinstance(found, RunResult):
        print_report(found)
    elif isinstance(found, dict):
        print_drawn(several_table(found))
    else:
        print_drawn(study_report(found))
    return not unprinted()


def unprinted() -> bool:
    """Whether a report was lost, which is said."""
    why = terminal.trouble()
    if why is not None:
        say(f"the report could not be printed: {why}")
    return why is not None


def print_drawn(drawn: RenderableType) -> None:
    """Draw something as wide as the terminal, at least 80 columns."""
    terminal.wide_console().print(drawn, crop=False)


class Saved(NamedTuple):
    """Whether a result is in the file that was asked for, and whether it is in any."""

    there: bool
    somewhere: bool


def save(result: RunResult, path: Path) -> Saved:
    """Save a result; if that fails, say so and keep it elsewhere.

    One of no call takes the place of none that has some: it is saved beside it.
    """
    import tempfile

    if not measured_any(result) and is_there(path) and not _is_of_nothing(path):
        say(f"{path} is left as it was: nothing was measured")
        path = path.with_name(f"{path.name.removesuffix('.json')}.failed.json")
        say(f"what there is of this run is kept in {path}")
    try:
        result.save(path)
    except Exception as error:  # noqa: BLE001 - whatever it was, the report is still to come
        say(f"{path} could not be written: {getattr(error, 'strerror', None) or error}")
    else:
        return Saved(there=True, somewhere=True)
    folder: str | None = None
    try:
        folder = tempfile.mkdtemp(prefix="inferload-")
        rescue = Path(folder) / path.name
        result.save(rescue)
        say(f"the result is kept in {rescue}")
    except Exception as error:  # noqa: BLE001
        say(f"it could not be kept elsewhere either ({error}); here is its report:")
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return Saved(there=False, somewhere=False)
    return Saved(there=False, somewhere=True)


def _is_of_nothing(path: Path) -> bool:
    """Whether a file is a result without a call."""
    from inferload.errors import ResultFormatError
    from inferload.runs.saved import load_result

    try:
        return not measured_any(load_result(path))
    except ResultFormatError:
        return False


def with_place(failure: BaseException) -> str:
    """The failure in a sentence, and the line of the user's code that raised."""
    place = getattr(failure, "place", None)
    return f"{failure} ({place})" if place else str(failure)


def say(text: str) -> None:
    """Say on stderr what went wrong."""
    errors.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)
