"""Git revisions side by side, each in a folder of its own."""

from __future__ import annotations

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


def commit_of(revision: str) -> str:
    """The commit that a revision names; ``"."`` of the working tree.

    Raises:
        PlanError: there is no repository, or no such revision in it.
    """
    if revision == WORKING_TREE:
        return revision
    return _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", said=revision)


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
    with tempfile.TemporaryDirectory(prefix="inferload-") as folder:
        place = Path(folder) / "tree"
        _git("worktree", "add", "--detach", str(place), commit)
        try:
            if not is_folder(place / inside):
                raise PlanError(f"revision {revision} has no folder {inside}")
            yield Tree(root=root, checkout=place, folder=place / inside)
        finally:
            _git("worktree", "remove", "--force", str(place))


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
        what = f"there is no revision {said!r}" if said else f"git {' '.join(words[:2])} failed"
        why = f": {done.stderr.strip().splitlines()[-1]}" if done.stderr.strip() else ""
        raise PlanError(f"{what}{why}")
    return done.stdout.strip()


def revision_text(revision: str, commit: str) -> str:
    """A revision in words."""
    if revision == commit:
        return "the working tree" if revision == WORKING_TREE else revision
    return f"{revision} ({commit[:10]})"
