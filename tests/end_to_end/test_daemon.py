"""The whole program, as an operator meets it."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import environment, keepwatch


def restic(home: Path, *arguments, repository=None, password=None):
    return subprocess.run(
        ["restic", "--no-cache", "-r", str(repository or home / "repository"),
         "--password-file", str(password or home / "password"), *map(str, arguments)],
        env=environment(home), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def protected(daemon):
    """The first full and incremental backup and the first drill are done."""
    kinds = {run["kind"] for run in daemon.view()["runs"] if run["outcome"] in ("succeeded", "passed")}
    return {"full", "incremental", "forget", "drill"} <= kinds


def test_from_the_first_start_on_everything_is_watched_saved_and_proven(office, tmp_path):
    daemon = office().start()
    daemon.until(lambda: protected(daemon), "saved and proven")
    view = daemon.view()
    assert [check["status"] for check in view["checks"]] == ["ok"]
    assert [snapshot["kind"] for snapshot in view["snapshots"]] == ["incremental", "full"]
    drill = view["drills"][0]
    assert drill["verdict"] == "PASSED"
    assert drill["rto_seconds"] > 0
    assert drill["files"] >= 20
    assert "documents" in daemon.get("/")
    metrics = subprocess.run(
        ["promtool", "check", "metrics"], input=daemon.get("/metrics"), capture_output=True, text=True, check=False
    )
    assert metrics.returncode == 0, metrics.stdout + metrics.stderr
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.said()
    check = restic(tmp_path, "check", "--read-data")
    assert check.returncode == 0, check.stderr
    back = tmp_path / "back"
    assert restic(tmp_path, "restore", "latest", "--target", back).returncode == 0
    restored = back / (tmp_path / "documents").relative_to("/")
    same = subprocess.run(["diff", "-r", restored, tmp_path / "documents"], capture_output=True, text=True, check=False)
    assert same.returncode == 0, same.stdout


def test_killed_in_the_middle_of_a_backup_it_recovers_and_the_next_run_succeeds(office, tmp_path):
    daemon = office().start()
    daemon.until(lambda: protected(daemon), "saved and proven")
    daemon.stop()
    big = tmp_path / "documents" / "big.bin"
    with big.open("wb") as file:
        for _ in range(256):
            file.write(os.urandom(1 << 20))
    daemon.start()
    request_full(daemon)
    run = daemon.until(lambda: daemon.runs(kind="full", outcome="running"), "a full backup runs")[0]
    workers = daemon.children()
    daemon.process.kill()
    daemon.process.wait()
    wait_until_gone(workers)
    daemon.start()
    interrupted = daemon.until(lambda: daemon.runs(id=run["id"], outcome="interrupted"), "it shows as interrupted")
    assert interrupted
    again = daemon.until(
        lambda: [r for r in daemon.runs(kind="full", outcome="succeeded") if r["id"] > run["id"]], "the next succeeds"
    )
    assert again[0]["figures"]["files_unreadable"] == 0
    daemon.stop()
    assert restic(tmp_path, "unlock").returncode == 0
    check = restic(tmp_path, "check", "--read-data")
    assert check.returncode == 0, check.stdout + check.stderr


def request_full(daemon):
    """What a person does who wants a run now, without waiting for it."""
    done = keepwatch("backup", "documents", "--full", "--detach", "--config", daemon.config, home=daemon.home)
    assert done.returncode == 0, done.stderr


def wait_until_gone(pids, seconds=30.0):
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "job children outlive their daemon"
        time.sleep(0.05)


def test_a_second_daemon_on_the_same_state_is_refused_by_name(office, tmp_path):
    daemon = office().start()
    second = keepwatch("run", "--config", daemon.config, home=tmp_path)
    assert second.returncode == 1
    assert f"already running as process {daemon.process.pid}" in second.stderr
    assert "hint:" in second.stderr


def test_a_port_in_use_is_a_one_line_error(office, tmp_path):
    daemon = office().start()
    other = daemon.config.with_name("other.toml")
    other.write_text(daemon.config.read_text().replace("/state", "/other-state"))
    second = keepwatch("run", "--config", other, home=tmp_path)
    assert second.returncode == 1
    assert f"listening on 127.0.0.1:{daemon.port}: Address already in use" in second.stderr
    assert "Traceback" not in second.stderr


def test_an_unusable_state_directory_is_a_one_line_error(office, tmp_path):
    daemon = office()
    (tmp_path / "state").write_text("in the way")
    refused = keepwatch("run", "--config", daemon.config, home=tmp_path)
    assert refused.returncode == 1
    assert "preparing the state directory" in refused.stderr
    assert "hint: make it writable" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_bad_reload_keeps_the_old_settings_and_raises_an_alert_about_itself(office):
    daemon = office().start()
    daemon.until(lambda: protected(daemon), "saved and proven")
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace('every = "1s"', 'evry = "1s"'))
    daemon.send(signal.SIGHUP)
    firing = daemon.until(
        lambda: [a for a in daemon.view()["alerts"] if a["entity"] == "configuration" and a["state"] == "firing"],
        "the alert about the configuration",
    )
    assert "evry" in firing[0]["message"]
    assert daemon.view()["config_reload_ok"] is False
    assert daemon.view()["checks"][0]["check"] == "root disk", "the old settings stay in force"
    daemon.config.write_text(good.replace('"root disk"', '"the disk"'))
    daemon.send(signal.SIGHUP)
    daemon.until(lambda: [c["check"] for c in daemon.view()["checks"]] == ["the disk"], "the new check runs")
    daemon.until(
        lambda: not [a for a in daemon.view()["alerts"] if a["entity"] == "configuration" and a["state"] == "firing"],
        "the alert resolves",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_of_a_backup_is_clean(office, tmp_path, number):
    with (tmp_path / "documents" / "big.bin").open("wb") as file:
        for _ in range(128):
            file.write(os.urandom(1 << 20))
    daemon = office().start(wait=False)
    daemon.until(lambda: (tmp_path / "repository" / "config").exists(), "the first backup runs")
    assert daemon.stop(number) == 0
    assert not list((tmp_path / "repository" / "locks").iterdir()), "no lock is left behind"
    assert "Traceback" not in daemon.said()


def test_a_second_ctrl_c_stops_at_once_and_nothing_is_damaged(office, tmp_path):
    with (tmp_path / "documents" / "big.bin").open("wb") as file:
        for _ in range(256):
            file.write(os.urandom(1 << 20))
    daemon = office().start(wait=False)
    daemon.until(lambda: daemon.is_ready() and daemon.runs(kind="full", outcome="running"), "the first backup runs")
    children = daemon.children()
    for child in children:
        os.kill(child, signal.SIGSTOP)  # children that cannot end in time
    daemon.send(signal.SIGINT)
    daemon.until(lambda: "waiting for runs to end" in daemon.said(), "it waits")
    began = time.monotonic()
    assert daemon.stop(signal.SIGINT) == 130
    assert time.monotonic() - began < 10
    wait_until_gone(children)
    daemon.start()
    daemon.until(lambda: daemon.runs(kind="full", outcome="succeeded"), "the next run succeeds")


def test_a_wrong_password_fails_the_run_with_a_hint_and_is_alerted(office, tmp_path):
    daemon = office().start()
    daemon.until(lambda: protected(daemon), "saved and proven")
    (tmp_path / "password").write_text("mistaken\n")
    refused = keepwatch("backup", "--config", daemon.config, home=tmp_path)
    assert refused.returncode == 12
    assert "hint:" in refused.stderr
    alert = daemon.until(
        lambda: [a for a in daemon.view()["alerts"] if a["check"] == "backup documents" and a["state"] == "firing"],
        "the alert about the failed run",
    )
    assert "password" in alert[0]["message"]


def test_a_repository_that_is_gone_is_not_silently_made_anew(office, tmp_path):
    daemon = office().start()
    daemon.until(lambda: protected(daemon), "saved and proven")
    daemon.stop()
    shutil.rmtree(tmp_path / "repository")
    for command in ("snapshots", "backup"):
        refused = keepwatch(command, "--config", daemon.config, home=tmp_path)
        assert refused.returncode == 10, refused.stderr
        assert "hint:" in refused.stderr
    assert "it was there before: is its disk mounted?" in refused.stderr
    assert not (tmp_path / "repository").exists()


