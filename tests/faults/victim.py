"""The child that is killed: does one act of the campaign on repositories in folders, in real processes and real time.

``python -m tests.faults.victim backup|forget|prune|copy REPOSITORY SOURCE OTHER`` says ``begin`` on its standard output
when it has imported everything, and begins.
"""

import sys

import pytest

from backup.archiver import backup
from backup.copying import execute_copy, plan_copy
from backup.forget import all_together, execute_forget, plan_forget
from backup.prune import execute_prune, plan_prune
from backup.repository import Repository
from backup.sources.files import FilesSource
from backup.storage.local import LocalStorage
from config.jobs import KeepSettings
from tests.backup.repositories import PASSWORD
from tests.faults.scene import now, shrink


def open_at(place: str) -> Repository:
    return Repository.open(LocalStorage(place), PASSWORD, clock=now)


def act(name: str, place: str, source: str, other: str) -> None:
    """Do one act on the repository at ``place``; with two workers where it has any."""
    repository = open_at(place)
    if name == "backup":
        backup(repository, FilesSource((source,)), job="j", host="h", clock=now, workers=2)
        return
    with repository.lock(exclusive=name != "copy"):
        if name == "forget":
            plan = plan_forget(repository, KeepSettings(last=1), now(), group_by=all_together)
            execute_forget(repository, plan)
        elif name == "prune":
            execute_prune(repository, plan_prune(repository, max_unused=0.0))
        elif name == "copy":
            repository.load_index()
            origin = open_at(other)
            origin.load_index()
            assert execute_copy(plan_copy(origin, repository, origin.snapshots()), origin, repository).problems == ()
        else:
            raise ValueError(name)


def main() -> None:
    """Do what the arguments say."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        sys.stdout.write("begin\n")
        sys.stdout.flush()
        act(*sys.argv[1:])


if __name__ == "__main__":
    main()
