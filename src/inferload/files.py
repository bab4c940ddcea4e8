"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Where this package is: lines of its files are not the user's.
OWN_FOLDER = str(Path(__file__).parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes ``path`` if the block ends well, and vanishes if not.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = path.resolve()  # a link stays one
    handle, name = tempfile.mkstemp(prefix=".inferload-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def beside(path: Path, suffix: str) -> Path:
    """The file that goes with ``path``, a ``.json``: the same name with another suffix."""
    return path.with_name(path.name.removesuffix(".json") + suffix)


def check_apart(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Refuse to write over what is read, or two things into one file; ``outputs`` by their flags.

    Raises:
        PlanError: naming both.
    """
    taken = {path.resolve(): f"{path}, which is read" for path in inputs}
    for flag, path in outputs.items():
        if path is None:
            continue
        own = path.resolve()
        if own in taken:
            raise PlanError(f"{flag} {path} would overwrite {taken[own]}: name another file")
        taken[own] = f"what {flag} {path} writes"


def check_writable(path: Path) -> None:
    """Refuse a path that could not be written when the run is over.

    Raises:
        PlanError: the folder is missing or not writable, or the path is a folder.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:  # such as a name that is too long
        raise PlanError(f"cannot write {path}: {error.strerror}; choose another path") from error
    if path.is_dir():
        raise PlanError(f"cannot write {path}: it is a folder; name a file")
    if path.exists() and not path.is_file():
        raise PlanError(f"cannot write {path}: it is no regular file; name another")
    if not path.parent.is_dir():
        raise PlanError(f"cannot write {path}: the folder {path.parent} does not exist; make it")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise PlanError(f"cannot write {path}: {error.strerror}; choose another path") from error
