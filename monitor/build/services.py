"""Recipes of checks of what runs here or answers over the network."""

from config.checks import services
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.http import HttpProbe, shown
from monitor.probes.http_exchange import Request
from monitor.probes.processes import ProcessProbe
from monitor.probes.tcp import TcpProbe
from monitor.result import Probe


def _process(check: services.ProcessCheck, _shared: Shared) -> Probe:
    return ProcessProbe(
        check.command, regex=check.match == "regex", none_is_critical=not (check.warning or check.critical)
    )


def _tcp(check: services.TcpCheck, _shared: Shared) -> Probe:
    return TcpProbe(check.host, check.port, check.timeout.total_seconds())


def _http(check: services.HttpCheck, shared: Shared) -> Probe:
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


RECIPES: Recipes = {
    services.ProcessCheck: Recipe(_process, subject=lambda check: check.command),
    services.TcpCheck: Recipe(_tcp, subject=lambda check: f"{check.host}:{check.port}"),
    services.HttpCheck: Recipe(_http, subject=lambda check: shown(check.url)),
}
