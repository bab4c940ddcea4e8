"""What results and studies say of themselves: the one place where records reach up to reports."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os


class Shown:
    """Prints as its terminal report, and shows as tables and charts in a notebook."""

    __slots__ = ()

    def __str__(self) -> str:
        from inferload.report.signs import showable
        from inferload.report.text.run import plain_report

        return showable(plain_report(self), sys.stdout)  # where it is going to be printed

    def figures(self) -> dict[str, Any]:
        """The charts of its HTML report as ``plotly.graph_objects.Figure``, by name.

        Raises:
            PlanError: Plotly is not installed.
        """
        from inferload.report.html.notebook import figures

        return figures(self)

    def _repr_html_(self) -> str:
        from inferload.report.html.notebook import notebook_html

        return notebook_html(self)

    def _ipython_display_(self) -> None:
        from inferload.report.html.notebook import display_in_notebook

        display_in_notebook(self)


class Saved(Shown):
    """A result, which is also saved with its log."""

    __slots__ = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``path`` (JSON) and, beside it, the call log (``.calls``).

        Raises:
            OSError: the files could not be written; what stood there before is untouched.
        """
        from inferload.runs.saved import save_result

        result: Any = self
        save_result(result, path)
