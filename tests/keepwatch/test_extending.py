"""Renewing object_lock by schedule: a duty of the repository, carried out on a real server."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from backup.repository import Repository
from backup.storage.open import open_configured
from config.settings import Settings
from keepwatch.duties import duties_of
from keepwatch.orders import Order
from keepwatch.runs import carry_out
from keepwatch.state import StateDirectory
from tests.backup import s3_servers
from tests.backup.repositories import CHEAP

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.S3Server]:
    with s3_servers.moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


def settings_of(server: s3_servers.S3Server, folder: Path, **repository: str) -> Settings:
    for name, content in (("password", "correct horse"), ("id", s3_servers.KEY_ID), ("key", s3_servers.SECRET_KEY)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    offsite = {
        "url": server.url("erp-1", bucket="locked"), "password_file": str(folder / "password"),
        "access_key_id_file": str(folder / "id"), "secret_access_key_file": str(folder / "key"), "region": "us-east-1",
        **repository,
    }  # fmt: skip
    daemon = {"state_dir": str(folder / "state")}
    return Settings.model_validate({"repositories": {"offsite": offsite}, "daemon": daemon})


def test_extending_is_a_duty_where_it_is_scheduled(server: s3_servers.S3Server, tmp_path: Path) -> None:
    scheduled = settings_of(server, tmp_path, object_lock="30d", extend="sunday 06:30")
    assert [duty.key for duty in duties_of(scheduled, NOW, UTC)] == [("extend", "", "offsite")]
    assert duties_of(settings_of(server, tmp_path, object_lock="30d"), NOW, UTC) == []


def test_an_extend_run_renews_what_is_stored_but_locks(server: s3_servers.S3Server, tmp_path: Path) -> None:
    settings = settings_of(server, tmp_path, object_lock="30d", extend="sunday 06:30")
    storage = open_configured(settings.repositories["offsite"], clock=lambda: NOW)
    Repository.create(storage, "correct horse", clock=lambda: NOW, kdf=CHEAP)
    later = NOW + timedelta(days=20)
    ending = carry_out(
        Order(0, "extend", "", "offsite"), settings, StateDirectory(settings.daemon.state_dir),
        clock=lambda: later, progress=lambda _: None, stop=threading.Event(),
    )  # fmt: skip
    assert ending.outcome == "succeeded", ending
    assert (ending.figures["files"], ending.figures["requests_retain"]) == (2, 2)
    assert ending.figures["request_errors_retain"] == 0
    client = boto3.client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1",
        aws_access_key_id=s3_servers.KEY_ID, aws_secret_access_key=s3_servers.SECRET_KEY,
    )  # fmt: skip
    held = client.head_object(Bucket="locked", Key="erp-1/config")["ObjectLockRetainUntilDate"]
    assert held == later + timedelta(days=30)
