"""What systemd and Docker keep running: captured answers of both, and a machine that has neither."""

import contextlib
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from config.selection import Selection
from monitor.probes.docker import DockerProbe
from monitor.probes.systemd import RestartRule, Systemctl, SystemdProbe, TimersProbe, microseconds, moment
from monitor.result import Measurement, NoData, ProbeError, Status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Values = Callable[[Measurement], dict[str, float]]


def clock() -> datetime:
    return NOW


def block(**properties: object) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def service(name: str, **changes: object) -> str:
    # as systemctl 252 shows a service
    return block(**({"Type": "simple", "NRestarts": 0, "Result": "success", "ExecMainStatus": 0, "Id": name,
                     "LoadState": "loaded", "ActiveState": "active", "SubState": "running",
                     "StateChangeTimestampMonotonic": 40_000_000} | changes))  # fmt: skip


class Machine:
    """A systemd that says what a test wrote, at a time of the test's own."""

    def __init__(self, *blocks: str) -> None:
        self.blocks, self.seconds = list(blocks), 100.0

    def show(self, _properties: Sequence[str], _units: Sequence[str]) -> str:
        return "\n".join(self.blocks)

    def units(self, *include: str) -> SystemdProbe:
        return SystemdProbe(self.show, Selection(include or ("*.service",)), RestartRule(2, 300), lambda: self.seconds)

    def timers(self, *include: str) -> TimersProbe:
        return TimersProbe(self.show, Selection(include or ("*.timer",)), clock, lambda: self.seconds)


def test_services_that_are_well_have_readings_and_no_finding(values: Values) -> None:
    machine = Machine(
        service("nginx.service"),
        service("apt-daily.service", Type="oneshot", ActiveState="inactive", SubState="dead"),
        block(Id="-.slice", LoadState="loaded", ActiveState="active"),
        service("ghost.service", LoadState="not-found", ActiveState="inactive"),
    )
    measured = machine.units("*.service", "apt-daily.service").measure()
    assert values(measured) == {
        "nginx.service/failed": 0, "nginx.service/active": 1, "nginx.service/restarts": 0,
        "nginx.service/state_for": 60, "apt-daily.service/failed": 0, "apt-daily.service/active": 0,
        "apt-daily.service/restarts": 0, "apt-daily.service/state_for": 60,
    }  # fmt: skip
    assert (measured.findings, list(measured.missing)) == ({}, [])


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "ExecMainStatus": 203},
         Status.CRITICAL, "nginx.service has failed: exit-code, exit status 203"),
        ({"ActiveState": "failed", "Result": "oom-kill"}, Status.CRITICAL, "nginx.service has failed: oom-kill"),
        ({"ActiveState": "inactive", "SubState": "dead"}, Status.CRITICAL, "nginx.service is inactive (dead)"),
        ({"ActiveState": "inactive", "SubState": "dead", "Type": "oneshot", "Result": "signal"},
         Status.CRITICAL, "nginx.service is inactive (dead)"),
    ],
)  # fmt: skip
def test_a_service_that_is_ill_says_why(changes: dict[str, Any], status: Status, said: str) -> None:
    finding = Machine(service("nginx.service", **changes)).units("nginx.service").measure().findings["nginx.service"]
    assert (finding.status, finding.message) == (status, said)


def test_an_inactive_service_that_nobody_named_is_fine_and_one_that_is_gone_is_missing() -> None:
    machine = Machine(service("nginx.service", ActiveState="inactive", SubState="dead"))
    assert machine.units("*.service").measure().findings == {}
    assert list(machine.units("nginx.service", "importer.service").measure().missing) == ["importer.service"]


def test_a_restart_loop_is_seen_and_ends() -> None:
    machine = Machine(service("nginx.service", NRestarts=50))
    probe = machine.units()
    assert probe.measure().findings == {}
    for restarts in (51, 52, 53):
        machine.seconds += 30
        machine.blocks = [service("nginx.service", NRestarts=restarts, Result="exit-code", ExecMainStatus=1)]
        measured = probe.measure()
    assert measured.findings["nginx.service"].message == (
        "nginx.service restarted 3 times, the last time by exit-code, exit status 1"
    )
    machine.seconds += 300
    assert probe.measure().findings == {}


