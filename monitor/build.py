"""Settings into checks: the one table from a settings class to the probe that does it.

Nothing is measured and nothing started here; a probe opens what it needs at its first run.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config import checks as settings
from monitor.check import Check
from monitor.probes.command import CommandProbe
from monitor.probes.cpu import CpuProbe, LoadProbe
from monitor.probes.disk import DiskProbe
from monitor.probes.disk_io import DiskIoProbe
from monitor.probes.file_systems import FileSystems
from monitor.probes.http import HttpProbe, shown
from monitor.probes.http_exchange import Request
from monitor.probes.memory import MemoryProbe, SwapProbe
from monitor.probes.network import NetworkProbe
from monitor.probes.processes import ProcessesProbe, ProcessProbe
from monitor.probes.sensors import FansProbe, TemperatureProbe
from monitor.probes.system import FileDescriptorsProbe, UptimeProbe
from monitor.probes.tcp import TcpProbe
from monitor.result import Probe


@dataclass(frozen=True, slots=True)
class _Shared:
    """What probes share or cannot have of their own."""

    file_systems: FileSystems
    clock: Callable[[], datetime]


def _disk(check: settings.DiskCheck, shared: _Shared) -> Probe:
    return DiskProbe(os.fspath(check.path), check.timeout.total_seconds(), shared.file_systems)


def _process(check: settings.ProcessCheck, _shared: _Shared) -> Probe:
    return ProcessProbe(
        check.command, regex=check.match == "regex", none_is_critical=not (check.warning or check.critical)
    )


def _http(check: settings.HttpCheck, shared: _Shared) -> Probe:
    headers = {name: value.get_secret_value() for name, value in check.headers.items()}
    body = check.body.get_secret_value() if check.body else None
    return HttpProbe(
        Request(check.method, check.url, headers, body),
        timeout_seconds=check.timeout.total_seconds(),
        clock=shared.clock,
        expect_status=check.expect_status,
        contains=check.contains,
        verify_tls=check.verify_tls,
    )


def _command(check: settings.CommandCheck, _shared: _Shared) -> Probe:
    environment = {name: value.get_secret_value() for name, value in check.environment.items()}
    return CommandProbe(check.run, environment, check.timeout.total_seconds())


PROBES: dict[type[settings.CheckBase], Callable[[Any, _Shared], Probe]] = {
    settings.CpuCheck: lambda _check, _shared: CpuProbe(),
    settings.LoadCheck: lambda _check, _shared: LoadProbe(),
    settings.MemoryCheck: lambda _check, _shared: MemoryProbe(),
    settings.SwapCheck: lambda _check, _shared: SwapProbe(),
    settings.DiskCheck: _disk,
    settings.DiskIoCheck: lambda check, _shared: DiskIoProbe(check.devices),
    settings.NetworkCheck: lambda check, _shared: NetworkProbe(check.interfaces),
    settings.TemperatureCheck: lambda _check, _shared: TemperatureProbe(),
    settings.FansCheck: lambda _check, _shared: FansProbe(),
    settings.UptimeCheck: lambda _check, _shared: UptimeProbe(),
    settings.ProcessesCheck: lambda _check, _shared: ProcessesProbe(),
    settings.FileDescriptorsCheck: lambda _check, _shared: FileDescriptorsProbe(),
    settings.ProcessCheck: _process,
    settings.TcpCheck: lambda check, _shared: TcpProbe(check.host, check.port, check.timeout.total_seconds()),
    settings.HttpCheck: _http,
    settings.CommandCheck: _command,
}

_SUBJECTS: dict[type[settings.CheckBase], Callable[[Any], str]] = {
    settings.DiskCheck: lambda check: os.fspath(check.path),
    settings.ProcessCheck: lambda check: check.command,
    settings.TcpCheck: lambda check: f"{check.host}:{check.port}",
    settings.HttpCheck: lambda check: shown(check.url),
    settings.CommandCheck: lambda check: check.name,
}
"""What a check is about, for messages, where its type does not say it all."""

_OPTIONAL: dict[type[settings.CheckBase], frozenset[str]] = {
    settings.TemperatureCheck: frozenset({"share_of_critical"}),
}
"""Readings that hardware may honestly lack: most chips name no critical temperature."""


def build_checks(
    checks: Iterable[settings.CheckSettings], *, file_systems: FileSystems, clock: Callable[[], datetime]
) -> list[Check]:
    """Return a check for each settings entry, in their order. Certificates are held against ``clock``."""
    shared = _Shared(file_systems, clock)
    return [_build(check, shared) for check in checks]


def _build(check: settings.CheckSettings, shared: _Shared) -> Check:
    kind = type(check)
    return Check(
        name=check.name,
        type=check.type,
        probe=PROBES[kind](check, shared),
        subject=_SUBJECTS[kind](check) if kind in _SUBJECTS else "",
        every=check.every,
        timeout=check.timeout,
        for_=check.for_,
        keep_firing_for=check.keep_firing_for,
        min_samples=check.min_samples,
        warning=tuple(check.warning),
        critical=tuple(check.critical),
        labels=check.labels,
        runbook=check.runbook,
        depends_on=tuple(check.depends_on),
        on_critical=check.on_critical,
        optional=_OPTIONAL.get(kind, frozenset()),
    )
