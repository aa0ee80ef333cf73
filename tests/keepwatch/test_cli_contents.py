"""ls, find, diff, dump, copy and restore as an operator types them, on a repository that no configuration knows."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from backup.pack import BlobKind, blob_id
from backup.repository import Repository
from backup.storage import open as open_module
from backup.storage.base import Buffer, FileKind
from backup.storage.local import LocalStorage
from backup.tree import Node
from keepwatch.cli.app import run
from tests.backup.repositories import PASSWORD, FakeClock, back_up, commit, create, save_nodes

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two snapshots in which a file changed, one came and one went."""
    clock = FakeClock()
    made = create(LocalStorage(tmp_path / "repository"), clock)
    back_up(made, {"etc": {"a.conf": b"one", "gone": b"x"}, "z": b"same"}, tags=("job:docs",))
    clock.advance(hours=1)
    back_up(made, {"etc": {"a.conf": b"changed", "new.conf": b"new"}, "z": b"same"}, tags=("job:docs",))
    return made


@pytest.fixture
def where(tmp_path: Path, repository: Repository) -> list[str]:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "password").chmod(0o600)
    return ["--repository-url", str(tmp_path / "repository"), "--password-file", str(tmp_path / "password")]


def said(capture: Capture, arguments: list[str], code: int = 0) -> str:
    """Run a command, check its exit status, and give its standard output."""
    found = run(arguments)
    out, err = capture.readouterr()
    assert found == code, err
    return out


def told(capture: Capture, arguments: list[str], code: int) -> str:
    """The same for what went to standard error."""
    found = run(arguments)
    err = capture.readouterr().err
    assert found == code, err
    return err


# ---- ls, find, diff


def test_ls_lists_a_subfolder_by_restics_colon_or_by_an_argument(capsys: Capture, where: list[str]) -> None:
    listed = said(capsys, ["ls", "latest:/etc", *where])
    assert [line.split()[-1] for line in listed.splitlines()] == ["/etc", "/etc/a.conf", "/etc/new.conf"]
    assert said(capsys, ["ls", "latest", "/etc", *where]) == listed
    assert [entry["path"] for entry in json.loads(said(capsys, ["ls", "latest:etc", "a.conf", "--json", *where]))] == [
        "/etc/a.conf"
    ]


def test_find_names_the_newest_snapshot_and_how_many_others_have_the_same(
    capsys: Capture, where: list[str], repository: Repository
) -> None:
    old, new = (snapshot.id[:8] for snapshot in repository.snapshots())
    lines = said(capsys, ["find", "*.CONF", "z", "-i", *where]).splitlines()
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        (old, "/etc/a.conf"), (new, "/etc/a.conf"), (new, "/etc/new.conf"), (f"{new}+1", "/z"),
    ]  # fmt: skip
    found = json.loads(said(capsys, ["find", "--regex", r"^etc/g", "--type", "file", "--json", *where]))
    assert [(item["entry"]["path"], len(item["snapshots"])) for item in found] == [("/etc/gone", 1)]


def test_find_takes_limits_of_time_and_size(capsys: Capture, where: list[str]) -> None:
    assert "/etc/a.conf" in said(capsys, ["find", "--larger", "7 B", "--older", "1971-01-01", *where])
    assert said(capsys, ["find", "--newer", "1d", *where], 1) == ""
    assert "is no time" in told(capsys, ["find", "--newer", "soon", *where], 2)
    assert "not a size" in told(capsys, ["find", "--larger", "much", *where], 2)
    assert "no type is named" in told(capsys, ["find", "--type", "door", *where], 2)


def test_find_tells_who_needs_a_blob_or_a_pack(capsys: Capture, where: list[str], repository: Repository) -> None:
    name = blob_id(b"same")
    pack = repository.load_index().lookup_all(BlobKind.DATA, name)[0].pack
    assert said(capsys, ["find", "--blob", name.hex()[:16], *where]).split()[-1] == "/z"
    holders = json.loads(said(capsys, ["find", "--pack", pack[:16], "--json", *where]))
    assert {holder["path"] for holder in holders} == {"/etc/a.conf", "/etc/gone", "/z"}
    assert "no blob begins so" in told(capsys, ["find", "--blob", "0000", *where], 1)


