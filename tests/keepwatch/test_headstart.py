"""The key is begun to be derived early where the guess is plain, and nothing at all happens where it is not."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from backup.derivation import Request
from keepwatch import headstart
from tests.backup.s3_servers import BUCKET, KEY_ID, SECRET_KEY, S3Server, free_port, rclone_server

SALT = "c2FsdA=="


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What was begun."""
    requests: list[Request] = []
    monkeypatch.setattr(headstart, "derive_ahead", requests.append)
    return requests


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a configuration, a password, and as much of a repository as is looked at."""
    keys = tmp_path / "repository" / "keys"
    keys.mkdir(parents=True)
    (keys / ("0" * 64)).write_text(json.dumps({"N": 1024, "r": 8, "p": 1, "salt": SALT}))
    (tmp_path / "password").write_text("correct horse\n")
    write(tmp_path, f'[repositories.local]\nurl = "{keys.parent}"\npassword_file = "{tmp_path}/password"\n')
    return tmp_path


def write(folder: Path, settings: str) -> None:
    (folder / "keepwatch.toml").write_text(settings)


WANTED = [(b"correct horse", b"salt", 1024, 8, 1)]


def test_a_command_that_opens_a_repository_has_its_key_begun(place: Path, begun: list[Request]) -> None:
    headstart.begin(["backup", "--config", str(place / "keepwatch.toml")], {})
    headstart.begin(["verify", f"--config={place}/keepwatch.toml"], {})
    headstart.begin(["ls", "latest"], {"KEEPWATCH_CONFIG": str(place / "keepwatch.toml")})
    assert begun == 3 * WANTED


def test_without_any_configuration_nothing_happens(
    tmp_path: Path, begun: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    headstart.begin(["backup", "--config", "nowhere.toml"], {})
    assert begun == []


def test_a_repository_named_by_its_url_needs_no_configuration(place: Path, begun: list[Request]) -> None:
    where = ["--repository-url", str(place / "repository"), "--password-file", str(place / "password")]
    headstart.begin(["snapshots", *where], {})
    assert begun == WANTED


@pytest.mark.parametrize("arguments", [[], ["run"], ["config", "check"], ["backup", "--help"], ["drill", "log"]])
def test_other_commands_derive_nothing(place: Path, begun: list[Request], arguments: list[str]) -> None:
    headstart.begin([*arguments, "--config", str(place / "keepwatch.toml")], {})
    assert begun == []


@pytest.mark.parametrize(
    "settings",
    [
        "no = toml = at all",
        "[jobs.documents]\n",
        '[repositories.offsite]\nurl = "s3:http://x/y"\npassword_file = "/p"\n',
        '[repositories.local]\nurl = "{place}/repository"\npassword_command = "pass show keepwatch"\n',
        '[repositories.local]\nurl = "{place}/repository"\npassword_file = "{place}/missing"\n',
        '[repositories.local]\nurl = "{place}/elsewhere"\npassword_file = "{place}/password"\n',
        '[repositories.local]\nurl = "{place}/repository"\npassword_file = "${{HOME}}/password"\n',
    ],
)
def test_what_cannot_be_guessed_is_left_alone(place: Path, begun: list[Request], settings: str) -> None:
    write(place, settings.format(place=place))
    headstart.begin(["backup", "--config", str(place / "keepwatch.toml")], {})
    assert begun == []


@pytest.mark.parametrize("key", ["{}", "[]", "no json", '{"N": 1048576, "r": 64, "p": 9, "salt": "c2FsdA=="}'])
def test_a_key_file_of_somebody_else_costs_nothing(place: Path, begun: list[Request], key: str) -> None:
    (place / "repository" / "keys" / ("0" * 64)).write_text(key)
    headstart.begin(["backup", "--config", str(place / "keepwatch.toml")], {})
    assert begun == []


def write_far_away(place: Path, endpoint: str, mode: int = 0o600) -> list[str]:
    """Name a bucket in the configuration, and give the command line."""
    for name, secret in (("id", KEY_ID), ("secret", SECRET_KEY)):
        (place / name).write_text(secret + "\n")
        (place / name).chmod(mode)
    write(
        place,
        f'[repositories.offsite]\nurl = "s3:{endpoint}/{BUCKET}/office"\npassword_file = "{place}/password"\n'
        f'access_key_id_file = "{place}/id"\nsecret_access_key_file = "{place}/secret"\n',
    )
    return ["backup", "--config", str(place / "keepwatch.toml")]


def fetching() -> list[threading.Thread]:
    """What reads a key file now."""
    return [thread for thread in threading.enumerate() if thread.name == "key file"]


def wait_for_it() -> None:
    for thread in fetching():
        thread.join(60)
        assert not thread.is_alive()


def test_the_key_file_of_a_bucket_is_read_ahead_as_well(place: Path, begun: list[Request]) -> None:
    with rclone_server(place) as server:
        office = server.folder / BUCKET / "office"
        shutil.copytree(place / "repository" / "keys", office / "keys")
        headstart.begin(write_far_away(place, server.endpoint), {})
        wait_for_it()
    assert begun == WANTED


def test_a_bucket_without_a_key_and_one_that_does_not_answer_cost_nothing(place: Path, begun: list[Request]) -> None:
    with rclone_server(place) as server:
        headstart.begin(write_far_away(place, server.endpoint), {})
        wait_for_it()
    headstart.begin(write_far_away(place, S3Server(f"127.0.0.1:{free_port()}", place).endpoint), {})
    wait_for_it()
    assert begun == []


@pytest.mark.parametrize(("mode", "more"), [(0o644, ""), (0o600, "no_such_setting = 1\n")])
def test_what_is_to_be_warned_of_or_refused_is_left_to_the_command(
    place: Path, begun: list[Request], caplog: pytest.LogCaptureFixture, mode: int, more: str
) -> None:
    arguments = write_far_away(place, f"http://127.0.0.1:{free_port()}", mode)
    with (place / "keepwatch.toml").open("a") as settings:
        settings.write(more)
    headstart.begin(arguments, {})
    assert not fetching()
    assert not caplog.records
