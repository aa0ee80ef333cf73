"""Job groups: databases and folders of nearly one moment in one snapshot, and how near is measured."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from backup.applications.manifest import differences
from backup.applications.open import open_applications
from backup.errors import SourceError
from backup.repository import Repository
from backup.sources.group import GroupSource
from backup.sources.open import open_source
from backup.storage.base import FileKind
from config.sources import GroupSource as GroupSettings
from tests.backup.repositories import FakeClock
from tests.backup.sources.saving import bring_back, save
from tests.servers.mariadb import OWNER, PASSWORD, mariadb
from tests.servers.private import private_folder
from tests.servers.redis import redis


class RealClock(FakeClock):
    """Real time, which a skew is made of."""

    def __call__(self) -> datetime:
        return datetime.now(UTC)


def office(tmp_path: Path) -> dict[str, dict[str, object]]:
    """A folder of documents and the ledger that names them."""
    documents = tmp_path / "srv" / "documents"
    documents.mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db, db:
        db.execute("CREATE TABLE invoice (number INTEGER PRIMARY KEY, file TEXT)")
        for number in range(100):
            (documents / f"{number}.pdf").write_text(f"invoice {number}")
            db.execute("INSERT INTO invoice VALUES (?, ?)", (number, f"{number}.pdf"))
    return {
        "documents": {"type": "files", "paths": [str(documents)], "exclude": ["*.tmp"]},
        "ledger": {"type": "sqlite", "path": str(tmp_path / "ledger.db")},
    }


def group(members: dict[str, dict[str, object]], tmp_path: Path, **more: object) -> tuple[GroupSettings, GroupSource]:
    settings = TypeAdapter(GroupSettings).validate_python({"type": "group", "members": members, **more}, strict=False)
    made = open_source(settings, name="office", clock=RealClock(), workspace=tmp_path / "work")
    assert isinstance(made, GroupSource)
    return settings, made


def test_ledger_and_documents_come_back_together_with_their_skew(repository: Repository, tmp_path: Path) -> None:
    members = office(tmp_path)
    members["settings"] = {"type": "command", "run": "sh -c 'echo colour = blue'", "file_name": "settings.toml"}
    (tmp_path / "srv/documents/x.tmp").write_text("left out")
    settings, made = group(members, tmp_path, max_skew="20s")
    report = save(repository, made, "office")
    assert not report.partial
    assert report.manifest["kind"] == "group"
    assert set(report.manifest["members"]) == {"documents", "ledger", "settings"}  # type: ignore[call-overload]
    assert 0 <= report.manifest["skew_seconds"] < 20  # type: ignore[operator]
    assert made.paths == (str(tmp_path / "srv/documents"), "/ledger", "/settings")
    assert (made.live_paths, made.excludes) == ((str(tmp_path / "srv/documents"),), ("*.tmp",))
    back = bring_back(repository, report, tmp_path / "back", ".")
    assert json.loads((back / "office.manifest.json").read_text()) == report.manifest
    assert (back / "settings/settings.toml").read_text() == "colour = blue\n"
    documents = {path.name for path in Path(f"{back}{tmp_path}/srv/documents").iterdir()}
    applications = open_applications(settings, name="office")
    assert list(applications) == ["/ledger"]
    start = applications["/ledger"].start
    with start(back / "ledger", workspace=tmp_path / "drill", timeout_seconds=30) as running:
        assert list(differences(running.saved, running.manifest())) == []  # type: ignore[attr-defined]
        assert running.query("SELECT count(*) FROM invoice") == len(documents) == 100


def test_moments_that_lie_too_far_apart_make_the_run_partial(repository: Repository, tmp_path: Path) -> None:
    members = office(tmp_path)
    members["slow"] = {"type": "command", "run": "sh -c 'sleep 0.3; echo slow'"}
    _, made = group(members, tmp_path, max_skew="0.2s")
    report = save(repository, made, "office")
    assert report.partial
    (problem,) = report.unreadable
    assert problem.path == "/office.manifest.json"
    assert "may at most by 0.2s" in problem.reason or "200" in problem.reason


def test_a_held_moment_stands_while_others_are_read(repository: Repository, tmp_path: Path) -> None:
    members = office(tmp_path)
    ledger = tmp_path / "ledger.db"
    write = f"import sqlite3; d = sqlite3.connect({str(ledger)!r}); d.execute('delete from invoice'); d.commit()"
    script = tmp_path / "write.py"
    script.write_text(write)
    members["later"] = {"type": "command", "run": f"sh -c 'python3 {script} && echo emptied'"}
    _, made = group(members, tmp_path)
    back = bring_back(repository, save(repository, made, "office"), tmp_path / "back", ".")
    assert (back / "later/output").read_text() == "emptied\n"
    with closing(sqlite3.connect(back / "ledger/ledger.db")) as db:
        assert db.execute("SELECT count(*) FROM invoice").fetchone() == (100,)


@pytest.mark.parametrize("broken", [
    {"type": "command", "run": "sh -c 'echo half; exit 3'"}, {"type": "sqlite", "path": "/nonexistent.db"},
])  # fmt: skip
def test_one_member_that_fails_fails_the_group(
    repository: Repository, tmp_path: Path, broken: dict[str, object]
) -> None:
    _, made = group(office(tmp_path) | {"broken": broken}, tmp_path)
    with pytest.raises(SourceError):
        save(repository, made, "office")
    assert not list(repository.storage.list(FileKind.SNAPSHOT))
    assert not list((tmp_path / "work").glob("*")), "nothing is left behind"


def test_a_file_that_cannot_be_read_is_the_groups_problem(repository: Repository, tmp_path: Path) -> None:
    members = office(tmp_path)
    members["documents"]["paths"] = [str(tmp_path / "srv/documents"), str(tmp_path / "srv/gone")]
    _, made = group(members, tmp_path)
    report = save(repository, made, "office")
    assert [problem.path for problem in report.unreadable] == [str(tmp_path / "srv/gone")]


def test_members_must_be_apart() -> None:
    files = {"type": "files", "paths": ["/ledger/documents"]}
    for members in ({"a": files, "b": files}, {"a": files, "ledger": {"type": "sqlite", "path": "/x.db"}}, {}):
        with pytest.raises(ValidationError):
            TypeAdapter(GroupSettings).validate_python({"type": "group", "members": members}, strict=False)


@pytest.mark.campaign
def test_four_kinds_of_one_moment(repository: Repository, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    with private_folder("mariadb") as one, private_folder("redis") as two, mariadb(one) as sql, redis(
        two, {"repl-diskless-sync-delay": "0"}
    ) as cache:
        sql.sql("CREATE DATABASE shop; CREATE TABLE shop.t SELECT seq FROM seq_1_to_1000")
        cache.command("SET", "a", "1")
        access = {"type": "mariadb", "socket": str(sql.socket), "user": OWNER, "password_file": str(secret)}
        members = office(tmp_path) | {
            "copied": access | {"method": "physical"}, "dumped": access,
            "cache": {"type": "redis", "url": f"unix://{cache.socket}"},
        }  # fmt: skip
        settings, made = group(members, tmp_path, max_skew="1m")
        report = save(repository, made, "office")
    assert not report.partial
    back = bring_back(repository, report, tmp_path / "back", ".")
    for folder, application in open_applications(settings, name="office").items():
        with private_folder("work") as work:
            place = back / folder.removeprefix("/")
            with application.start(place, workspace=work / "drill", timeout_seconds=60) as running:
                assert running.integrity() == []
                assert list(differences(running.saved, running.manifest())) == []  # type: ignore[attr-defined]
    assert timedelta(seconds=float(str(report.manifest["skew_seconds"]))) < timedelta(minutes=1)
