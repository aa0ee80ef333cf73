"""Recipes of checks of what runs here or answers over the network."""

from typing import Any

from config.checks import services
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.conversation import unescaped
from monitor.probes.dns import DnsProbe
from monitor.probes.http import HttpProbe, shown
from monitor.probes.http_exchange import Request
from monitor.probes.icmp import IcmpProbe
from monitor.probes.ntp import NtpProbe
from monitor.probes.processes import ProcessProbe
from monitor.probes.smtp import SmtpProbe
from monitor.probes.ssh import SshProbe
from monitor.probes.tcp import TcpProbe
from monitor.probes.tls import TlsProbe, TlsTarget
from monitor.probes.udp import UdpProbe
from monitor.result import Probe


def _process(check: services.ProcessCheck, _shared: Shared) -> Probe:
    return ProcessProbe(
        check.command, regex=check.match == "regex", none_is_critical=not (check.warning or check.critical)
    )


def _tcp(check: services.TcpCheck, _shared: Shared) -> Probe:
    send = unescaped(check.send.get_secret_value()) if check.send else b""
    return TcpProbe(check.host, check.port, check.timeout.total_seconds(), send=send, expect=check.expect)


def _udp(check: services.UdpCheck, _shared: Shared) -> Probe:
    send = unescaped(check.send.get_secret_value())
    return UdpProbe(check.host, check.port, send, check.expect, check.timeout.total_seconds())


def _http(check: services.HttpCheck, shared: Shared) -> Probe:
    headers = {name: value.get_secret_value() for name, value in check.headers.items()}
    body = check.body.get_secret_value() if check.body else None
    return HttpProbe(
        Request(check.method, check.url, headers, body),
        timeout_seconds=check.timeout.total_seconds(),
        clock=shared.clock,
        expect_status=check.expect_status,
        contains=check.contains,
        matches=check.matches,
        expect_json=check.expect_json,
        expect_headers=check.expect_headers,
        verify_tls=check.verify_tls,
    )


def _tls(check: services.TlsCheck, shared: Shared) -> Probe:
    ca_file = str(check.ca_file) if check.ca_file else None
    target = TlsTarget(check.host, check.port, check.starttls, check.server_name, ca_file, check.verify)
    return TlsProbe(target, check.timeout.total_seconds(), shared.clock)


def _dns(check: services.DnsCheck, _shared: Shared) -> Probe:
    return DnsProbe(check.record, check.kind, check.server, check.port, check.expect, check.timeout.total_seconds())


def _icmp(check: services.IcmpCheck, _shared: Shared) -> Probe:
    return IcmpProbe(check.host, check.count, check.timeout.total_seconds())


def _smtp(check: services.SmtpCheck, _shared: Shared) -> Probe:
    return SmtpProbe(check.host, check.port, check.timeout.total_seconds(), starttls=check.starttls)


def _ssh(check: services.SshCheck, _shared: Shared) -> Probe:
    return SshProbe(check.host, check.port, check.fingerprint, check.timeout.total_seconds())


def _ntp(check: services.NtpCheck, shared: Shared) -> Probe:
    return NtpProbe(check.host, check.port, check.timeout.total_seconds(), shared.clock)


def address(check: Any) -> str:
    """Return what a check of a server is about, for messages."""
    return f"{check.host}:{check.port}"


RECIPES: Recipes = {
    services.ProcessCheck: Recipe(_process, subject=lambda check: check.command),
    services.TcpCheck: Recipe(_tcp, subject=address),
    services.UdpCheck: Recipe(_udp, subject=address),
    services.HttpCheck: Recipe(_http, subject=lambda check: shown(check.url)),
    services.TlsCheck: Recipe(_tls, subject=address),
    services.DnsCheck: Recipe(_dns, subject=lambda check: f"{check.kind} of {check.record}"),
    services.IcmpCheck: Recipe(_icmp, subject=lambda check: check.host),
    services.SmtpCheck: Recipe(_smtp, subject=address),
    services.SshCheck: Recipe(_ssh, subject=address),
    services.NtpCheck: Recipe(_ntp, subject=address),
}