def timer(name: str = "backup.timer", **changes: object) -> str:
    return block(**({"Unit": "backup.service", "NextElapseUSecRealtime": "Mon 2026-03-02 02:00:00 UTC",
                     "NextElapseUSecMonotonic": "infinity", "LastTriggerUSec": "Sun 2026-03-01 02:00:00 UTC",
                     "Id": name, "LoadState": "loaded", "ActiveState": "active"} | changes))  # fmt: skip


def test_a_timer_that_is_well_tells_when_it_ran(values: Values) -> None:
    machine = Machine(timer(), service("backup.service", ActiveState="inactive"))
    measured = machine.timers().measure()
    assert values(measured) == {
        "backup.timer/overdue": 0, "backup.timer/last_run_age": 36_000, "backup.timer/failed": 0,
    }  # fmt: skip
    assert measured.findings == {}


@pytest.mark.parametrize(
    ("changes", "overdue"),
    [
        ({"NextElapseUSecRealtime": "Sun 2026-03-01 11:00:00 UTC"}, 3600),
        ({"NextElapseUSecRealtime": "", "NextElapseUSecMonotonic": "1min 30s"}, 10),
        ({"NextElapseUSecRealtime": "", "NextElapseUSecMonotonic": "infinity"}, 0),
        ({"NextElapseUSecRealtime": "Sun 2026-03-01 11:00:00 UTC", "ActiveState": "inactive"}, 0),
    ],
)
def test_a_timer_whose_time_has_passed_is_overdue(changes: dict[str, Any], overdue: float, values: Values) -> None:
    machine = Machine(timer(**changes), service("backup.service", ActiveState="inactive"))
    assert values(machine.timers().measure())["backup.timer/overdue"] == overdue


def test_a_timer_whose_run_failed_or_that_is_off_is_critical() -> None:
    failed = service("backup.service", ActiveState="failed", Result="timeout")
    finding = Machine(timer(), failed).timers().measure().findings["backup.timer"]
    assert (finding.status, finding.message) == (
        Status.CRITICAL, "backup.service, run by backup.timer, failed: timeout",
    )  # fmt: skip
    off = Machine(timer(ActiveState="inactive"), service("backup.service")).timers("backup.timer").measure()
    assert off.findings["backup.timer"].message == "backup.timer is inactive, so nothing runs"


@pytest.mark.parametrize(
    ("text", "number"),
    [("1h 2min 3.5s", 3_723_500_000), ("1d", 86_400_000_000), ("5ms", 5000), ("1500", 1500), ("infinity", None),
     ("", None), ("soon", None), (str(2**64 - 1), None)],
)  # fmt: skip
def test_time_spans_are_read_as_systemd_prints_them(text: str, number: float | None) -> None:
    assert microseconds(text) == number


def test_moments_are_read_as_systemd_prints_them() -> None:
    assert moment("Sun 2026-03-01 02:00:00 UTC") == datetime(2026, 3, 1, 2, tzinfo=UTC)
    assert moment("n/a") is None


def test_a_machine_without_systemd_has_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(NoData, match="does not run systemd"):
        SystemdProbe(Systemctl(5, booted=str(tmp_path / "none")), Selection(("*",)), RestartRule(2, 300)).measure()


def test_the_real_systemctl_without_a_manager_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    show = Systemctl(5, user=True, booted=str(tmp_path))
    with pytest.raises(ProbeError, match="asking systemd: Failed to connect to"):
        SystemdProbe(show, Selection(("*.service",)), RestartRule(2, 300)).measure()


RUNNING = {"Status": "running", "Running": True, "Restarting": False, "OOMKilled": False, "Dead": False, "ExitCode": 0,
           "Error": "", "StartedAt": "2026-03-01T11:00:00.123456789Z"}  # fmt: skip
EXITED = RUNNING | {"Status": "exited", "Running": False, "ExitCode": 137}


