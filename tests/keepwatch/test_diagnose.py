"""The five questions: each fault planted and named, and a bundle in which no planted secret is found."""

import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from backup.catalog import Catalog
from backup.journal import Journal
from config.loading import load
from keepwatch.diagnose.answer import Answer, Mark
from keepwatch.diagnose.network import network
from keepwatch.diagnose.permissions import permissions, private, readable
from keepwatch.diagnose.records import chain, database
from keepwatch.diagnose.scrubbing import MARK, Scrubber
from keepwatch.diagnose.versions import judge_updates, versions
from keepwatch.state import StateDirectory
from monitor.store import MonitorStore
from tests.end_to_end.conftest import environment

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRETS = {
    "repository password": "correct-horse-battery",
    "mail password": "mail-hunter2-pass",
    "webhook token": "T0KENslackAAAbbb",
    "heartbeat id": "7f3c9a10-heart-beat",
    "environment": "from-the-environment-42",
    "access key": "AKIAIOSFODNN7EXAMPLE",
    "secret key": "wJalrXUtnFEMIK7MDENG",
    "hook token": "hook-token-98765",
    "database password": "pg-pass-in-dsn",
    "password in a message": "typed-into-a-log",
    "user and password in an address": "adm1n-s3cret",
}
CONFIG = """
[daemon]
host = "erp-1"
state_dir = "{root}/state"
[web]
listen = "127.0.0.1:{port}"
[repositories.local]
url = "{root}/repository"
password_file = "{root}/password"
[repositories.bucket]
url = "s3:http://127.0.0.1:{port}/bucket/prefix"
password_command = "echo {database password}"
access_key_id_file = "{root}/id"
secret_access_key_file = "{root}/key"
[jobs.documents]
source = {{ type = "files", paths = ["{root}/documents"] }}
repositories = ["local"]
before = ["curl -H 'X-Token: {hook token}' http://127.0.0.1/"]
[[checks]]
name = "plugin"
type = "command"
run = "/usr/lib/check --password {database password}"
[[notify]]
name = "mail"
url = "mailtos://ops:{mail password}@127.0.0.1:{port}?to=ops@example.com"
[[notify]]
name = "chat"
url = "slack://{webhook token}/B0000/xyzxyzxyz/"
[[notify]]
name = "odd"
url = "json://127.0.0.1:{port}/hook/${{ODD_TOKEN}}"
[heartbeat]
url = "http://127.0.0.1:{port}/{heartbeat id}"
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Somebody who answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def machine(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine full of secrets, with all that its settings name."""
    monkeypatch.setenv("ODD_TOKEN", SECRETS["environment"])
    (tmp_path / "keepwatch.toml").write_text(CONFIG.format(root=tmp_path, port=port, **SECRETS))
    (tmp_path / "keepwatch.toml").chmod(0o600)
    for name, secret in (("password", "repository password"), ("id", "access key"), ("key", "secret key")):
        (tmp_path / name).write_text(SECRETS[secret] + "\n")
        (tmp_path / name).chmod(0o600)
    for folder in ("documents", "repository"):
        (tmp_path / folder).mkdir()
    state = StateDirectory(tmp_path / "state")
    state.path.chmod(0o700)
    MonitorStore(state.monitor_db).close()
    state.monitor_db.chmod(0o600)
    with Catalog(state.backup_db) as catalog:
        run = catalog.start_run("full", "documents", "local", now=NOW)
        said = f"https://root:{SECRETS['user and password in an address']}@host/ said no; password={{}}"
        catalog.end_run(run, "failed", said.format(SECRETS["password in a message"]), now=NOW)
    Journal(state.journal).append(
        {"job": "documents", "message": f"Authorization: Bearer {SECRETS['repository password']}"}, now=NOW
    )
    return tmp_path


def settings_of(machine: Path):
    return load(machine / "keepwatch.toml", environ=os.environ)


def marks(answers) -> dict[str, str]:
    return {answer.subject: answer.mark.value for answer in answers}


def worst(answers) -> list[Answer]:
    return [answer for answer in answers if answer.mark is Mark.PROBLEM]


def test_the_network_is_tried_where_the_settings_point(machine: Path) -> None:
    tried: list[tuple[str, int]] = []

    def connect(host: str, port: int) -> None:
        tried.append((host, port))
        if host == "slack.com":
            raise socket.gaierror(-2, "Name or service not known")

    found = list(network(settings_of(machine), connect))
    assert marks(found) == {
        "this page": "ok", "repository local": "ok", "repository bucket": "ok", "channel mail": "ok",
        "channel chat": "problem", "channel odd": "ok", "heartbeat": "ok",
    } | ({"proxy": "note"} if "proxy" in marks(found) else {})  # fmt: skip
    assert "the name slack.com is not found" in worst(found)[0].message
    assert not any(SECRETS["webhook token"].lower() in host.lower() for host, _ in tried), "tokens go to no name server"


