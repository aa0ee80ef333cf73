"""Restarts that are due, updates, permissions, open ports and refused logins: well, ill, absent, malformed."""

import os
import pwd
import socket
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.probes.failed_logins import FailedLoginsProbe
from monitor.probes.permissions import Expected, PermissionsProbe
from monitor.probes.ports import ListeningPortsProbe
from monitor.probes.reboot import RebootProbe
from monitor.probes.recent import Recent
from monitor.probes.updates import UpdatesProbe
from monitor.result import NoData, ProbeError

RUNNING = "6.1.0-18-amd64"


def test_a_machine_that_runs_what_is_installed_needs_no_restart(tree: Any, values: Any) -> None:
    root = tree({f"boot/vmlinuz-{RUNNING}": "", "boot/vmlinuz-6.1.0-9-amd64": "", "boot/vmlinuz-6.9.0-1-rt-amd64": ""})
    measured = RebootProbe(root, RUNNING).measure()
    assert (values(measured), measured.notes) == ({"required": 0}, {})


def test_an_update_that_asks_for_a_restart_is_named(tree: Any, values: Any) -> None:
    root = tree({"run/reboot-required": "", "run/reboot-required.pkgs": "libc6\nlinux-base\nlibc6\n"})
    measured = RebootProbe(root, RUNNING).measure()
    assert values(measured) == {"required": 1}
    assert measured.notes == {"": "an update asked for it (libc6, linux-base)"}


def test_a_newer_kernel_of_the_same_flavour_wants_a_restart(tree: Any, values: Any) -> None:
    root = tree({f"boot/vmlinuz-{RUNNING}": "", "boot/vmlinuz-6.1.0-27-amd64": ""})
    measured = RebootProbe(root, RUNNING).measure()
    assert values(measured) == {"required": 1}
    assert measured.notes == {"": "kernel 6.1.0-27-amd64 is installed, 6.1.0-18-amd64 runs"}


def test_a_container_with_kernels_that_are_not_its_own_needs_no_restart(tree: Any, values: Any) -> None:
    root = tree({"boot/vmlinuz-6.12.0-1-amd64": ""})
    assert values(RebootProbe(root, RUNNING).measure()) == {"required": 0}
    purged = tree({f"lib/modules/{RUNNING}/modules.order": ""})
    assert values(RebootProbe(purged, RUNNING).measure()) == {"required": 1}, (
        "its image was removed, a newer one is there"
    )


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def updates(tools: Any, root: Path, answer: str, status: int = 0) -> UpdatesProbe:
    tools.add("apt-get", ("--simulate", answer, status))
    return UpdatesProbe(10, lambda: NOW, root, tools.path)


def test_updates_that_wait_are_counted_and_urgent_ones_named(tools: Any, tree: Any, values: Any) -> None:
    root = tree({"var/lib/apt/periodic/update-success-stamp": ""})
    moment = NOW.timestamp() - 7200
    os.utime(root / "var/lib/apt/periodic/update-success-stamp", (moment, moment))
    measured = updates(tools, root, "apt-get-simulate").measure()
    assert values(measured) == {"security": 3, "pending": 5, "age": 7200}
    assert measured.notes == {"": "libssl3, openssl, linux-image-6.1.0-27-amd64"}
    measured = updates(tools, root / "none", "apt-get-nothing").measure()
    assert (values(measured), measured.notes) == ({"security": 0, "pending": 0}, {})


def test_without_apt_there_is_no_data_and_a_broken_apt_is_an_error(tools: Any, tmp_path: Path) -> None:
    with pytest.raises(NoData, match="apt-get is not installed"):
        UpdatesProbe(10, lambda: NOW, tmp_path, tools.path).measure()
    with pytest.raises(ProbeError, match="exit status 100") as failed:
        updates(tools, tmp_path, "E: The package lists are corrupt\n", 100).measure()
    assert "apt-get check" in failed.value.hint
    with pytest.raises(ProbeError, match="no summary"):
        updates(tools, tmp_path, "\n").measure()


@pytest.mark.campaign
def test_this_machines_own_apt_is_understood(values: Any) -> None:
    found = values(UpdatesProbe(60, lambda: datetime.now(UTC)).measure())
    assert 0 <= found["security"] <= found["pending"]


@pytest.fixture
def office(tmp_path: Path) -> Path:
    folder = tmp_path / "office"
    (folder / "sub").mkdir(parents=True)
    (folder / "drop").mkdir()
    for name, mode in (("", 0o755), ("sub", 0o750), ("drop", 0o1777)):
        (folder / name).chmod(mode)
    for name, mode in (("a", 0o640), ("sub/b", 0o600)):
        (folder / name).write_text("x")
        (folder / name).chmod(mode)
    (folder / "link").symlink_to("/etc/passwd")
    return folder


def permissions(path: Path, at_most: int = 0o775, **about: Any) -> PermissionsProbe:
    recursive = about.pop("recursive", True)
    return PermissionsProbe([str(path)], Expected(at_most, **about), 10, recursive=recursive)


def test_files_within_their_limits_are_right_and_a_folder_for_all_is_when_it_is_sticky(
    office: Path, values: Any
) -> None:
    assert values(permissions(office).measure()) == {f"{office}/wrong": 0}


