"""Says path by path what a restore would do: the long form of a dry run.

It judges by the rules that the restore itself uses, but reads no content of the target, so of a file that would be
compared it can only say that. It changes nothing and needs the repository's index loaded.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from backup.overwriting import Verdict, judge
from backup.repository import Repository
from backup.restore_plan import RestorePlan
from backup.target import Target
from backup.tree import Node, as_text
from backup.walking import load_tree


class Action(StrEnum):
    """What would happen to a path."""

    REMOVE = "remove"
    CREATE = "create"
    REPLACE = "replace"
    COMPARE = "compare"
    """Its content is read, and written where it differs."""
    TRUST = "unchanged"
    """By size and time; metadata are set."""
    LEAVE = "leave"
    LINK = "link"
    """A hard link to a file restored before."""


@dataclass(frozen=True, slots=True)
class Step:
    """What would happen to one path."""

    action: Action
    path: str
    """Relative to the target; a folder has a slash at its end."""
    bytes: int = 0
    """Size of the file in the snapshot."""


_ACTIONS = {Verdict.COMPARE: Action.COMPARE, Verdict.TRUST: Action.TRUST, Verdict.LEAVE: Action.LEAVE}


def preview(plan: RestorePlan, repository: Repository) -> Iterator[Step]:
    """Give every step of a restore, removals first, then folder by folder. Raises CorruptData, StorageError."""
    try:
        target = Target(os.fspath(plan.target))
    except OSError:  # not there yet, or not to be looked into: all is new as far as can be seen
        yield from _steps(plan, repository, None)
        return
    with closing(target):
        yield from _steps(plan, repository, target)


def _steps(plan: RestorePlan, repository: Repository, target: Target | None) -> Iterator[Step]:
    for path in plan.removals:
        yield Step(Action.REMOVE, as_text(path))
    removed = set(plan.removals)
    big_files: dict[bytes, list[tuple[bytes, Node]]] = {}
    for path, node in plan.big_files:
        big_files.setdefault(os.path.dirname(path), []).append((path, node))
    links: dict[bytes, list[bytes]] = {}
    for _, other in plan.links:
        links.setdefault(os.path.dirname(other), []).append(other)
    for folder in plan.folders:
        if folder.node is not None and (folder.path in removed or _status(target, folder.path) is None):
            yield Step(Action.CREATE, as_text(folder.path) + "/")
        nodes = load_tree(repository, folder.tree) if folder.leaves else []
        leaves = [(os.path.join(folder.path, nodes[at].name), nodes[at]) for at in folder.leaves]
        for path, node in (*leaves, *big_files.get(folder.path, ())):
            yield _step(plan, target, path, node, gone=path in removed)
        for other in links.get(folder.path, ()):
            yield Step(Action.LINK, as_text(other))


def _step(plan: RestorePlan, target: Target | None, path: bytes, node: Node, *, gone: bool) -> Step:
    status = None if gone else _status(target, path)
    action = _ACTIONS.get(judge(plan.overwrite, node, status))
    return Step(action or (Action.CREATE if status is None else Action.REPLACE), as_text(path), node.size)


def _status(target: Target | None, path: bytes) -> os.stat_result | None:
    if target is None:
        return None
    try:
        return target.status(*os.path.split(path))
    except OSError:
        return None