def test_diff_shows_signs_paths_and_sums(capsys: Capture, where: list[str], repository: Repository) -> None:
    old = repository.snapshots()[0].id
    lines = said(capsys, ["diff", old[:10], "latest", *where]).splitlines()
    assert lines[:3] == ["M    /etc/a.conf", "-    /etc/gone", "+    /etc/new.conf"]
    assert lines[-1] == "bytes: 10 B added, 4 B removed"
    found = json.loads(said(capsys, ["diff", f"{old[:10]}:etc", "latest:etc", "--json", *where]))
    assert [(change["kind"], change["path"]) for change in found["changes"]] == [
        ("content", "/a.conf"), ("removed", "/gone"), ("added", "/new.conf"),
    ]  # fmt: skip
    assert found["sums"]["files_added"] == 1


# ---- dump


def test_dump_writes_a_file_as_it_is_and_a_folder_as_an_archive(
    capfdbinary: pytest.CaptureFixture[bytes], where: list[str], tmp_path: Path
) -> None:
    assert run(["dump", "latest", "/etc/a.conf", *where]) == 0
    assert capfdbinary.readouterr().out == b"changed"
    assert run(["dump", "latest:etc", *where]) == 0
    (tmp_path / "archive.tar").write_bytes(capfdbinary.readouterr().out)
    with tarfile.open(tmp_path / "archive.tar") as archive:
        assert archive.getnames() == ["etc", "etc/a.conf", "etc/new.conf"]


def test_dump_says_what_is_left_out_and_ends_partial(
    capfdbinary: pytest.CaptureFixture[bytes], where: list[str], repository: Repository
) -> None:
    with repository.lock():
        repository.load_index()
        commit(repository, save_nodes(repository, Node(name=b"socket", type="socket")), tags=("job:other",))
    assert run(["dump", "latest", "--job", "other", *where]) == 3
    assert b"socket: tar has no entries of type socket" in capfdbinary.readouterr().err


# ---- restore


def test_a_dry_run_lists_removals_and_with_verbose_each_path(
    capsys: Capture, where: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "back"
    (target / "etc").mkdir(parents=True)
    (target / "etc" / "a.conf").write_text("mine")
    (target / "etc" / "extra").write_text("mine")
    arguments = ["restore", "latest:etc", "--target", str(target / "etc"), "--delete", "--dry-run", *where]
    short = said(capsys, arguments).splitlines()
    assert short[0] == "remove    extra"
    assert "2 files, 1 of them there already (always), 10 B; 1 to be removed" in short[1]
    assert said(capsys, [*arguments, "--verbose"]).splitlines()[:3] == [
        "remove    extra", "compare   a.conf", "create    new.conf",
    ]  # fmt: skip
    document = json.loads(said(capsys, [*arguments, "--verbose", "--json"]))
    assert (document["removals"], document["steps"][1]["action"]) == (["extra"], "compare")
    assert (target / "etc" / "a.conf").read_text() == "mine"


def test_restore_goes_by_the_rule_and_says_what_it_did(capsys: Capture, where: list[str], tmp_path: Path) -> None:
    target = tmp_path / "back"
    target.mkdir()
    (target / "a.conf").write_text("mine")
    (target / "extra").write_text("mine")
    restore = ["restore", "latest:etc", "--target", str(target), *where]
    assert "(1 left alone)" in said(capsys, [*restore, "--overwrite", "never"])
    assert (target / "a.conf").read_text() == "mine"
    report = json.loads(said(capsys, [*restore, "--delete", "--json", "--quiet"]))
    assert (report["files"], report["unchanged"], report["removed"], report["bytes"]) == (2, 1, 1, 7)
    assert sorted(path.name for path in target.iterdir()) == ["a.conf", "new.conf"]
    assert "(2 unchanged)" in said(capsys, [*restore, "--overwrite", "if-changed"])
    assert "no such path" in told(capsys, ["restore", "latest:/none", "--target", str(target), *where], 1)


def test_no_sparse_writes_zeros(capsys: Capture, where: list[str], repository: Repository, tmp_path: Path) -> None:
    back_up(repository, {"zeros": bytes(1 << 20)}, tags=("job:zeros",))
    used = {}
    for option in ("--sparse", "--no-sparse"):
        target = tmp_path / option
        said(capsys, ["restore", "latest", "--job", "zeros", "--target", str(target), option, *where])
        used[option] = (target / "zeros").stat().st_blocks * 512
    assert used["--sparse"] < 1 << 20 <= used["--no-sparse"]


# ---- copy


@pytest.fixture
def both(tmp_path: Path, where: list[str]) -> list[str]:
    """The options that name the repository and an empty one beside it."""
    create(LocalStorage(tmp_path / "other"), FakeClock())
    password = str(tmp_path / "password")
    return [
        "--from-url", where[1], "--from-password-file", password,
        "--to-url", str(tmp_path / "other"), "--to-password-file", password,
    ]  # fmt: skip


def test_copy_shows_a_plan_copies_and_knows_what_it_copied(
    capsys: Capture, both: list[str], where: list[str], tmp_path: Path, restic_at: Callable[[Path, str], str]
) -> None:
    other = tmp_path / "other"
    assert "2 snapshots to copy, 0 there already" in said(capsys, ["copy", "--dry-run", *both])
    assert restic_at(other, "snapshots --json").strip() in ("[]", "null")
    assert "1 snapshot copied, 0 were there already" in said(capsys, ["copy", "latest", *both])
    report = json.loads(said(capsys, ["copy", "--job", "docs", "--json", "--quiet", *both]))
    assert (len(report["copied"]), report["already"]) == (1, 1)
    assert "no errors were found" in restic_at(other, "check --read-data")


@pytest.fixture
def restic_at() -> Callable[[Path, str], str]:
    def call(place: Path, arguments: str) -> str:
        environment = os.environ | {"RESTIC_PASSWORD": PASSWORD, "HOME": str(place.parent)}
        command = ["restic", "--no-cache", "-r", str(place), *arguments.split()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "which repository to copy from is not clear"),
        (["--from-url", "/x"], "--from-url needs --from-password-file"),
        (["--from", "a", "--from-url", "/x"], "which repository to copy from is not clear"),
    ],
)
def test_copy_wants_to_know_both_repositories(capsys: Capture, arguments: list[str], expected: str) -> None:
    assert expected in told(capsys, ["copy", *arguments], 2)


