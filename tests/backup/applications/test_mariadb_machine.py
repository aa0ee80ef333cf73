"""A machine on which no empty MariaDB comes up says nothing about a dump: the drill is inconclusive, and tells why."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backup.applications.manifest import FILE_NAME, Manifest
from backup.applications.mariadb import MariaDbApplication
from backup.drills.drill import run_drill
from backup.drills.levels import Level
from backup.drills.report import DrillReport, DrillWishes, Verdict
from backup.repository import Repository
from tests.backup.repositories import PASSWORD, FakeClock, back_up
from tests.servers.private import hand_over, private_folder

WORKS = "exit 0"
HUNGRY = "cat /proc/self/oom_score_adj; head -c 300000000 /dev/zero | tail >/dev/null"
"""tail keeps the last line in memory."""
WHOLE_DUMP = b"-- Dump completed on 2026-03-01 12:00:00\n"
BROKEN = "echo 'no such option'; exit 1"


def drilled(repository: Repository, clock: FakeClock, scratch: Path, dump: bytes, **more: object) -> DrillReport:
    """Save a dump of a database with one table, and drill it."""
    manifest = Manifest("mariadb", "10.11", clock(), details={"method": "logical", "databases": ["shop"]})
    files = {"ledger": {FILE_NAME: manifest.to_json(), "dump.sql": dump}}
    back_up(repository, files, tags=("job:ledger",))
    clock.advance(minutes=20)
    wishes = DrillWishes(
        scratch=scratch, clock=clock, job="ledger", workers=0, level=Level.APPLICATION,
        applications={"/ledger": MariaDbApplication("ledger")}, rto_objective=timedelta(minutes=5), **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return run_drill(repository.storage, PASSWORD, wishes)


@contextmanager
def instead_of_mariadb(monkeypatch: pytest.MonkeyPatch, install: str, server: str) -> Iterator[None]:
    """Have shell scripts run in the places of its programs."""
    with private_folder("programs") as programs:
        for name, acts in (("mariadb-install-db", install), ("mariadbd", server)):
            (programs / name).write_text(f"#!/bin/sh\n{acts}\n")
            (programs / name).chmod(0o755)
            hand_over(programs / name)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        yield


@pytest.mark.parametrize(
    ("install", "server", "said"),
    [
        (BROKEN, WORKS, "could not make a data directory: mariadb-install-db ended with status 1: no such option"),
        (WORKS, BROKEN, "could not start an empty server: mariadbd ended with status 1: no such option"),
    ],
    ids=["no data directory", "no server"],
)
def test_where_no_empty_server_can_be_made_a_drill_is_inconclusive(
    repository: Repository, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    install: str, server: str, said: str,
) -> None:  # fmt: skip
    with instead_of_mariadb(monkeypatch, install, server):
        report = drilled(repository, clock, tmp_path / "scratch", WHOLE_DUMP)
        assert (report.verdict, said in report.message) == (Verdict.INCONCLUSIVE, True), report.message
        assert "memory, disk and load" in report.hint
        report = drilled(repository, clock, tmp_path / "scratch", b"-- MariaDB dump\n")
        assert (report.verdict, "it was cut off" in report.message) == (Verdict.FAILED, True), report.message


def test_a_server_that_eats_memory_is_ended_and_the_drill_says_so(
    repository: Repository, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instead_of_mariadb(monkeypatch, WORKS, HUNGRY):
        report = drilled(repository, clock, tmp_path / "scratch", WHOLE_DUMP, memory_limit_bytes=64 << 20)
        assert report.verdict is Verdict.INCONCLUSIVE
        assert re.fullmatch(r"mariadbd took [\d.]+ MiB of memory, and may take 64 MiB", report.message), report.message
        assert "memory_limit" in report.hint
        report = drilled(repository, clock, tmp_path / "scratch", WHOLE_DUMP, memory_limit_bytes=1 << 30)
        assert "mariadbd ended with status 0: 1000" in report.message, "it may, but goes first when memory runs out"
