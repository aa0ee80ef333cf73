import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
import typer.main

from keepwatch.cli.app import COMMANDS, make_app
from keepwatch.cli.output import print_table


def test_each_module_registers_the_commands_that_the_table_says():
    for module, names in COMMANDS.items():
        app = typer.Typer()
        app.callback()(lambda: None)
        import_module(f"keepwatch.cli.{module}").register(app)
        assert set(typer.main.get_command(app).commands) == set(names), module


def test_the_help_lists_every_command():
    known = {name for names in COMMANDS.values() for name in names}
    assert set(typer.main.get_command(make_app()).commands) == known
    assert set(typer.main.get_command(make_app("nonsense")).commands) == known


def test_a_command_does_not_pay_for_the_others():
    script = "import sys; from keepwatch.cli.app import make_app; make_app('silence'); print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "keepwatch.cli.alerts" in loaded
    assert not {"keepwatch.cli.backups", "backup.archiver", "monitor.build"} & loaded


def test_a_row_of_a_table_in_a_pipe_is_one_line_however_much_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("what", "why"), [("short", "word " * 200), ("x", "y")], empty="")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["what", "short", "x"]


def test_run_refuses_a_bad_address_for_the_page_before_it_does_anything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "keepwatch", "run", "--listen", "0.0.0.0:1", "--state-dir", str(tmp_path / "st")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "command line:1: web.listen: is no loopback address" in refused.stderr
    assert list(tmp_path.iterdir()) == []
