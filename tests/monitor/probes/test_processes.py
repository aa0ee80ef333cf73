"""Processes by state and by program, on captured trees and on real children of this test."""

import subprocess
import sys
import time
from typing import Any

import pytest

from monitor.probes.processes import ProcessesProbe, ProcessProbe
from monitor.probes.procfs import PAGE_BYTES, TICKS_PER_SECOND
from monitor.result import ProbeError, Status

SLEEPER = "import sys, time; open('/dev/null'); print('up', flush=True); time.sleep(60)"
BUSY = "print(flush=True)\nwhile True: pass"


def test_processes_are_counted_by_state(proc: Any, values: Any) -> None:
    proc.process(1, "systemd")
    proc.process(2, "kworker/0:1-events", state="I")
    proc.process(30, "nfsd) D (", state="D")
    proc.process(31, "defunct", state="Z")
    proc.write("uptime", "1 1\n")
    assert values(ProcessesProbe(proc.path).measure()) == {"count": 4, "zombies": 1, "uninterruptible": 1}


def test_a_process_that_ends_during_the_scan_is_left_out(proc: Any, values: Any) -> None:
    proc.process(1, "systemd")
    (proc.path / "77").mkdir()
    assert values(ProcessesProbe(proc.path).measure())["count"] == 1


def test_a_machine_without_proc_is_an_error(proc: Any) -> None:
    with pytest.raises(ProbeError, match="listing processes"):
        ProcessesProbe(proc.path).measure()


def test_one_programs_processes_are_added_up(proc: Any, fake_time: Any, values: Any) -> None:
    proc.write("uptime", "1000.0 1\n")
    ticks = TICKS_PER_SECOND
    proc.process(10, "postgres", cpu_ticks=100 * ticks, pages=1000, started_ticks=100 * ticks, files=3)
    proc.process(11, "postgres", cpu_ticks=50 * ticks, pages=500, started_ticks=400 * ticks, files=2)
    proc.process(12, "postgresql-helper", pages=9)
    probe = ProcessProbe("postgres", proc=proc.path, timing=fake_time.timing)
    probe.measure()
    fake_time.now += 10
    proc.write("uptime", "1010.0 1\n")
    proc.process(10, "postgres", cpu_ticks=105 * ticks, pages=1000, started_ticks=100 * ticks, files=3)
    proc.process(13, "postgres", cpu_ticks=2 * ticks, pages=100, started_ticks=1005 * ticks, files=1)
    measured = probe.measure()
    assert measured.finding is None
    assert values(measured) == pytest.approx(
        {"count": 3, "cpu": 0.7, "memory_bytes": 1600 * PAGE_BYTES, "open_files": 6, "oldest": 910}
    )


def test_a_name_longer_than_the_kernel_keeps_is_compared_with_the_command_line(proc: Any, values: Any) -> None:
    proc.write("uptime", "1000.0 1\n")
    proc.process(10, "prometheus-node", arguments="/usr/bin/prometheus-node-exporter --web")
    proc.process(11, "prometheus-node", arguments="/usr/bin/prometheus-node-other")
    proc.process(12, "prometheus-node", arguments="/usr/bin/python3 /usr/bin/prometheus-node-exporter")
    assert values(ProcessProbe("prometheus-node-exporter", proc=proc.path).measure())["count"] == 2


def test_a_regular_expression_is_searched_in_the_command_line(proc: Any, values: Any) -> None:
    proc.write("uptime", "1000.0 1\n")
    proc.process(10, "python3", arguments="python3 /srv/importer.py --daily")
    proc.process(11, "python3", arguments="python3 /srv/other.py")
    proc.process(12, "kthreadd")
    probe = ProcessProbe(r"importer\.py\b", regex=True, proc=proc.path)
    assert values(probe.measure())["count"] == 1


def test_no_process_is_critical_unless_thresholds_judge_it(proc: Any, fake_time: Any, values: Any) -> None:
    proc.process(10, "importer", state="Z")
    alone = ProcessProbe("importer", proc=proc.path, timing=fake_time.timing).measure()
    assert alone.finding is not None
    assert (alone.finding.status, values(alone)["count"]) == (Status.CRITICAL, 0)
    judged = ProcessProbe("importer", none_is_critical=False, proc=proc.path, timing=fake_time.timing).measure()
    assert judged.finding is None


def test_a_real_process_is_seen_and_its_death_too(values: Any) -> None:
    mark = f"keepwatch-test-{time.monotonic_ns()}"
    probe = ProcessProbe(mark, regex=True)
    child = subprocess.Popen([sys.executable, "-c", SLEEPER, mark], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        alive = probe.measure()
        assert alive.finding is None
        assert values(alive)["count"] == 1
        assert values(alive)["memory_bytes"] > 1024 * 1024
        assert values(alive)["open_files"] >= 3
        assert 0 <= values(alive)["oldest"] < 60
        child.kill()
        deadline = time.monotonic() + 10  # killed and not reaped: a zombie, which is as dead
        while probe.measure().finding is None:
            assert time.monotonic() < deadline
    finally:
        child.kill()
        child.communicate()


def test_a_busy_process_is_seen_to_use_a_core(values: Any) -> None:
    mark = f"keepwatch-busy-{time.monotonic_ns()}"
    child = subprocess.Popen([sys.executable, "-c", BUSY, mark], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert values(ProcessProbe(mark, regex=True).measure())["cpu"] > 0.05
    finally:
        child.kill()
        child.communicate()


def test_this_machine_has_processes(values: Any) -> None:
    assert values(ProcessesProbe().measure())["count"] >= 1
