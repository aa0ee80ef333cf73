"""From settings to checks: every class has its probe, and what probes give is what the settings promise."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from config.checks import TYPES, CheckSettings, model_of, readings_of
from monitor.build import build_checks, recipe_of
from monitor.check import Check, run_check
from monitor.probes.file_systems import FileSystems
from monitor.result import Result, Status

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def file_systems() -> Iterator[FileSystems]:
    some = FileSystems()
    yield some
    some.close()


def clock() -> datetime:
    return NOW


def build(file_systems: FileSystems, **about: Any) -> Check:
    settings = TypeAdapter(CheckSettings).validate_python({"name": "it", **about})
    (check,) = build_checks([settings], file_systems=file_systems, clock=clock)
    return check


def run(check: Check) -> list[Result]:
    return run_check(check, {}, clock)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_has_a_probe(kind: str) -> None:
    assert recipe_of(model_of(kind).model_construct(name="it", type=kind)).probe


def test_a_check_carries_what_the_settings_say(file_systems: FileSystems) -> None:
    check = build(
        file_systems, type="disk", path="/", every="10s", timeout="3s", keep_firing_for="1m", min_samples=3,
        warning="> 85%", critical=["> 95%", {"reading": "inodes_used", "raise": "> 95%"}],
        labels={"team": "ops"}, runbook="disk-full", depends_on=["array"], on_critical={"run": "clean"},
        **{"for": "5m"},
    )  # fmt: skip
    assert (check.name, check.type, check.subject) == ("it", "disk", "/")
    assert (check.every, check.timeout) == (timedelta(seconds=10), timedelta(seconds=3))
    assert (check.for_, check.keep_firing_for, check.min_samples) == (timedelta(minutes=5), timedelta(minutes=1), 3)
    assert (len(check.warning), len(check.critical)) == (1, 2)
    assert (dict(check.labels), check.runbook, check.depends_on) == ({"team": "ops"}, "disk-full", ("array",))
    assert check.on_critical is not None


HOST = ["cpu", "load", "memory", "swap", "disk", "disk_io", "network", "temperature", "fans", "uptime", "processes",
        "file_descriptors", "file_systems", "pressure", "oom_kills", "conntrack", "entropy", "users", "stuck_processes",
        "process_limits", "cgroups", "reboot", "failed_logins", "smart", "md_raid", "zfs", "btrfs", "lvm",
        "memory_errors", "machine_checks", "power_supply", "battery", "link", "bond", "ipmi_sensors",
        "ipmi_events"]  # fmt: skip


@pytest.mark.parametrize("kind", HOST)
def test_a_host_check_runs_here_and_gives_what_the_settings_promise(kind: str, file_systems: FileSystems) -> None:
    results = run(build(file_systems, type=kind))
    assert results
    for result in results:
        assert result.status in (Status.OK, Status.ABSENT), result.message
        promised = readings_of(kind)
        given = {reading.name: reading.unit for reading in result.readings}
        assert given.items() <= promised.items()
        if given:
            assert next(iter(given)) == next(iter(promised)), "the main reading does not come first"


def test_a_check_of_a_program_promises_what_it_gives(file_systems: FileSystems) -> None:
    (result,) = run(build(file_systems, type="process", command="python", match="regex"))
    assert {reading.name: reading.unit for reading in result.readings}.items() <= readings_of("process").items()
    assert result.status is Status.OK


def test_a_program_that_does_not_run_is_critical_without_thresholds_and_judged_with(file_systems: FileSystems) -> None:
    alone = build(file_systems, type="process", command="no-such-program")
    assert run(alone)[0].status is Status.CRITICAL
    judged = build(file_systems, type="process", command="no-such-program", warning="> 5")
    assert run(judged)[0].status is Status.OK
    assert run(judged)[0].message == "0 running: no-such-program"


def test_a_refused_port_raises_the_alarm(file_systems: FileSystems) -> None:
    (result,) = run(build(file_systems, type="tcp", port=1))
    assert (result.status, result.message) == (
        Status.CRITICAL, "cannot connect to 127.0.0.1:1: connection refused",
    )  # fmt: skip


def test_a_web_address_that_does_not_answer_raises_the_alarm(file_systems: FileSystems) -> None:
    check = build(file_systems, type="http", url="http://me:secret@127.0.0.1:1/", headers={"X-Key": "k"}, body="b")
    (result,) = run(check)
    assert result.status is Status.CRITICAL
    assert check.subject == "http://127.0.0.1:1/"


def test_a_plugins_verdict_and_a_threshold_on_its_data_count(file_systems: FileSystems, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text('#!/bin/sh\necho "QUEUE OK: $LENGTH waiting | length=$LENGTH;;;0"\n', encoding="utf-8")
    plugin.chmod(0o755)
    bounds: dict[str, Any] = {"warning": {"reading": "length", "raise": "> 100"}}
    quiet = build(file_systems, type="command", run=str(plugin), environment={"LENGTH": "7"}, **bounds)
    assert (run(quiet)[0].status, run(quiet)[0].message) == (Status.OK, "QUEUE OK: 7 waiting")
    busy = build(file_systems, type="command", run=str(plugin), environment={"LENGTH": "700"}, **bounds)
    assert (run(busy)[0].status, run(busy)[0].message) == (Status.WARNING, "length is 700, warning at > 100")


def test_a_hung_plugin_raises_the_alarm(file_systems: FileSystems) -> None:
    (result,) = run(build(file_systems, type="command", run="sleep 60", timeout="300ms"))
    assert (result.status, "killed" in result.message) == (Status.UNKNOWN, True)


def test_a_temperature_threshold_leaves_chips_without_a_limit_alone(file_systems: FileSystems) -> None:
    check = build(file_systems, type="temperature", warning={"reading": "share_of_critical", "raise": "> 90%"})
    assert check.optional == {"share_of_critical"}
    assert all(result.status in (Status.OK, Status.ABSENT) for result in run(check))


def test_a_message_says_which_ones_were_counted(file_systems: FileSystems) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        others = [f"1-{port - 1}/tcp", f"{port + 1}-65535/tcp", "1-65535/udp"]
        (result,) = run(build(file_systems, type="listening_ports", allowed=others, loopback=True))
    assert result.status is Status.WARNING
    assert result.message.startswith("1 ports open that should not be, warning at > 0")
    assert f": {port}/tcp on 127.0.0.1" in result.message
