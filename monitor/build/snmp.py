"""Recipes of checks of other devices over SNMP. Each measures in a child, which has pysnmp's memory instead of us."""

from config.checks import snmp
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.in_child import InChild
from monitor.probes.snmp import SnmpInterfacesProbe, SnmpSensorsProbe, SnmpUptimeProbe, SnmpValueProbe
from monitor.probes.snmp_session import SnmpAddress, SnmpUser
from monitor.result import Probe

_FOR_THE_CHILD_SECONDS = 3.0
"""Of the check's time: to start and to end."""
_RATES = frozenset({"errors", "receive_bytes_per_second", "transmit_bytes_per_second", "discards_per_second", "used"})


def _address(check: snmp.SnmpTarget, timeout_seconds: float) -> SnmpAddress:
    patience = max(timeout_seconds - _FOR_THE_CHILD_SECONDS, timeout_seconds / 2)
    community = check.community.get_secret_value() if check.community else ""
    return SnmpAddress(check.host, check.port, patience, community, _user(check.user) if check.user else None)


def _user(user: snmp.SnmpUser) -> SnmpUser:
    proof, cipher = (
        password.get_secret_value() if password else ""
        for password in (user.authentication_password, user.privacy_password)
    )
    return SnmpUser(user.name, user.authentication, proof, user.privacy, cipher)


def _in_child(probe: Probe, check: snmp.SnmpCheck) -> Probe:
    return InChild(probe, f"asking {check.host} over SNMP", check.timeout.total_seconds())


def _uptime(check: snmp.SnmpUptimeCheck, _shared: Shared) -> Probe:
    return _in_child(SnmpUptimeProbe(_address(check, check.timeout.total_seconds())), check)


def _interfaces(check: snmp.SnmpInterfacesCheck, _shared: Shared) -> Probe:
    return _in_child(SnmpInterfacesProbe(_address(check, check.timeout.total_seconds()), check.selection), check)


def _sensors(check: snmp.SnmpSensorsCheck, _shared: Shared) -> Probe:
    return _in_child(SnmpSensorsProbe(_address(check, check.timeout.total_seconds()), check.selection), check)


def _value(check: snmp.SnmpValueCheck, _shared: Shared) -> Probe:
    return _in_child(SnmpValueProbe(_address(check, check.timeout.total_seconds()), check.oid, check.factor), check)


RECIPES: Recipes = {
    snmp.SnmpUptimeCheck: Recipe(_uptime, subject=lambda check: check.host),
    # rates need two runs, the share of its speed an interface that knows it
    snmp.SnmpInterfacesCheck: Recipe(_interfaces, optional=_RATES),
    snmp.SnmpSensorsCheck: Recipe(
        _sensors, optional=frozenset({"celsius", "rpm", "volts", "amperes", "watts", "humidity"})
    ),
    snmp.SnmpValueCheck: Recipe(_value, subject=lambda check: f"{check.oid} of {check.host}"),
}
