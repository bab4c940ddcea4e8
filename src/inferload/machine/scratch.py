"""Temporary folders that say whose they are, so that those of processes that were killed go."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "inferload-{home}-{pid}-{started}-"
_OURS = re.compile(r"inferload-(?P<home>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)-")


def scratch_folder() -> Path:
    """A new folder of this process's; those that killed processes have left behind are removed.

    Whoever asks removes it. Should nobody, the next one to ask does, by the process and the time
    since when that runs, which are in its name.

    Raises:
        OSError: there is no room for temporary files.
    """
    clear_left_behind()
    pid = os.getpid()
    prefix = _NAME.format(home=_home(), pid=pid, started=started_at(pid) or 0)
    return Path(tempfile.mkdtemp(prefix=prefix))


@contextmanager
def scratch() -> Iterator[Path]:
    """Such a folder for as long as this is entered."""
    folder = scratch_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_left_behind() -> None:
    """Remove the scratch folders of this user and machine whose owners do not run any more."""
    if started_at(os.getpid()) is None:  # a system that does not say
        return
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as found:
        for one in found:
            name = _OURS.match(one.name)
            if name is None or name["home"] != _home() or not one.is_dir(follow_symlinks=False):
                continue
            own = one.stat(follow_symlinks=False).st_uid == os.getuid()
            if own and not runs(int(name["pid"]), int(name["started"])):
                shutil.rmtree(one.path, ignore_errors=True)


def runs(pid: int, started: int) -> bool:
    """Whether the process that had this number, and started then, still runs."""
    return started_at(pid) == started


def started_at(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; ``None`` if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *others = text.rpartition(")")[2].split()
    # one that has died and was not waited for is none
    return None if state in "ZX" else int(others[18])


@lru_cache(maxsize=1)
def _home() -> str:
    """Where numbers of processes mean something: this boot of this machine, in this container."""
    texts = []
    with suppress(OSError):
        texts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        texts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:8]
