"""What the disk of a folder is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# A page of a mapped file that is on its way to one of these makes its writer wait.
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre", "gpfs", "afs"}


def is_remote(folder: Path) -> bool:
    """Whether what is written to the folder goes to another machine, or to another program."""
    with suppress(OSError):
        number = folder.stat().st_dev
        device = f"{os.major(number)}:{os.minor(number)}"
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            mount, _, disk = line.partition(" - ")
            if mount.split()[2] == device:
                kind = disk.split()[0]
                return kind in _REMOTE or kind.startswith("fuse")
    return False
