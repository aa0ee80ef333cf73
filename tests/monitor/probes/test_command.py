"""Plugins as real programs: their verdicts, and everything that a program can do wrong."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from monitor.probes.command import OUTPUT_LIMIT_BYTES, CommandProbe
from monitor.probes.program import Program
from monitor.result import ProbeError, Status


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    """Make a shell script and return a probe that runs it."""

    def make(script: str, timeout: float = 20.0, arguments: str = "", **environment: str) -> CommandProbe:
        path = tmp_path / "check it"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return CommandProbe(f"'{path}' {arguments}", environment, timeout)

    return make


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_exit_code_is_the_finding(plugin: Any, code: int) -> None:
    measured = plugin(f"echo 'LOAD is so | load1=0.5;5;10'; exit {code}").measure()
    assert (measured.finding.status, measured.finding.message) == (Status(code), "LOAD is so")
    assert [(reading.name, reading.value) for reading in measured.readings] == [("load1", 0.5)]


def test_a_plugin_with_several_lines_is_told_by_its_first(plugin: Any) -> None:
    measured = plugin("echo 'TWO DISKS | a=1'; echo 'disk a is well'; echo 'disk b is well | b=2'; exit 2").measure()
    assert (measured.finding.status, measured.finding.message) == (Status.CRITICAL, "TWO DISKS")
    assert [reading.name for reading in measured.readings] == ["a", "b"]


def test_a_silent_plugin_is_judged_by_its_code_and_its_complaint_told(plugin: Any) -> None:
    assert plugin("exit 1").measure().finding.message == "exit code 1 and no output"
    assert plugin("echo 'no such host' >&2; exit 3").measure().finding.message == "no such host"


def test_arguments_are_split_as_a_shell_would_and_nothing_is_expanded(plugin: Any) -> None:
    probe = plugin('echo "$#:$1:$2"', arguments="'two words' $HOME;ls")
    assert probe.measure().finding.message == "2:two words:$HOME;ls"


def test_a_plugin_gets_its_environment_and_none_of_the_daemons_secrets(
    plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "hunter2")
    measured = plugin('echo "$TOKEN/${SMTP_PASSWORD-unset}/${PATH:+path}"', TOKEN="t").measure()
    assert measured.finding.message == "t/unset/path"


def test_a_hung_plugin_is_killed_with_everything_it_started(plugin: Any, tmp_path: Path) -> None:
    probe = plugin(f"sleep 300 & echo $! > '{tmp_path}/pid'; wait", timeout=0.7)
    began = time.monotonic()
    with pytest.raises(ProbeError, match=r"no end after 0\.7 s, killed"):
        probe.measure()
    assert time.monotonic() - began < 5
    grandchild = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{grandchild}/stat").exists() and _state(grandchild) != "Z":
        assert time.monotonic() < deadline


def test_a_plugin_that_talks_for_ever_is_killed_too(plugin: Any) -> None:
    with pytest.raises(ProbeError, match="no end after"):
        plugin("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx; done", timeout=0.7).measure()


def test_a_plugin_that_closes_its_output_and_stays_is_killed(plugin: Any) -> None:
    with pytest.raises(ProbeError, match="no end after"):
        plugin("exec >&- 2>&-; sleep 300", timeout=0.7).measure()


def test_a_process_left_behind_with_the_output_open_holds_nobody_up(plugin: Any) -> None:
    began = time.monotonic()
    measured = plugin("sleep 20 & echo \"OK $!\"").measure()
    assert time.monotonic() - began < 10
    os.kill(int(measured.finding.message.split()[1]), 9)


def test_a_killed_plugin_that_hangs_on_is_not_started_again(plugin: Any) -> None:
    probe = plugin("exit 0")
    with subprocess.Popen(["sleep", "60"]) as other:
        probe._program = Program(["true"], 1)
        probe._program._left_behind = other
        with pytest.raises(ProbeError, match="still hangs"):
            probe.measure()
        other.kill()
    assert probe.measure().finding.status is Status.OK


def test_output_beyond_the_cap_is_thrown_away(plugin: Any) -> None:
    measured = plugin("head -c 3000000 /dev/zero | tr '\\0' x; exit 1").measure()
    assert measured.finding.status is Status.WARNING
    assert len(measured.finding.message) <= OUTPUT_LIMIT_BYTES


def test_output_that_is_not_utf8_is_read_as_far_as_it_goes(plugin: Any) -> None:
    measured = plugin(r"printf 'caf\351 | temp=20\377C a=1'; exit 1").measure()
    assert measured.finding.message.startswith("caf\ufffd")
    assert "not understood" in measured.finding.message
    assert [reading.name for reading in measured.readings] == ["a"]


@pytest.mark.parametrize("output", ["", "|", "||||", "| = = ;;;", "\\0\\0\\0", "OK |'unfinished"])
def test_garbage_is_still_a_verdict(plugin: Any, output: str) -> None:
    measured = plugin(f"printf \"{output}\"; exit 2").measure()
    assert measured.finding.status is Status.CRITICAL
    assert measured.readings == ()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo boom >&2; exit 77", "exit code 77 is not one of a plugin.*boom"),
        ("kill -SEGV $$", "ended by SIGSEGV"),
        ("echo half; kill -9 $$", "ended by SIGKILL"),
    ],
)
def test_a_plugin_that_fails_is_no_verdict(plugin: Any, script: str, reason: str) -> None:
    with pytest.raises(ProbeError, match=reason):
        plugin(script).measure()


@pytest.mark.parametrize("command", ["/does/not/exist", "/etc/passwd", "'unclosed", ""])
def test_a_command_that_cannot_be_started_is_an_error(command: str) -> None:
    with pytest.raises(ProbeError, match="running"):
        CommandProbe(command, {}, 5).measure()


def test_a_plugin_reads_nothing_from_the_terminal(plugin: Any) -> None:
    assert plugin("read line || echo closed").measure().finding.message == "closed"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