def test_a_port_that_nobody_listens_on_and_a_disk_that_is_gone_are_named(machine: Path) -> None:
    settings = settings_of(machine)
    assert next(a.message for a in network(settings) if a.subject == "heartbeat").endswith("answers")
    (machine / "repository").rmdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    text = (machine / "keepwatch.toml").read_text()
    (machine / "keepwatch.toml").write_text(text.replace(f":{settings.web.port}/7f3c", f":{free}/7f3c"))
    found = {a.subject: a.message for a in worst(network(settings_of(machine)))}
    assert "is not there" in found["repository local"]
    assert found["heartbeat"] == f"127.0.0.1:{free} cannot be reached: connection refused"


def test_a_service_whose_host_is_not_known_is_not_looked_up(machine: Path) -> None:
    text = (machine / "keepwatch.toml").read_text().replace("slack://", "whatsnext://")
    (machine / "keepwatch.toml").write_text(text)
    tried: list[str] = []
    found = marks(network(settings_of(machine), lambda host, _port: tried.append(host)))
    assert (found["channel chat"], set(tried)) == ("unknown", {"127.0.0.1"})


def test_versions_name_program_python_libraries_and_tools() -> None:
    found = {answer.subject: answer for answer in versions()}
    assert found["keepwatch"].mark is Mark.OK
    assert found["pydantic"].message.count(".") == 2
    assert found["restic"].message.startswith("restic 0.")
    assert found["Python"].message.startswith("3.")
    assert found["system updates"].mark is not Mark.UNKNOWN, "Debian has apt-get"


def test_updates_that_wait_for_security_are_a_problem_and_others_are_not() -> None:
    plain = "Inst curl [7.88] (7.89 Debian:12.5/stable [amd64])\nConf curl\n"
    secure = "Inst openssl [3.0.1] (3.0.2 Debian-Security:12/stable-security [amd64])\n"
    assert judge_updates("", rebooting=False).mark is Mark.OK
    assert judge_updates(plain, rebooting=False).mark is Mark.NOTE
    found = judge_updates(plain + secure, rebooting=True)
    assert (found.mark, found.message) == (
        Mark.PROBLEM, "2 waiting, 1 of them for security: openssl; a restart of the system is due",
    )  # fmt: skip


def test_permissions_of_a_machine_that_is_in_order(machine: Path) -> None:
    state = StateDirectory(machine / "state")
    assert worst(permissions(settings_of(machine), state, machine / "keepwatch.toml")) == []


@pytest.mark.parametrize(
    ("path", "mode", "subject"),
    [
        ("password", 0o644, "repository local, password_file"),
        ("key", 0o640, "repository bucket, secret_access_key_file"),
        ("state", 0o755, "state directory"),
        ("state/backup.db", 0o604, "backup.db"),
    ],
)
def test_what_others_may_read_is_named_with_the_command_that_ends_it(
    machine: Path, path: str, mode: int, subject: str
) -> None:
    (machine / path).chmod(mode)
    [found] = worst(permissions(settings_of(machine), StateDirectory(machine / "state"), machine / "keepwatch.toml"))
    assert (found.subject, found.hint) == (subject, f"chmod {mode & 0o700:o} {machine / path}")


def test_a_configuration_with_secrets_that_everybody_may_read_is_named(machine: Path) -> None:
    config = machine / "keepwatch.toml"
    config.write_text(config.read_text().replace("${ODD_TOKEN}", "token"))
    config.chmod(0o644)
    [found] = worst(permissions(settings_of(machine), StateDirectory(machine / "state"), config))
    assert (found.subject, "everybody may read it" in found.message) == ("configuration", True)


def test_what_is_not_there_is_named(machine: Path) -> None:
    assert "is its disk mounted?" in readable("job x", machine / "gone").hint
    assert private("password", machine / "gone").mark is Mark.PROBLEM


def test_a_damaged_database_and_a_broken_chain_are_named_and_left_as_they_are(machine: Path) -> None:
    state = StateDirectory(machine / "state")
    assert (database(state.backup_db).mark, chain(state.journal).mark) == (Mark.OK, Mark.OK)
    state.backup_db.write_bytes(b"this is no database at all" * 100)
    state.journal.write_text(state.journal.read_text().replace("documents", "ducuments"))
    done = run(machine, "--config", machine / "keepwatch.toml")
    assert "problem  backup.db" in done.stdout
    assert "problem  drills.jsonl" in done.stdout
    assert "file is not a database" in database(state.backup_db).message
    assert "line 1: it was changed" in chain(state.journal).message
    assert state.backup_db.exists(), "nothing was set aside"