def test_a_wrong_password_and_a_missing_repository_have_their_own_exit_status(
    capsys: Capture, where: list[str], tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("wrong")
    (tmp_path / "wrong").chmod(0o600)
    for verb in (["ls", "latest"], ["find", "x"], ["diff", "a", "b"], ["dump", "latest"]):
        assert run([*verb, *where[:2], "--password-file", str(tmp_path / "wrong")]) == 12
        assert run([*verb, "--repository-url", str(tmp_path / "none"), *where[2:]]) == 10
    capsys.readouterr()


# ---- media that cannot be written to


class Spied(LocalStorage):
    """Tells what was put."""

    put_kinds: ClassVar[list[FileKind]] = []

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        self.put_kinds.append(kind)
        super().put(kind, name, content)


@pytest.mark.parametrize(
    "command", [["ls", "latest"], ["find", "a.conf"], ["verify"], ["dump", "latest", "/z"], ["restore", "latest"]]
)
def test_reading_without_a_lock_writes_nothing(
    capsys: Capture, where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(open_module, "LocalStorage", Spied)
    target = ["--target", str(tmp_path / "back")] if command[0] == "restore" else []
    Spied.put_kinds.clear()
    said(capsys, [*command, *target, *where])
    assert set(Spied.put_kinds) == {FileKind.LOCK}
    Spied.put_kinds.clear()
    said(capsys, [*command, *target, *where, "--no-lock"])
    assert Spied.put_kinds == []


# ---- what an operator reads when nothing is there


def test_a_restore_of_nothing_is_an_error(capsys: Capture, where: list[str], tmp_path: Path) -> None:
    target = ["--target", str(tmp_path / "back"), *where]
    err = told(capsys, ["restore", "latest", "--include", "/etc/passwd", *target], 2)
    assert "nothing in snapshot" in err
    assert "keepwatch ls" in err
    assert told(capsys, ["restore", "latest", "--dry-run", "--exclude", "*", *target], 2)
    assert run(["restore", "latest", "--include", "/etc/a.conf", *target]) == 0


def test_a_path_that_is_not_there_is_named_as_it_was_typed(capsys: Capture, where: list[str]) -> None:
    for typed in ("/nowhere", "nowhere/"):
        assert "could not find /nowhere in snapshot" in told(capsys, ["ls", "latest", typed, *where], 1)


def test_prune_says_in_words_what_it_gives_back(capsys: Capture, where: list[str]) -> None:
    assert said(capsys, ["prune", "--dry-run", *where]) == "0 B would be given back; 0 packs removed, 0 rewritten\n"
    assert said(capsys, ["prune", *where]) == "0 B given back; 0 packs removed, 0 rewritten\n"
    assert told(capsys, ["unlock", *where], 0) == "there are no locks\n"


@pytest.mark.parametrize("command", [["config", "schema"], ["ls", "latest"], ["ls", "latest", "--json"]])
def test_a_reader_that_goes_is_no_error_and_not_taken_for_a_result(command: list[str], where: list[str]) -> None:
    words = [sys.executable, "-m", "keepwatch", *command, *(where if command[0] == "ls" else ())]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
