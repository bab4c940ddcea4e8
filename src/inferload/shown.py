"""What results and studies say of themselves: the one place where records reach up to reports."""

from __future__ import annotations

import sys
from typing import Any


class Shown:
    """Prints as its terminal report, and shows as tables and charts in a notebook."""

    __slots__ = ()

    def __str__(self) -> str:
        from inferload.report.signs import showable
        from inferload.report.text import plain_report

        return showable(plain_report(self), sys.stdout)  # where it is going to be printed

    def figures(self) -> dict[str, Any]:
        """The charts of its HTML report as ``plotly.graph_objects.Figure``, by name.

        Raises:
            PlanError: Plotly is not installed.
        """
        from inferload.report.notebook import figures

        return figures(self)

    def _repr_html_(self) -> str:
        from inferload.report.notebook import notebook_html

        return notebook_html(self)

    def _ipython_display_(self) -> None:
        from inferload.report.notebook import display_in_notebook

        display_in_notebook(self)