class Engine:
    """A Docker that gives answers as version 24 gave them, on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.path, self.containers = path, dict[str, dict[str, Any]]()

    def has(self, name: str, state: dict[str, Any], restarts: int = 0, policy: str = "always") -> None:
        host = {"RestartPolicy": {"Name": policy, "MaximumRetryCount": 0}}
        self.containers[name] = {"Name": f"/{name}", "State": state, "RestartCount": restarts, "HostConfig": host}

    def answer(self, path: str) -> Any:
        if path.startswith("/v1.24/containers/json"):
            return [{"Id": f"id-of-{name}", "Names": [f"/{name}"]} for name in self.containers]
        return self.containers.get(path.split("/")[3].removeprefix("id-of-"), {"message": "No such container"})

    def look(self, *include: str) -> Measurement:
        return self.probe(*include).measure()

    def probe(self, *include: str) -> DockerProbe:
        return DockerProbe(str(self.path), Selection(include), 5, clock)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    one = Engine(tmp_path / "docker.sock")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(one.answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        def get_request(self) -> Any:
            return super().get_request()[0], ("docker", 0)

    with Server(str(one.path), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield one
        server.shutdown()


def test_containers_that_are_well_have_readings_and_no_finding(engine: Engine, values: Values) -> None:
    engine.has("shop", RUNNING | {"Health": {"Status": "healthy"}}, restarts=4)
    engine.has("once", EXITED | {"ExitCode": 0}, policy="no")
    engine.has("test-1", EXITED, policy="no")
    probe = DockerProbe(str(engine.path), Selection((), ("test-*",)), 5, clock)
    probe.measure()
    engine.has("shop", RUNNING, restarts=6)
    measured = probe.measure()
    found = values(measured)
    assert found.pop("shop/up_for") == pytest.approx(3599.9, abs=0.1)
    assert found == {
        "shop/running": 1, "shop/restarts": 2, "once/running": 0, "once/restarts": 0, "once/exit_code": 0,
    }  # fmt: skip
    assert measured.findings == {}


@pytest.mark.parametrize(
    ("state", "include", "status", "said"),
    [
        (RUNNING | {"Health": {"Status": "unhealthy", "Log": [{"Output": "no database\n"}]}}, (), Status.CRITICAL,
         "shop calls itself unhealthy: no database"),
        (EXITED, (), Status.CRITICAL, "shop has ended with exit code 137, though it is to be restarted"),
        (EXITED | {"OOMKilled": True}, (), Status.CRITICAL, "shop was killed: it ran out of memory"),
        (EXITED | {"ExitCode": 0}, ("shop",), Status.CRITICAL, "shop does not run: exited, exit code 0"),
        (RUNNING | {"Restarting": True, "ExitCode": 1}, (), Status.WARNING, "shop restarts, after exit code 1"),
        (EXITED | {"Dead": True, "Error": "device busy"}, (), Status.CRITICAL, "shop is dead: device busy"),
    ],
)  # fmt: skip
def test_a_container_that_is_ill_says_why(
    engine: Engine, state: dict[str, Any], include: tuple[str, ...], status: Status, said: str
) -> None:
    engine.has("shop", state)
    finding = engine.look(*include).findings["shop"]
    assert (finding.status, finding.message) == (status, said)


@contextlib.contextmanager
def scripted_engine(path: Path) -> Iterator[Path]:
    """An engine that never stops beginning its answer."""

    class Dripping(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.request.sendall(b"H")
                    time.sleep(0.1)

    with socketserver.ThreadingUnixStreamServer(str(path), Dripping) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield path
        server.shutdown()


def test_a_named_container_that_is_gone_is_missing(engine: Engine) -> None:
    assert list(engine.look("shop").missing) == ["shop"]


def test_a_machine_without_docker_has_nothing_and_one_that_answers_nonsense_is_an_error(
    engine: Engine, tmp_path: Path
) -> None:
    with pytest.raises(NoData, match="has no"):
        DockerProbe(str(tmp_path / "none.sock"), Selection(), 5, clock).measure()
    with pytest.raises(NoData, match="no containers"):
        engine.look()
    dead = tmp_path / "dead.sock"
    with socketserver.UnixStreamServer(str(dead), socketserver.BaseRequestHandler):
        pass
    began = time.monotonic()
    with scripted_engine(tmp_path / "slow.sock") as slow, pytest.raises(ProbeError, match="timed out"):
        DockerProbe(str(slow), Selection(), 0.5, clock).measure()
    assert time.monotonic() - began < 5
    with pytest.raises(ProbeError, match="connection refused"):
        DockerProbe(str(dead), Selection(), 5, clock).measure()
