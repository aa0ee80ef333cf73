"""A clock, an empty repository in memory, and the real restic."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.repository import Repository
from tests.backup import s3_servers
from tests.backup.repositories import PASSWORD, FakeClock, create
from tests.backup.storages import MemoryStorage
from tests.servers import other_postgres

Restic = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="installed"),
        *(pytest.param(major, marks=pytest.mark.campaign, id=str(major)) for major in other_postgres.SUITES),
    ],
)
def programs(request: pytest.FixtureRequest) -> Path | None:
    """Where PostgreSQL's programs of a version lie; None for the version that is installed."""
    return None if request.param is None else other_postgres.programs(request.param)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def repository(memory: MemoryStorage, clock: FakeClock) -> Repository:
    return create(memory, clock)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.S3Server]:
    """An S3 server with one bucket; tests keep apart by prefix."""
    with s3_servers.rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.S3Server]:
    """An S3 server that knows Object Lock; it has no bucket yet."""
    with s3_servers.moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def restic(tmp_path: Path) -> Restic:
    """Run Debian's restic on the repository in ``tmp_path / "repository"``; its failure is a failed test."""

    def run(*arguments: str, check: bool = True, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "RESTIC_REPOSITORY": str(tmp_path / "repository"),
            "RESTIC_PASSWORD": password,
            "HOME": str(tmp_path),
            "TZ": "UTC",
        }
        command = ["restic", "--no-cache", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, errors="replace")
        if check:
            assert done.returncode == 0, f"restic {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    return run
