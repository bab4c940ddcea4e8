"""Where what was compiled is kept: the user's folder for it, or a temporary one.

Services often have no home, one that cannot be written to, or a user that the system has no name
for.
"""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from inferload.files import is_folder, is_there


def cache_folders() -> list[Path]:
    """The folders to look in, the best first; in the first that can be written to is built.

    ``INFERLOAD_CACHE_DIR`` alone if it is set; else that of ``XDG_CACHE_HOME``, ``.cache`` at home
    and a temporary folder that no other user can write to.
    """
    own = os.environ.get("INFERLOAD_CACHE_DIR")
    if own:
        return [Path(own)]
    found = []
    if base := os.environ.get("XDG_CACHE_HOME"):
        found.append(Path(base) / "inferload")
    with suppress(RuntimeError):  # there is none, and the system does not know this user
        home = Path.home()
        if home != Path(home.anchor) and is_folder(home):  # "/" stands for none
            found.append(home / ".cache" / "inferload")
    return [*found, temporary_folder()]


def may_write(folder: Path) -> bool:
    """Whether files can be made in a folder, which need not exist."""
    for one in (folder, *folder.parents):
        if is_there(one):
            return is_folder(one) and os.access(one, os.W_OK | os.X_OK)
    return False


def temporary_folder() -> Path:
    """A folder of this user's, the same each time: what lies in it is loaded as code.

    Raises:
        OSError: there is no room for temporary files.
    """
    folder = Path(tempfile.gettempdir()) / f"inferload-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not others:
            return folder
    return Path(tempfile.mkdtemp(prefix="inferload-"))


def keep_what_torch_compiles() -> None:
    """Give torch a folder for what it compiles, which it names after the user, if that has no name.

    A folder that the environment names is left as it is.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        base = os.environ.get("INFERLOAD_CACHE_DIR") or temporary_folder()
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(base) / "torchinductor"))
