import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest
import typer
import typer.main

from keepwatch.cli.app import COMMANDS, run
from keepwatch.cli.mounting import mount
from keepwatch.cli.output import print_table


def test_each_module_registers_the_commands_that_the_table_says():
    for module in {module for module, _ in COMMANDS.values()}:
        app = typer.Typer()
        app.callback()(lambda: None)
        import_module(f"keepwatch.cli.{module}").register(app)
        named = {name for name, (its_module, _) in COMMANDS.items() if its_module == module}
        assert set(typer.main.get_command(app).commands) == named, module


def test_the_help_lists_every_command_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for name, (_, summary) in COMMANDS.items():
        assert f"{name} {summary}" in lines


def test_a_command_that_there_is_not_is_answered_by_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stauts"]) == 2
    assert "'status'" in capsys.readouterr().err


def loaded_by(*arguments: str) -> set[str]:
    """Return the modules that a command has loaded at its end."""
    script = "import sys; from keepwatch.cli.app import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", script, *arguments]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())


def test_help_pays_for_no_command() -> None:
    loaded = loaded_by("--help")
    assert {name for name in loaded if name.startswith("keepwatch.cli.")} == {"keepwatch.cli.app"}
    assert not {"pydantic", "backup", "monitor", "config", "rich"} & loaded


def test_a_command_does_not_pay_for_the_others() -> None:
    loaded = loaded_by("silence", "--help")
    assert "keepwatch.cli.alerts" in loaded
    assert not {"keepwatch.cli.backups", "backup.archiver", "monitor.build"} & loaded


@dataclass(frozen=True)
class Inner:
    depth: Annotated[int, typer.Option("--depth")] = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner
    colour: Annotated[str, typer.Option("--colour")] = "red"


def test_a_parameter_that_is_a_dataclass_is_made_of_the_options_of_its_fields() -> None:
    app = typer.Typer()
    called: list[tuple[str, Outer, bool]] = []

    def paint(outer: Outer, what: str, twice: Annotated[bool, typer.Option("--twice")] = False) -> int:
        called.append((what, outer, twice))
        return 3

    mount(app, paint, "paint it")
    assert app(["wall", "--depth", "7", "--twice"], standalone_mode=False) == 3
    assert app(["door", "--colour", "blue"], standalone_mode=False) == 3
    assert called == [("wall", Outer(Inner(7)), True), ("door", Outer(Inner(), "blue"), False)]


def test_a_row_of_a_table_in_a_pipe_is_one_line_however_much_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("what", "why"), [("short", "word " * 200), ("x", "y")], empty="")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["what", "short", "x"]


def test_run_refuses_a_bad_address_for_the_page_before_it_does_anything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "keepwatch", "run", "--listen", "0.0.0.0:1", "--state-dir", str(tmp_path / "st")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "command line:1: web.listen: is no loopback address" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["backup"], ["drill"], ["snapshots"], ["key", "list"]])
def test_a_command_before_the_first_use_says_how_to_begin(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "--state-dir", "nothing"]) == 10
    told = capsys.readouterr().err
    assert f"nothing is configured, and keepwatch never ran on {tmp_path}/nothing" in told
    assert "hint: begin with `keepwatch run`" in told
    assert list(tmp_path.iterdir()) == []


def test_a_repository_without_its_password_is_no_first_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "config").touch()
    assert run(["snapshots", "--state-dir", str(tmp_path)]) == 1
    assert "cannot read the secret file" in capsys.readouterr().err


def test_a_binlog_of_a_job_that_has_none_is_refused_without_the_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    monkeypatch.delitem(sys.modules, "keepwatch.wal.binlogs", raising=False)
    monkeypatch.delitem(sys.modules, "backup.applications.mariadb_connection", raising=False)
    assert run(["binlog", "system", "--once", "--state-dir", str(tmp_path)]) == 2
    assert "no job system backs up MariaDB" in capsys.readouterr().err