def test_what_all_the_world_may_write_is_found_and_named(office: Path, values: Any) -> None:
    (office / "sub/b").chmod(0o666)
    (office / "sub").chmod(0o777)
    measured = permissions(office).measure()
    assert values(measured) == {f"{office}/wrong": 2}
    assert f"{office}/sub/b has mode 0666" in measured.notes[str(office)]
    assert values(permissions(office, recursive=False).measure()) == {f"{office}/wrong": 0}
    assert values(permissions(office / "a", 0o600).measure()) == {f"{office}/a/wrong": 1}


def test_what_belongs_to_somebody_else_is_found(office: Path, values: Any) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    other = "nobody" if me != "nobody" else "root"
    assert values(permissions(office, owner=me).measure()) == {f"{office}/wrong": 0}
    measured = permissions(office, owner=other).measure()
    assert values(measured) == {f"{office}/wrong": 5}
    assert f"belongs to {me}" in measured.notes[str(office)]
    with pytest.raises(ProbeError, match="no group named"):
        permissions(office, group="no-such-group").measure()


def test_a_path_that_is_gone_is_missing_and_too_many_files_are_an_error(office: Path) -> None:
    assert permissions(office / "gone").measure().missing == [str(office / "gone")]
    hurried = PermissionsProbe([str(office)], Expected(0o775), -1, recursive=True)
    with pytest.raises(ProbeError, match="not done within") as failed:
        hurried.measure()
    assert "timeout" in failed.value.hint


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0\n"
IPV6_ANY = "0" * 32


def write_ports(proc: Any, *tcp: tuple[str, str, int], tcp6: tuple[tuple[str, str, int], ...] = ()) -> None:
    for table, rows in (("tcp", tcp), ("tcp6", tcp6)):
        lines = [ROW.format(address=address, state=state, inode=inode) for address, state, inode in rows]
        proc.write(f"net/{table}", HEAD + "".join(lines))


def test_ports_that_may_be_open_and_local_ones_are_fine(proc: Any, values: Any) -> None:
    local = ("0100007F:1538", "0A", 7)
    write_ports(
        proc, ("00000000:0016", "0A", 1), local, ("0A00020F:9C40", "01", 2), tcp6=((f"{IPV6_ANY}:0016", "0A", 3),)
    )
    measured = ListeningPortsProbe(["22/tcp"], proc=proc.path).measure()
    assert (values(measured), measured.notes) == ({"unexpected": 0, "open": 1}, {})
    strict = ListeningPortsProbe(["22/tcp"], loopback=True, proc=proc.path).measure()
    assert strict.notes == {"": "5432/tcp on 127.0.0.1"}


def test_a_port_that_should_not_be_open_is_named_with_its_program(proc: Any, values: Any) -> None:
    write_ports(proc, ("00000000:0016", "0A", 1), ("00000000:1F90", "0A", 42), tcp6=((f"{IPV6_ANY}:1F90", "0A", 43),))
    proc.write("net/udp", HEAD + ROW.format(address="00000000:0035", state="07", inode=9))
    proc.process(10, "java")
    (proc.path / "10/fd/5").symlink_to("socket:[42]")
    measured = ListeningPortsProbe(["20-25/tcp", "53/udp"], proc=proc.path).measure()
    assert values(measured) == {"unexpected": 1, "open": 3}
    assert measured.notes == {"": "8080/tcp on 0.0.0.0 by java"}


def test_a_port_that_this_test_opens_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        everything = ListeningPortsProbe(["1-65535/udp"], loopback=True).measure()
        assert everything.readings[0].value >= 1
        allowed = ListeningPortsProbe(["1-65535/tcp", "1-65535/udp"], loopback=True).measure()
        assert allowed.readings[0].value == 0
        others = ListeningPortsProbe([f"1-{port - 1}/tcp", f"{port + 1}-65535/tcp", "1-65535/udp"], loopback=True)
        assert f"{port}/tcp on 127.0.0.1 by " in others.measure().notes[""]


Attempt = Callable[..., None]


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    def add(user: str, host: str, count: int = 1) -> None:
        record = struct.pack(
            "=hxxi32s4s32s256shhiii4i20s", 6, 4711, b"ssh:notty", b"", user.encode(), host.encode(),
            0, 0, 0, 1_763_800_000, 0, 0, 0, 0, 0, b"",
        )  # fmt: skip
        with (tmp_path / "btmp").open("ab") as file:
            file.write(record * count)

    return add


def test_refused_logins_are_counted_while_recent_and_their_sources_named(
    attempt: Attempt, tmp_path: Path, fake_time: Any, values: Any
) -> None:
    attempt("root", "192.0.2.1", 500)
    probe = FailedLoginsProbe(Recent(3600, fake_time.timing.monotonic), tmp_path / "btmp")
    assert values(probe.measure()) == {"failed": 0}
    attempt("root", "198.51.100.7", 150)
    attempt("admin", "203.0.113.9", 20)
    measured = probe.measure()
    assert values(measured) == {"failed": 170}
    assert measured.notes == {"": "150 from 198.51.100.7, 20 from 203.0.113.9, 150 as root, 20 as admin"}
    (tmp_path / "btmp").unlink()
    attempt("ann", "192.0.2.1", 3)
    assert values(probe.measure()) == {"failed": 173}, "the record was rotated, and three are new"
    fake_time.now += 3600
    assert values(probe.measure()) == {"failed": 0}


def test_without_a_record_of_refused_logins_there_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        FailedLoginsProbe(Recent(1), tmp_path / "btmp").measure()
    (tmp_path / "btmp").mkdir()
    with pytest.raises(ProbeError, match="btmp") as failed:
        FailedLoginsProbe(Recent(1), tmp_path / "btmp").measure()
    assert "utmp" in failed.value.hint
