"""The PostgreSQL servers of jobs are asked for their version, and whether they can tell what changed."""

from pathlib import Path

import pytest

from config.loading import load
from config.settings import Settings
from keepwatch.diagnose.answer import Mark
from keepwatch.diagnose.servers import servers
from tests.servers import other_postgres
from tests.servers.postgres import postgres
from tests.servers.private import free_port, private_folder

SETTINGS = """
[repositories.local]
url = "{root}/repository"
password_file = "{root}/password"
[jobs.ledger]
source = {{ type = "postgres", dsn = "{dsn}", method = "{method}" }}
repositories = ["local"]
[jobs.papers]
source = {{ type = "files", paths = ["{root}"] }}
repositories = ["local"]
"""


def settings(root: Path, dsn: str, method: str = "physical") -> Settings:
    (root / "keepwatch.toml").write_text(SETTINGS.format(root=root, dsn=dsn, method=method))
    return load(root / "keepwatch.toml", environ={})


def test_a_server_that_does_not_answer_is_a_problem_told_without_its_password(tmp_path: Path) -> None:
    dsn = f"host=127.0.0.1 port={free_port()} user=keeper password=sesame"
    (answer,) = servers(settings(tmp_path, dsn))
    assert (answer.subject, answer.mark) == ("PostgreSQL of job ledger", Mark.PROBLEM)
    assert "could not connect" in answer.message
    assert "sesame" not in answer.message + answer.hint


@pytest.mark.campaign
def test_a_server_that_could_tell_what_changed_is_told_how(tmp_path: Path) -> None:
    with private_folder("told") as folder, postgres(folder, programs=other_postgres.programs(17)) as server:
        (answer,) = servers(settings(tmp_path, server.dsn))
        assert answer.mark is Mark.NOTE
        assert "summarize_wal is off" in answer.message
        (dump,) = servers(settings(tmp_path, server.dsn, "logical"))
        assert (dump.mark, dump.message.split(".")[0]) == (Mark.OK, "17")
        for statement in answer.hint.rstrip(";").split("; "):
            server.sql(statement)
        server.stop()
        server.start()
        (answer,) = servers(settings(tmp_path, server.dsn))
        assert (answer.mark, answer.message.partition(", ")[2]) == (Mark.OK, "sends only what changed")


@pytest.mark.campaign
def test_older_servers_are_asked_for_nothing_that_they_lack(tmp_path: Path) -> None:
    with private_folder("old") as folder, postgres(folder, programs=other_postgres.programs(13)) as server:
        (answer,) = servers(settings(tmp_path, server.dsn))
        assert (answer.mark, answer.message.split(".")[0]) == (Mark.OK, "13")
