"""Commands that look change nothing: no state directory, no database, no lock."""

import json
from pathlib import Path

import pytest

from keepwatch.cli.app import run
from keepwatch.state import StateDirectory

READING = (
    ("status", "--json"),
    ("alerts", "--json"),
    ("alerts", "--log"),
    ("alerts", "--actions"),
    ("silence",),
    ("why", "root disk"),
    ("replay",),
    ("report",),
    ("drill", "log"),
    ("plan", "list"),
    ("plan", "check"),
    ("plan", "log"),
    ("diagnose",),
    ("config", "check"),
    ("config", "show"),
)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_command_that_reads_makes_nothing(command: tuple[str, ...], tmp_path: Path) -> None:
    status = run([*command, "--state-dir", str(tmp_path / "state")])
    assert status in (0, 1, 2)
    assert list(tmp_path.iterdir()) == []


def test_status_tells_when_the_daemon_began_and_not_when_the_command_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = StateDirectory(tmp_path)
    run(["status", "--json", "--state-dir", str(tmp_path)])
    assert json.loads(capsys.readouterr().out)["daemon_started_at"] is None
    with state.lock("daemon", what="the daemon"):
        run(["status", "--json", "--state-dir", str(tmp_path)])
        told = json.loads(capsys.readouterr().out)
    assert told["daemon_running"] is True
    assert told["view"]["started_at"] == told["daemon_started_at"]
    assert told["view"]["started_at"] < told["view"]["made_at"]


def test_a_state_directory_of_somebody_else_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").write_text("no directory")
    assert run(["status", "--state-dir", str(tmp_path / "state")]) == 1
    assert "reading the state directory" in capsys.readouterr().err
