"""Git revisions side by side, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inferload.errors import PlanError
from inferload.files import is_folder
from inferload.studies.child.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator


#: What stands for the working tree, with whatever is not committed.
WORKING_TREE = "."
# Where a revision is checked out: a folder that names the process, and in it the tree.
_PREFIX, _PLACE = "inferload-tree-", "tree"


def commit_of(revision: str) -> str:
    """The commit that a revision names; ``"."`` of the working tree.

    Raises:
        PlanError: there is no repository, or no such revision in it.
    """
    if revision == WORKING_TREE:
        return revision
    _git("rev-parse", "--show-toplevel")  # whether there is a repository at all
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", said=revision)
    except PlanError as error:
        if _git("rev-parse", "--is-shallow-repository") != "true":
            raise
        raise PlanError(
            f"{error}: this clone is shallow, and git fetch --unshallow gets all revisions"
        ) from None


@contextmanager
def checked_out(revision: str) -> Iterator[Tree]:
    """A revision of the repository around the present folder.

    Raises:
        PlanError: there is no repository, or no such revision or folder in it.
    """
    root = Path(_git("rev-parse", "--show-toplevel")).resolve()
    if revision == WORKING_TREE:
        yield Tree(root=root, checkout=root, folder=Path.cwd())
        return
    inside = Path.cwd().resolve().relative_to(root)
    commit = commit_of(revision)
    _tidy()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        place = Path(folder) / _PLACE
        _git("worktree", "add", "--detach", str(place), commit)
        try:
            if not is_folder(place / inside):
                raise PlanError(f"revision {revision} has no folder {inside}")
            yield Tree(root=root, checkout=place, folder=place / inside)
        finally:
            _git("worktree", "remove", "--force", str(place))


def _tidy() -> None:
    """Remove the revisions that a process has left behind that was killed."""
    for line in _git("worktree", "list", "--porcelain").splitlines():
        path = Path(line.removeprefix("worktree "))
        owner = path.parent.name.removeprefix(_PREFIX).partition("-")[0]
        ours = path.name == _PLACE and path.parent.name.startswith(_PREFIX) and owner.isdigit()
        if ours and path.is_relative_to(tempfile.gettempdir()) and not _runs(int(owner)):
            _git("worktree", "remove", "--force", str(path))
            shutil.rmtree(path.parent, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _git(*words: str, said: str | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git, and words that are not run by a shell
            ["git", *words],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise PlanError(f"git cannot be run, which revisions need: {error.strerror}") from error
    if done.returncode:
        what = f"git {' '.join(words[:2])} failed"
        if said is not None:
            what = f"there is no revision {said!r}"
        why = f": {done.stderr.strip().splitlines()[-1]}" if done.stderr.strip() else ""
        if "not a git repository" in why:
            raise PlanError(f"{Path.cwd()} is in no git repository: start it inside of one")
        raise PlanError(f"{what}{why}")
    return done.stdout.strip()


def revision_text(revision: str, commit: str) -> str:
    """A revision in words."""
    if revision == commit:
        return "the working tree" if revision == WORKING_TREE else revision
    return f"{revision} ({commit[:10]})"
