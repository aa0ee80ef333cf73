"""Passwords from files, credentials and commands; what is refused; and that none of it ever shows."""

import logging
import os
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.checks.services import HttpCheck
from config.jobs import RepositorySettings
from config.secrets import SecretError, create_password_file, read_password, read_secret_command, read_secret_file
from config.settings import HeartbeatSettings, NotifySettings

SECRET = "correct horse battery"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\r\nsecond line\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def test_the_first_line_of_the_file_is_the_password(secret_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = RepositorySettings(url="/r", password_file=secret_file)
    assert read_password(settings, {}).get_secret_value() == SECRET
    assert caplog.records == []


def test_the_first_line_of_the_commands_output_is_the_password() -> None:
    settings = RepositorySettings(url="/r", password_command=SecretStr("printf '%s\\nmore' 'a b'"))
    assert read_password(settings, dict(os.environ)).get_secret_value() == "a b"


def test_a_bare_name_is_a_systemd_credential(secret_file: Path) -> None:
    settings = RepositorySettings(url="/r", password_file=Path("password"))
    environ = {"CREDENTIALS_DIRECTORY": str(secret_file.parent)}
    assert read_password(settings, environ).get_secret_value() == SECRET
    with pytest.raises(SecretError, match="CREDENTIALS_DIRECTORY is not set") as caught:
        read_password(settings, {})
    assert "LoadCredential=password:" in caught.value.hint


def test_a_file_that_everybody_can_read_is_used_with_a_warning(
    secret_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret_file.chmod(0o644)
    assert read_secret_file(secret_file, {}).get_secret_value() == SECRET
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "secret readable by others"
    assert SECRET not in record.getMessage()


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "is empty"), (b"\nx", "is empty"), (b"\xff\xfe", "not UTF-8"), (b"x" * 70_000, "longer")]
)
def test_a_file_without_a_usable_first_line_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(SecretError, match=why):
        read_secret_file(path, {})


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match=f"{tmp_path}/none: no such file or directory"):
        read_secret_file(tmp_path / "none", {})
    with pytest.raises(SecretError, match="is a directory"):
        read_secret_file(tmp_path, {})


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (f"sh -c 'echo {SECRET}; exit 3'", "exit status 3"),
        (f"sh -c 'echo {SECRET}; exec sleep 60'", "did not end within 0.5 s"),
        ("/no/such/program", "no such file or directory"),
        ("true", "is empty"),
        (f"'{SECRET}", "no closing quotation"),
        ("", "cannot run"),
    ],
)
def test_a_command_that_gives_no_password_is_refused_without_telling_its_output(command: str, why: str) -> None:
    with pytest.raises(SecretError, match=why) as caught:
        read_secret_command(command, dict(os.environ), timeout_seconds=0.5)
    told: BaseException | None = caught.value
    while told is not None:
        assert SECRET not in f"{told!r}{getattr(told, 'hint', '')}"
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)


def test_the_command_runs_without_a_shell(tmp_path: Path) -> None:
    answer = read_secret_command(f"echo a; touch {tmp_path}/made", dict(os.environ))
    assert answer.get_secret_value() == f"a; touch {tmp_path}/made"
    assert not (tmp_path / "made").exists()


def test_a_new_password_is_random_and_its_owners_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "deep" / "down" / "one", tmp_path / "two"
    assert create_password_file(one)
    assert create_password_file(two)
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    secrets = {read_secret_file(path, {}).get_secret_value() for path in (one, two)}
    assert len(secrets) == 2
    assert all(len(secret) == 43 for secret in secrets), "32 bytes as base64 without padding"


def test_a_password_that_exists_is_never_replaced(secret_file: Path) -> None:
    before = secret_file.read_bytes()
    assert not create_password_file(secret_file)
    assert secret_file.read_bytes() == before
    assert [path.name for path in secret_file.parent.iterdir()] == ["password"]


def test_of_many_who_create_at_once_one_does_and_all_read_the_same(tmp_path: Path) -> None:
    path, made, start = tmp_path / "password", [], threading.Barrier(8)

    def create() -> None:
        start.wait()
        made.append((create_password_file(path), read_secret_file(path, {}).get_secret_value()))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(created for created, _ in made) == [False] * 7 + [True]
    assert len({secret for _, secret in made}) == 1


def test_a_password_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretError, match="cannot create the password file") as caught:
        create_password_file(tmp_path / "file" / "password")
    assert caught.value.hint


def test_settings_that_hold_secrets_do_not_show_them() -> None:
    hidden = SecretStr(SECRET)
    holders = (
        NotifySettings(name="ops", url=SecretStr(f"mailtos://u:{SECRET}@host")),
        HeartbeatSettings(url=SecretStr(f"https://ping/{SECRET}")),
        RepositorySettings(url=f"rest:https://u:{SECRET}@host", password_command=hidden),
        HttpCheck(name="x", type="http", url=f"https://u:{SECRET}@host", headers={"A": hidden}, body=hidden),
    )
    for holder in holders:
        assert SECRET not in f"{holder!r} {holder}"
