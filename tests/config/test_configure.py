"""``keepwatch config`` as an operator calls it: results on stdout, the rest on stderr, exit status 0 or 2."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from config import default

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("KEEPWATCH_")}
    environ["PYTHONPATH"] = str(ROOT)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "keepwatch", "config", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_configuration_that_is_begun_checks_out(run: Run, tmp_path: Path) -> None:
    begun = run("init", "--output", "keepwatch.toml", "--state-dir", "state")
    assert (begun.returncode, begun.stdout) == (0, "")
    written = tomllib.loads((tmp_path / "keepwatch.toml").read_text())
    assert written["repositories"]["local"]["url"] == f"{tmp_path}/state/repository"
    checked = run("check")
    assert checked.returncode == 0, checked.stderr
    checks = default.text(Path("/state")).count("[[checks]]")
    counted = f"{checks} checks, 1 job, 1 repository, 0 notification channels"
    assert checked.stdout == f"{counted}: no problems in keepwatch.toml\n"
    nobody, no_password = checked.stderr.splitlines()
    assert nobody == "note: nobody is told of alerts: there is no [[notify]]"
    file = f"{tmp_path}/state/repository.password"
    assert no_password.startswith(f"note: repository local, password_file: cannot read the secret file {file}: no such")
    assert f"openssl rand -base64 32 >{file}" in no_password


def test_a_channel_of_no_known_service_is_remarked_without_its_secret(run: Run, tmp_path: Path) -> None:
    urls = {"good": "json://localhost/x", "bad": "foo://secret@host", "ugly": "mailtos://user:secret@"}
    channels = [f'[[notify]]\nname = "{name}"\nurl = "{url}"\n' for name, url in urls.items()]
    (tmp_path / "keepwatch.toml").write_text("".join(channels))
    checked = run("check")
    assert checked.returncode == 0, checked.stderr
    assert "channel bad can tell nobody" in checked.stderr
    assert "channel ugly can tell nobody" in checked.stderr
    assert "channel good" not in checked.stderr
    assert "secret" not in checked.stderr + checked.stdout


def test_a_configuration_that_is_there_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "keepwatch.toml").write_text("mine")
    refused = run("init", "--output", "keepwatch.toml")
    assert refused.returncode == 2
    assert "cannot write keepwatch.toml: it exists" in refused.stderr
    assert (tmp_path / "keepwatch.toml").read_text() == "mine"


def test_problems_go_to_stderr_all_at_once_with_status_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "keepwatch.toml").write_text('[daemon]\nhots = "x"\n\n[web]\nlisten = 1\n')
    failed = run("check")
    assert (failed.returncode, failed.stdout) == (2, "")
    lines = failed.stderr.splitlines()
    assert lines[0] == "keepwatch.toml:2: daemon.hots: unknown key; did you mean 'host'?"
    assert lines[1] == "keepwatch.toml:5: web.listen: must be text in quotes (got 1)"
    assert "2 problems" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("exclude", "swallowed"), [("*.tmp", True), ("/srv/repository/", False), ("repository/", False)]
)
def test_a_job_that_backs_up_its_own_repository_is_remarked(
    run: Run, tmp_path: Path, exclude: str, swallowed: bool
) -> None:
    (tmp_path / "keepwatch.toml").write_text(f"""
        [repositories.local]
        url = "/srv/repository"
        password_file = "/p"
        [jobs.all]
        source = {{ type = "files", paths = ["/srv"], exclude = ["{exclude}"] }}
        repositories = ["local"]
    """)
    checked = run("check")
    assert checked.returncode == 0
    assert ("job all backs up its own repository local" in checked.stderr) == swallowed
    assert "nothing is watched" in checked.stderr
    assert "job all runs only by hand" in checked.stderr
    assert "nothing proves that job all comes back" in checked.stderr


def test_an_object_lock_that_nothing_renews_is_remarked(run: Run, tmp_path: Path) -> None:
    text = '[repositories.offsite]\nurl = "s3:https://host/bucket"\npassword_file = "/p"\nobject_lock = "30d"\n'
    (tmp_path / "keepwatch.toml").write_text(text)
    assert "what repository offsite stores is protected for its first 30d only" in run("check").stderr
    (tmp_path / "keepwatch.toml").write_text(text + 'extend = "sunday 06:30"\n')
    assert "protected" not in run("check").stderr


def test_the_settings_in_force_are_shown_as_toml_and_as_json(run: Run, tmp_path: Path) -> None:
    (tmp_path / "keepwatch.toml").write_text('[heartbeat]\nurl = "https://ping.example/hunter2"\n')
    shown, as_json = run("show"), run("show", "--json")
    assert tomllib.loads(shown.stdout)["heartbeat"]["url"] == "**********"
    data = json.loads(as_json.stdout)
    assert data["settings"]["heartbeat"] == {"url": "**********", "every": "1m"}
    assert data["files"] == ["keepwatch.toml"]
    assert "heartbeat.every" in data["defaults"]
    assert "hunter2" not in shown.stdout + as_json.stdout


def test_the_schema_is_json_with_the_keys_operators_write(run: Run) -> None:
    schema = json.loads(run("schema").stdout)
    assert {"for", "every", "on_critical"} <= set(schema["$defs"]["DiskCheck"]["properties"])
    assert "raise" in schema["$defs"]["Bound"]["properties"]


def test_every_help_ends_with_an_example_and_the_exit_status(run: Run) -> None:
    for command in ("init", "check", "show", "schema"):
        text = run(command, "--help").stdout
        assert f"Example: keepwatch config {command}" in text
        assert "EXIT STATUS" in text
