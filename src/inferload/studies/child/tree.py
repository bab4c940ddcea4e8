"""Where a process finds the code of a revision, and whether it did."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from inferload.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A revision of the repository at ``root``, in the folder ``checkout``.

    ``folder``: where in it the process stands.
    """

    root: Path
    checkout: Path
    folder: Path

    def enter(self) -> None:
        """Stand there, and import from there what would be imported from the repository."""
        os.chdir(self.folder)
        sys.path[:] = [str(self._there(one)) for one in sys.path]
        sys.path.insert(0, str(self.folder))
        for name, module in list(sys.modules.items()):
            mapping = getattr(module, "MAPPING", None)
            # setuptools' way of a package that is installed to be edited
            if name.startswith("__editable__") and isinstance(mapping, dict):
                mapping.update({own: str(self._there(place)) for own, place in mapping.items()})

    def check(self) -> None:
        """Refuse code that came from the repository as it is now, and not from this revision.

        Raises:
            PlanError: naming the module.
        """
        if self.checkout == self.root:
            return
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            own = name.partition(".")[0] == "inferload"  # it measures, and is not measured
            if file is None or own or not self._is_of_root(Path(file)):
                continue
            raise PlanError(
                f"{name} was imported from {file}, which is the same at any revision: the "
                "environment finds it before the checkout"
            )

    def _there(self, place: str) -> Path | str:
        path = Path(place or ".").absolute()
        if not place or not self._is_of_root(path):
            return place
        return self.checkout / path.relative_to(self.root)

    def _is_of_root(self, path: Path) -> bool:
        inside = path.is_relative_to(self.root) and not path.is_relative_to(self.checkout)
        # an environment that lies in the repository belongs to no revision
        return inside and not path.is_relative_to(Path(sys.prefix))
