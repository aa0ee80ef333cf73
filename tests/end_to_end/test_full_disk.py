"""A disk that is full, as a real one: a small tmpfs in a mount namespace of its own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.conftest import environment

NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def in_namespace(home: Path, mounts: dict[Path, str], script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with small file systems mounted at some places."""
    steps = ["set -eu"]
    for place, size in mounts.items():
        place.mkdir(parents=True, exist_ok=True)
        steps.append(f"mount -t tmpfs -o size={size},mode=700 tmpfs {shlex.quote(str(place))}")
    keepwatch = shlex.join([sys.executable, "-m", "keepwatch"])
    steps += [f'keepwatch() {{ {keepwatch} "$@"; }}', "set +e", script]
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", "\n".join(steps)],
        env=environment(home), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_full_repository_disk_fails_the_run_with_a_hint_and_loses_nothing(office, tmp_path):
    daemon = office()
    (tmp_path / "documents" / "big.bin").write_bytes(os.urandom(30 << 20))
    done = in_namespace(
        tmp_path,
        {tmp_path / "disk": "24m"},
        f"""
        sed -i 's#^url = .*#url = "{tmp_path}/disk/repository"#' {daemon.config}
        mv {tmp_path}/documents/big.bin {tmp_path}/big.bin
        keepwatch backup --config {daemon.config} > {tmp_path}/first.out 2>&1; echo "first $?"
        mv {tmp_path}/big.bin {tmp_path}/documents/big.bin
        keepwatch backup --config {daemon.config} > {tmp_path}/second.out 2>&1; echo "second $?"
        export RESTIC_PASSWORD_FILE={tmp_path}/password RESTIC_REPOSITORY={tmp_path}/disk/repository
        restic --no-cache --no-lock check --read-data > {tmp_path}/check.out 2>&1; echo "check $?"
        restic --no-cache --no-lock snapshots --json > {tmp_path}/snapshots.json; echo "snapshots $?"
        rm {tmp_path}/documents/big.bin
        mount -o remount,size=200m {tmp_path}/disk
        keepwatch backup --config {daemon.config} > {tmp_path}/third.out 2>&1; echo "third $?"
        """,
    )
    assert done.stdout.split("\n")[:5] == ["first 0", "second 1", "check 0", "snapshots 0", "third 0"], done.stderr
    said = (tmp_path / "second.out").read_text()
    assert "no space left" in said.lower()
    assert "hint: free space there" in said
    assert "Traceback" not in said
    assert (tmp_path / "snapshots.json").read_text().count('"time"') == 1, "the earlier snapshot is there, no other"


def test_a_full_state_disk_is_a_one_line_error(office, tmp_path):
    daemon = office()
    done = in_namespace(
        tmp_path,
        {tmp_path / "state": "1m"},
        f"""
        head -c 2000000 /dev/zero > {tmp_path}/state/filler 2>/dev/null
        keepwatch backup --config {daemon.config} 2> {tmp_path}/error; echo "full $?"
        rm {tmp_path}/state/filler
        keepwatch backup --config {daemon.config} 2>> {tmp_path}/error; echo "freed $?"
        """,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "full 1", (done.stdout, done.stderr)
    assert lines[-1] == "freed 0", (done.stdout, done.stderr, (tmp_path / "error").read_text())
    said = (tmp_path / "error").read_text()
    assert "Traceback" not in said
    assert "hint: " in said
