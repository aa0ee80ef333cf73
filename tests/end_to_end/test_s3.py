"""keepwatch's command line and restic on one repository in one bucket, over HTTP, as two machines would share it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup import s3_servers
from tests.backup.s3_faults import FAULTS, FaultyProxy
from tests.end_to_end.conftest import environment

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[s3_servers.S3Server]:
    with s3_servers.rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


class Office:
    """A source, a configuration and both programs."""

    def __init__(self, folder: Path, url: str, extra: str = ""):
        self.folder, self.url = folder, url
        self.source = folder / "documents"
        self.source.mkdir()
        for number in range(40):
            (self.source / f"invoice-{number}.txt").write_text(f"invoice {number}\n" * 50)
        (self.source / "scan.bin").write_bytes(os.urandom(3 << 20))
        for name, content in (
            ("password", PASSWORD), ("id", s3_servers.KEY_ID), ("key", s3_servers.SECRET_KEY)
        ):  # fmt: skip
            (folder / name).write_text(content + "\n")
            (folder / name).chmod(0o600)
        self.config = folder / "keepwatch.toml"
        self.config.write_text(f"""
[daemon]
state_dir = "{folder}/state"
[repositories.offsite]
url = "{url}"
password_file = "{folder}/password"
access_key_id_file = "{folder}/id"
secret_access_key_file = "{folder}/key"
{extra}
[jobs.documents]
source = {{ type = "files", paths = ["{self.source}"] }}
repositories = ["offsite"]
full = "sunday 02:00"
""")

    def keepwatch(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "keepwatch", *map(str, arguments), "--config", str(self.config)]
        env = environment(self.folder) | {"AWS_EC2_METADATA_DISABLED": "true", "TMPDIR": str(self.folder)}
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=110, stdin=subprocess.DEVNULL, check=False
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def restic(self, *arguments: object, url: str = "") -> str:
        env = environment(self.folder) | s3_servers.aws_environment()
        env |= {"RESTIC_REPOSITORY": url or self.url, "RESTIC_PASSWORD": PASSWORD}
        done = subprocess.run(
            ["restic", "--no-cache", *map(str, arguments)], env=env, capture_output=True, text=True, timeout=110,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"restic {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def content(self, root: Path) -> dict[str, bytes]:
        found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        assert found
        return found


def test_a_bucket_is_shared_with_restic_both_ways_and_drilled(server, tmp_path):
    office = Office(tmp_path, server.url("erp-1"))
    office.keepwatch("backup", "documents")
    office.restic("check", "--read-data")
    assert "passed" in office.keepwatch("drill", "documents").stdout
    office.restic("restore", "latest", "--target", tmp_path / "by-restic")
    below = str(office.source).lstrip("/")
    assert office.content(tmp_path / "by-restic" / below) == office.content(office.source)
    (office.source / "new.txt").write_text("since then\n")
    office.restic("backup", office.source)
    office.keepwatch("restore", "latest", "--target", tmp_path / "by-keepwatch")
    assert office.content(tmp_path / "by-keepwatch" / below) == office.content(office.source)
    assert len(json.loads(office.keepwatch("snapshots", "--json").stdout)) == 2


def test_wrong_keys_are_said_at_once_and_nothing_is_made(server, tmp_path):
    office = Office(tmp_path, server.url("nothing"))
    (tmp_path / "key").write_text(s3_servers.OTHER_SECRET_KEY + "\n")
    failed = office.keepwatch("backup", "documents", check=False)
    assert failed.returncode == 1
    assert "check access_key_id_file and secret_access_key_file" in failed.stdout + failed.stderr
    assert s3_servers.OTHER_SECRET_KEY not in failed.stdout + failed.stderr
    assert not (server.folder / s3_servers.BUCKET / "nothing").exists()


@pytest.mark.campaign
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_server_that_fails_three_times_in_ten_still_gets_a_sound_backup(server, tmp_path, seed):
    with FaultyProxy(server.address, seed=seed, share=0.3) as proxy:
        office = Office(tmp_path, f"s3:http://{proxy.address}/{s3_servers.BUCKET}/faulty-{seed}")
        office.keepwatch("backup", "documents")
        assert "passed" in office.keepwatch("drill", "documents").stdout
        assert "found" in office.keepwatch("drill", "documents", "--plant", "flipped-bit").stdout
        assert sum(proxy.done[fault] for fault in FAULTS) >= 5, "the proxy did no harm"
    office.restic("check", "--read-data", url=server.url(f"faulty-{seed}"))


@pytest.mark.campaign
def test_a_server_that_dies_for_good_ends_the_run_clean(server, tmp_path):
    with FaultyProxy(server.address, seed=3, share=0.0) as proxy:
        office = Office(tmp_path, f"s3:http://{proxy.address}/{s3_servers.BUCKET}/dying")
        office.keepwatch("backup", "documents")
        (office.source / "scan-2.bin").write_bytes(os.urandom(1 << 20))
        proxy.refuse_writes_after(2)
        failed = office.keepwatch("backup", "documents", check=False)
        assert failed.returncode == 1
        assert "could not" in failed.stdout + failed.stderr
        assert "Traceback" not in failed.stdout + failed.stderr
    office.restic("unlock", "--remove-all", url=server.url("dying"))
    office.restic("check", "--read-data", url=server.url("dying"))
    assert len(json.loads(office.restic("snapshots", "--json", url=server.url("dying")))) == 1
