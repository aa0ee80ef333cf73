"""key list, add, remove and passwd as an operator types them."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backup import keys
from backup.errors import WrongPassword
from backup.repository import Repository
from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from config.jobs import RepositorySettings
from keepwatch.cli.app import run
from keepwatch.cli.keys import what_to_change
from tests.backup.repositories import CHEAP, PASSWORD, FakeClock, create

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are made in no time; how costly they really are is measured elsewhere."""
    monkeypatch.setattr(keys, "calibrate", lambda: CHEAP)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(tmp_path / "repository")
    create(made, FakeClock())
    return made


def secret(path: Path, text: str) -> str:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def where(tmp_path: Path, storage: LocalStorage) -> list[str]:
    return ["--repository-url", str(tmp_path / "repository"), "--password-file", secret(tmp_path / "old", PASSWORD)]


def opens(storage: LocalStorage, password: str) -> bool:
    try:
        Repository.open(storage, password, clock=FakeClock())
    except WrongPassword:
        return False
    return True


def names(storage: LocalStorage) -> list[str]:
    return [file.name for file in storage.list(FileKind.KEY)]


def test_keys_are_listed_with_their_makers_and_the_one_in_use(
    capsys: Capture, where: list[str], storage: LocalStorage
) -> None:
    (name,) = names(storage)
    assert run(["key", "list", *where]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:2] == ["*", name[:8]]
    assert run(["key", "list", "--json", *where]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["current"], listed["created_at"]) == (name, True, "2026-03-01T12:00:00+00:00")


def test_a_second_password_opens_too_and_can_be_taken_away(
    capsys: Capture, where: list[str], storage: LocalStorage, tmp_path: Path
) -> None:
    (first,) = names(storage)
    assert run(["key", "add", "--new-password-file", secret(tmp_path / "new", "second"), *where]) == 0
    assert (opens(storage, PASSWORD), opens(storage, "second")) == (True, True)
    (second,) = set(names(storage)) - {first}
    assert run(["key", "remove", second[:12], "--dry-run", *where]) == 0
    assert opens(storage, "second")
    assert run(["key", "remove", second[:12], *where]) == 0
    assert (opens(storage, PASSWORD), opens(storage, "second")) == (True, False)
    assert list(storage.list(FileKind.LOCK)) == []
    assert "second\n" not in capsys.readouterr().out


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_the_password_in_use_and_so_the_last_is_not_taken_away(
    capsys: Capture, where: list[str], storage: LocalStorage, dry_run: list[str]
) -> None:
    (name,) = names(storage)
    assert run(["key", "remove", name, *dry_run, *where]) == 1
    assert "it opened the repository just now" in capsys.readouterr().err
    assert names(storage) == [name]


def test_a_key_that_is_not_there_is_said(capsys: Capture, where: list[str]) -> None:
    assert run(["key", "remove", "0000000000", *where]) == 1
    assert "there is no such key" in capsys.readouterr().err


def test_passwd_replaces_the_password_and_tells_what_to_change(
    capsys: Capture, where: list[str], storage: LocalStorage, tmp_path: Path
) -> None:
    new = secret(tmp_path / "new", "second")
    assert run(["key", "passwd", "--new-password-file", new, *where]) == 0
    told = capsys.readouterr().err
    assert f"install -m 600 {new} {tmp_path / 'old'}" in told
    assert "second" not in told
    assert (opens(storage, PASSWORD), opens(storage, "second"), len(names(storage))) == (False, True, 1)
    assert (tmp_path / "old").read_text() == PASSWORD + "\n"
    assert run(["key", "list", *where]) == 12


def test_what_to_change_is_said_for_every_way_a_password_is_configured(tmp_path: Path) -> None:
    by_file = RepositorySettings(url="/srv/r", password_file=tmp_path / "old")
    by_command = RepositorySettings(url="/srv/r", password_command="pass show x")  # type: ignore[arg-type]
    assert "install -m 600" in what_to_change(by_file, tmp_path / "new")
    assert f"first line of {tmp_path / 'old'}" in what_to_change(by_file, None)
    assert "nothing is to be done" in what_to_change(by_file, tmp_path / "old")
    command = what_to_change(by_command, None)
    assert "let password_command print the new password" in command
    assert "pass show x" not in command


@pytest.mark.parametrize("verb", ["add", "passwd"])
def test_without_a_file_and_a_terminal_nothing_is_asked(
    capsys: Capture, where: list[str], storage: LocalStorage, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull, encoding="ascii") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert run(["key", verb, *where]) == 2
    assert "--new-password-file" in capsys.readouterr().err
    assert len(names(storage)) == 1


@pytest.mark.parametrize(
    ("answers", "code", "expected"),
    [(("second", "second"), 0, "added key"), (("second", "other"), 2, "the two passwords differ"), (("",), 2, "empty")],
)
def test_on_a_terminal_the_password_is_asked_for_twice_and_never_shown(
    where: list[str], storage: LocalStorage, answers: tuple[str, ...], code: int, expected: str
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "keepwatch", "key", "add", *where]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as child:
        os.close(theirs)
        shown, asked, end = b"", 0, time.monotonic() + 60
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                part = os.read(ours, 4096)
            except OSError:  # the child has closed its side
                break
            shown += part
            if shown.count(b"assword: ") + shown.count(b"more: ") > asked:
                os.write(ours, answers[asked].encode() + b"\n")
                asked += 1
        os.close(ours)
        assert child.wait(timeout=10) == code, shown
    assert expected in shown.decode()
    assert b"second" not in shown
    assert opens(storage, "second") is (code == 0)
