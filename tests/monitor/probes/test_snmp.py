"""Devices over SNMP: Debian's snmpd in versions 2c and 3, and tables of devices that are ill."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from config.checks import CheckSettings
from config.selection import Selection
from monitor.build import build_checks
from monitor.check import run_check
from monitor.probes.snmp import SnmpInterfacesProbe, SnmpSensorsProbe, SnmpUptimeProbe, SnmpValueProbe
from monitor.probes.snmp_session import Answer, SilenceError, SnmpAddress, SnmpUser, ask
from monitor.result import NoData, ProbeError, Status
from tests.servers.private import free_port, path_of, private_folder, running

SYS_DESCRIPTION = "1.3.6.1.2.1.1.1.0"
_SENSOR, _ENTITY = "1.3.6.1.2.1.99.1.1.1", "1.3.6.1.2.1.47.1.1.1.1"
SENSORS = {
    # type, scale, precision, value, status; name
    10: (8, 9, 1, 415, 1, "inlet"),
    11: (10, 9, 0, 4200, 1, "fan 1"),
    12: (8, 9, 1, 0, 3, "outlet"),
}
CONFIGURATION = """\
agentaddress udp:127.0.0.1:{port}
rocommunity office 127.0.0.1
createUser keepwatch SHA-256 "authentic words" AES "private words"
rouser keepwatch priv
sysDescr a switch
{overrides}
"""


@pytest.fixture(scope="module")
def device() -> Iterator[SnmpAddress]:
    """snmpd on a port of loopback, with a table of sensors put over its own."""
    import socket

    port = free_port(socket.SOCK_DGRAM)
    address = SnmpAddress("127.0.0.1", port, 10, community="office")
    overrides = []
    for index, row in SENSORS.items():
        overrides += [
            f"override .{_SENSOR}.{column}.{index} integer {value}" for column, value in enumerate(row[:5], start=1)
        ]
        overrides.append(f'override .{_ENTITY}.7.{index} octet_str "{row[5]}"')

    def ready() -> bool:
        try:
            return bool(ask(replace(address, timeout_seconds=1), [SYS_DESCRIPTION]).values)
        except ProbeError:
            return False

    with private_folder("snmp") as folder:
        (folder / "snmpd.conf").write_text(CONFIGURATION.format(port=port, overrides="\n".join(overrides)))
        (folder / "snmpd.conf").chmod(0o644)
        command = [path_of("snmpd"), "-f", "-Lo", "-C", "-c", folder / "snmpd.conf", "-p", folder / "pid", "-I",
                   "-smux,smuxMux", f"--persistentDir={folder}"]  # fmt: skip
        with running(command, folder, ready):
            yield address


USER = SnmpUser("keepwatch", "SHA256", "authentic words", "AES", "private words")


@pytest.fixture(params=["version 2c", "version 3"])
def address(request: pytest.FixtureRequest, device: SnmpAddress) -> SnmpAddress:
    return device if request.param == "version 2c" else replace(device, community="", user=USER)


def test_a_device_that_answers_says_how_long_it_has_been_up(address: SnmpAddress, values: Any) -> None:
    found = values(SnmpUptimeProbe(address).measure())
    assert found["uptime"] > 0
    assert 0 < found["response_time"] < 10


def test_its_interfaces_have_rates_from_the_second_look_on(address: SnmpAddress, values: Any) -> None:
    probe = SnmpInterfacesProbe(address, Selection(["lo"]))
    assert values(probe.measure()) == {"lo/down": 0}
    time.sleep(0.05)
    found = values(probe.measure())
    assert {"lo/errors", "lo/receive_bytes_per_second", "lo/transmit_bytes_per_second"} < set(found)
    assert min(found.values()) >= 0


def test_its_sensors_are_scaled_and_one_that_failed_raises_the_alarm(address: SnmpAddress, values: Any) -> None:
    assert values(SnmpSensorsProbe(address).measure()) == {
        "inlet/failed": 0, "inlet/celsius": 41.5, "fan 1/failed": 0, "fan 1/rpm": 4200, "outlet/failed": 1,
    }  # fmt: skip


def test_any_number_can_be_asked_for(address: SnmpAddress, values: Any) -> None:
    assert values(SnmpValueProbe(address, f".{_SENSOR}.4.10", 0.1).measure()) == {"value": pytest.approx(41.5)}
    with pytest.raises(ProbeError, match="no such object") as failed:
        SnmpValueProbe(address, "1.3.6.1.4.1.99999.1.0").measure()
    assert "instance" in failed.value.hint
    with pytest.raises(ProbeError, match="no number"):
        SnmpValueProbe(address, SYS_DESCRIPTION).measure()


def test_a_wrong_password_is_refused_and_says_so(device: SnmpAddress) -> None:
    wrong = replace(device, timeout_seconds=3, user=replace(USER, authentication_password="something else"))
    with pytest.raises(ProbeError, match="over SNMP") as failed:
        SnmpSensorsProbe(wrong).measure()
    assert "user" in failed.value.hint


def test_a_device_that_is_silent_is_critical_for_the_check_that_asks_whether_it_answers(device: SnmpAddress) -> None:
    deaf = replace(device, community="not the community", timeout_seconds=1)
    finding = SnmpUptimeProbe(deaf).measure().finding
    assert finding is not None
    assert finding.status is Status.CRITICAL
    with pytest.raises(SilenceError):
        SnmpSensorsProbe(deaf).measure()


def test_a_configured_check_measures_in_a_child_and_keeps_its_counters(device: SnmpAddress) -> None:
    written = {"name": "switch", "type": "snmp_interfaces", "host": "127.0.0.1", "port": device.port,
               "community": "office", "include": ["lo"], "warning": []}  # fmt: skip - others use lo, too
    settings = TypeAdapter(CheckSettings).validate_python(written)
    from datetime import UTC, datetime

    from monitor.probes.file_systems import FileSystems

    (check,) = build_checks([settings], file_systems=FileSystems(), clock=lambda: datetime.now(UTC))
    for expected in ({"down"}, {"down", "errors", "receive_bytes_per_second"}):
        (result,) = run_check(check, {}, lambda: datetime.now(UTC))
        assert result.status is Status.OK, result.message
        assert expected <= {reading.name for reading in result.readings}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"community": "a", "user": {"name": "b"}},
        {"user": {"name": "b", "privacy_password": "long enough"}},
        {"user": {"name": "b", "authentication_password": "short"}},
    ],
)
def test_settings_that_no_device_understands_are_refused(how: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(CheckSettings).validate_python({"name": "a", "type": "snmp_uptime", "host": "b", **how})


class Table:
    """A device in memory, by column."""

    def __init__(self, **columns: dict[str, int | bytes]) -> None:
        self.columns = {name.replace("_", ".").strip("."): rows for name, rows in columns.items()}

    def __call__(self, _address: SnmpAddress, _values: Sequence[str], columns: Sequence[str]) -> Answer:
        return Answer({}, {column: dict(self.columns.get(column, {})) for column in columns})


ANYWHERE = SnmpAddress("switch", 161, 1)


def interfaces(octets: int, errors: int, oper: int = 1) -> Mapping[str, dict[str, int | bytes]]:
    old, new = "1.3.6.1.2.1.2.2.1.", "1.3.6.1.2.1.31.1.1.1."
    return {
        f"{new}1": {"1": b"ge1", "2": b"ge2"}, f"{old}7": {"1": 1, "2": 2}, f"{old}8": {"1": oper, "2": 2},
        f"{new}6": {"1": octets, "2": 0}, f"{new}10": {"1": 0}, f"{new}15": {"1": 100},
        f"{new}7": {"1": octets // 100}, f"{old}14": {"1": errors}, f"{old}5": {"2": 10_000_000},
    }  # fmt: skip


def test_a_port_that_errs_fills_up_and_goes_down_raises_the_alarm(fake_time: Any, values: Any) -> None:
    device = Table()
    device.columns = dict(interfaces(0, 0))
    probe = SnmpInterfacesProbe(ANYWHERE, ask=device, monotonic=fake_time.timing.monotonic)
    assert values(probe.measure()) == {"ge1/down": 0, "ge2/down": 0}
    fake_time.now += 60
    device.columns = dict(interfaces(712_500_000, 375_000, oper=2))
    found = values(probe.measure())
    assert (found["ge1/down"], found["ge1/used"]) == (1, pytest.approx(0.95))
    assert (found["ge1/errors"], found["ge1/receive_bytes_per_second"]) == (pytest.approx(0.05), 11_875_000)
    assert found["ge2/down"] == 0, "it is switched off"
    fake_time.now += 60
    device.columns = dict(interfaces(500, 0))
    assert "ge1/used" not in values(probe.measure()), "the device restarted, its counters began anew"
    fake_time.now += 60
    device.columns = dict(interfaces(1000, 0))
    assert values(probe.measure())["ge1/errors"] == 0


def test_a_device_without_interfaces_or_sensors_has_no_data() -> None:
    for probe in (SnmpInterfacesProbe(ANYWHERE, ask=Table()), SnmpSensorsProbe(ANYWHERE, ask=Table())):
        with pytest.raises(NoData):
            probe.measure()
    named = SnmpInterfacesProbe(ANYWHERE, Selection(["ge9"]), ask=Table()).measure()
    assert named.missing == ["ge9"]


def test_secrets_do_not_show(tmp_path: Path) -> None:
    assert "words" not in repr(replace(ANYWHERE, community="words", user=USER))
