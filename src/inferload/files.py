"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferload.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: Where this package is: lines of its files are not the user's.
OWN_FOLDER = str(Path(__file__).parent)


def as_path(name: str, given: object) -> Path:
    """The path that an argument of this name is.

    Raises:
        PlanError: it is none.
    """
    if not isinstance(given, str | os.PathLike) or not os.fsdecode(given):
        raise PlanError(f"{name} is {given!r}: give a path")
    return Path(os.fsdecode(given))


# As pathlib has them from Python 3.14 on: before, they raise where a folder may not be searched.
def is_there(path: Path) -> bool:
    """Whether there is something that can be seen."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Whether there is a file that can be seen."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is a folder that can be seen."""
    return os.path.isdir(path)  # noqa: PTH112


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes ``path`` if the block ends well, and vanishes if not.

    Raises:
        OSError: the folder is not there or cannot be written to, or the path is a folder.
    """
    if is_folder(path):  # as one of no name is
        raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file", str(path))
    path = path.resolve()  # a link stays one
    if not is_folder(path.parent):
        raise FileNotFoundError(
            errno.ENOENT, "the folder does not exist; make it", str(path.parent)
        )
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


def json_text(write: Callable[..., str | bytes], plain: Callable[..., Any], **options: Any) -> str:
    """What pydantic writes of a document, by its own two functions, as JSON.

    A text that is no Unicode, as a file's name may be, is escaped: no result is lost for it.
    """
    try:
        found = write(**options)
    except ValueError:
        indent = options.pop("indent", None)
        content = storable(plain(mode="json", **options))
        return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    return found if isinstance(found, str) else found.decode()


def storable(value: Any) -> Any:
    r"""A value of JSON with nothing in it that a file cannot have.

    >>> storable({"file": ["a\udcff.py", float("nan")]})
    {'file': ['a\\udcff.py', None]}
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(name): storable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [storable(one) for one in value]
    return value


def beside(path: Path, suffix: str) -> Path:
    """The file that goes with ``path``, a ``.json``: the same name with another suffix."""
    path = path if path.name else path.resolve()  # of "."
    return path.with_name(path.name.removesuffix(".json") + suffix) if path.name else path


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
    if is_folder(path):
        raise PlanError(f"cannot write {path}: it is a folder; name a file")
    if is_there(path) and not is_file(path):
        raise PlanError(f"cannot write {path}: it is no regular file; name another")
    if not is_folder(path.parent):
        raise PlanError(f"cannot write {path}: the folder {path.parent} does not exist; make it")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise PlanError(f"cannot write {path}: {error.strerror}; choose another path") from error
