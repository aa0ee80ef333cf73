"""A new machine: nothing but a repository, its password, and keepwatch or plain restic; everything comes back.

The lines are those of deploy/runbooks/bare-machine.md: a test reads them there, so that the runbook cannot rot.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import keepwatch

RUNBOOK = Path(__file__).resolve().parents[2] / "deploy/runbooks/bare-machine.md"


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    """A folder that survived: a repository with two jobs' snapshots, and the password on paper. All else has burnt."""
    old = tmp_path / "old"
    for job in ("ledger", "documents"):
        (old / job / "deep").mkdir(parents=True)
        (old / job / "deep/one.txt").write_text(f"{job} one\n" * 2000)
        (old / job / "secret").write_bytes(os.urandom(100_000))
        (old / job / "secret").chmod(0o640)
        (old / job / "link").symlink_to("secret")
        os.utime(old / job / "deep/one.txt", (1_600_000_000, 1_600_000_000))
    safe = tmp_path / "safe"
    safe.mkdir()
    (safe / "password").write_text("correct horse\n")
    (safe / "password").chmod(0o600)
    config = old / "keepwatch.toml"
    config.write_text(f"""
[daemon]
state_dir = "{old}/state"
[repositories.offsite]
url = "{safe}/repository"
password_file = "{safe}/password"
[jobs.ledger]
source = {{ type = "files", paths = ["{old}/ledger"] }}
repositories = ["offsite"]
[jobs.documents]
source = {{ type = "files", paths = ["{old}/documents"] }}
repositories = ["offsite"]
""")
    keepwatch("backup", "--config", config, home=old, check=True)
    for job in ("ledger", "documents"):
        shutil.copytree(old / job, tmp_path / f"as-it-was/{job}", symlinks=True)
    shutil.rmtree(old)
    return safe


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The home of a new machine's user: empty."""
    home = tmp_path / "bare"
    home.mkdir()
    return home


def line_of_the_runbook(beginning: str, safe: Path, target: Path, snapshot: str) -> list[str]:
    """Return the runbook's own command, with its example paths replaced by those of this test."""
    text = " ".join(RUNBOOK.read_text(encoding="utf-8").split())
    [line] = {found for found in re.findall(r"`([^`]+)`", text) if found.startswith(beginning)}
    for example, here in (("/mnt/repository", safe / "repository"), ("/root/password", safe / "password")):
        line = line.replace(example, str(here))
    return [part.replace("SNAPSHOT", snapshot) for part in shlex.split(line.replace("/mnt/new", str(target)))]


def by_job(listed: str) -> dict[str, str]:
    """Return the id of each job's snapshot from a listing in JSON, keepwatch's or restic's."""
    tagged = [(tag, s["id"]) for s in json.loads(listed) for tag in s["tags"]]
    return {tag.removeprefix("job:"): snapshot for tag, snapshot in tagged if tag.startswith("job:")}


def is_as_it_was(job: str, safe: Path, target: Path) -> None:
    was, came = safe.parent / "as-it-was" / job, Path(f"{target}{safe.parent}/old/{job}")
    assert sorted(p.relative_to(was) for p in was.rglob("*")) == sorted(p.relative_to(came) for p in came.rglob("*"))
    assert (came / "deep/one.txt").read_text() == (was / "deep/one.txt").read_text()
    assert (came / "secret").read_bytes() == (was / "secret").read_bytes()
    assert oct((came / "secret").stat().st_mode) == oct((was / "secret").stat().st_mode)
    assert (came / "deep/one.txt").stat().st_mtime == 1_600_000_000
    assert os.readlink(came / "link") == "secret"


def on_the_new_machine(line: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keepwatch", *line[1:]] if line[0] == "keepwatch" else line
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, timeout=100, check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_keepwatch_brings_everything_back_without_configuration_or_state(safe: Path, bare: Path) -> None:
    listed = on_the_new_machine([*line_of_the_runbook("keepwatch snapshots", safe, bare, ""), "--json"], bare)
    snapshots = by_job(listed.stdout)
    assert set(snapshots) == {"ledger", "documents"}
    for job, snapshot in snapshots.items():
        target = safe.parent / f"new-{job}"
        on_the_new_machine(line_of_the_runbook("keepwatch restore", safe, target, snapshot), bare)
        is_as_it_was(job, safe, target)
    assert list(bare.iterdir()) == [], "nothing but the target was written"


def test_plain_restic_brings_everything_back(safe: Path, bare: Path) -> None:
    restic = "restic -r /mnt/repository -p /root/password"
    listed = on_the_new_machine([*line_of_the_runbook(f"{restic} snapshots", safe, bare, ""), "--json"], bare)
    for job, snapshot in by_job(listed.stdout).items():
        target = safe.parent / f"new-{job}"
        line = line_of_the_runbook(f"{restic} restore", safe, target, snapshot)
        on_the_new_machine(line, bare)
        is_as_it_was(job, safe, target)


def test_the_newest_of_a_job_is_found_without_an_id_and_a_wrong_password_says_so(safe: Path, bare: Path) -> None:
    line = line_of_the_runbook("keepwatch restore", safe, bare.parent / "new", "latest")
    on_the_new_machine([*line, "--job", "ledger"], bare)
    is_as_it_was("ledger", safe, bare.parent / "new")
    (safe / "password").write_text("battery staple\n")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        on_the_new_machine(line, bare)
    assert (refused.value.returncode, "password" in refused.value.stderr) == (12, True)