def test_a_database_whose_index_lies_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a TEXT)")
        connection.execute("CREATE INDEX i ON t (a)")
        connection.executemany("INSERT INTO t VALUES (?)", [(str(n),) for n in range(1000)])
    connection.close()
    data = bytearray(path.read_bytes())
    data[-2048:-1024] = bytes(1024)
    path.write_bytes(data)
    assert database(path).mark is Mark.PROBLEM


def run(machine: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Ask the questions by the command line, where PATH leads to restic only: apt-get takes seconds."""
    tools = machine / "tools"
    tools.mkdir()
    (tools / "restic").symlink_to(shutil.which("restic") or "")
    environ = environment(machine) | {"ODD_TOKEN": SECRETS["environment"], "PATH": str(tools)}
    return subprocess.run(
        [sys.executable, "-m", "keepwatch", "diagnose", *map(str, arguments)], env=environ, capture_output=True,
        text=True, timeout=100,
    )  # fmt: skip


def test_no_planted_secret_is_in_the_bundle_or_in_what_is_printed(machine: Path) -> None:
    target = machine / "support.tar.gz"
    done = run(machine, "--config", machine / "keepwatch.toml", "--output", target)
    assert (done.returncode, "written to" in done.stderr) == (1, True), done.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with tarfile.open(target) as tar:
        files = {m.name.removeprefix("keepwatch-support/"): tar.extractfile(m).read().decode() for m in tar}
    assert {"README.txt", "diagnosis.txt", "settings.json", "status.json", "drills.jsonl"} <= set(files)
    for what, secret in SECRETS.items():
        assert [name for name, text in files.items() if secret in text] == [], what
        assert secret not in done.stdout + done.stderr, what
    for name in ("settings.json", "status.json", "diagnosis.json"):
        json.loads(files[name])
    assert json.loads(files["settings.json"])["jobs"]["documents"]["before"].startswith("[left out")
    assert str(machine / "password") in files["settings.json"], "where a password lies is no secret"
    assert "documents" in files["status.json"]
    assert MARK in files["status.json"]


def test_a_configuration_that_cannot_be_used_is_an_answer_and_the_rest_goes_on(machine: Path) -> None:
    (machine / "keepwatch.toml").write_text("[daemon]\nhots = 'x'\n")
    where = ("--config", machine / "keepwatch.toml", "--state-dir", machine / "state")
    done = run(machine, *where, "--output", machine / "support.tar.gz")
    assert done.returncode == 1, done.stderr
    assert "unknown key; did you mean 'host'?" in done.stdout
    assert "ok       restic" in done.stdout
    assert "ok       backup.db" in done.stdout
    with tarfile.open(machine / "support.tar.gz") as tar:
        assert "keepwatch-support/settings.json" not in tar.getnames()


def test_a_machine_where_keepwatch_never_ran_is_told_so_and_nothing_is_made(tmp_path: Path) -> None:
    done = run(tmp_path, "--state-dir", tmp_path / "state")
    assert (done.returncode, "is not there" in done.stdout, (tmp_path / "state").exists()) == (1, True, False)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password = hunter2!", f"password = {MARK}"),
        ('{"api_key": "abc def", "x": 1}', f'{{"api_key": "{MARK}", "x": 1}}'),
        (r'"{\"token\": \"abc\"}"', rf'"{{\"token\": \"{MARK}\"}}"'),
        ("postgresql://me:pw@db/x", f"postgresql://{MARK}@db/x"),
        ("Authorization: Bearer eyJhbGciOi.J9", f"Authorization: {MARK} {MARK}"),
        ("curl -u admin:hunter2 http://x", f"curl -u admin:{MARK} http://x"),
        ("AKIAIOSFODNN7EXAMPLE", MARK),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nafter", f"{MARK}\nafter"),
        ('"password_file": "/etc/keepwatch/p"', '"password_file": "/etc/keepwatch/p"'),
        ("the key is under the mat", "the key is under the mat"),
    ],
)
def test_what_looks_like_a_secret_is_replaced_and_other_words_are_not(text: str, clean: str) -> None:
    assert Scrubber(())(text) == clean


def test_the_parts_of_a_secret_address_are_secrets_and_short_words_are_not() -> None:
    scrub = Scrubber(["slack://T0KENtoken/B0000000/xyz%20xyzxyz?to=ops@example.com&key=abcdef99", "at"])
    assert scrub("B0000000 and xyz xyzxyz and abcdef99 and t0kentoken") == f"{MARK} and {MARK} and {MARK} and {MARK}"
    assert scrub("look at that") == "look at that"


def test_a_secret_is_found_as_json_and_urls_write_it() -> None:
    secret = 'p"ss\\w/rd 盘'
    scrub = Scrubber([secret])
    for written in (json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        assert scrub(written) == f'"{MARK}"'
    assert scrub(f"https://x/?to={quote(secret, safe='')}&a=b") == f"https://x/?to={MARK}&a=b"
