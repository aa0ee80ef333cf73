"""Recipes of checks of what systemd and Docker keep running."""

from config.checks import supervised
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.docker import DockerProbe
from monitor.probes.systemd import RestartRule, Systemctl, SystemdProbe, TimersProbe
from monitor.result import Probe


def _systemd(check: supervised.SystemdCheck, _shared: Shared) -> Probe:
    rule = RestartRule(check.most_restarts, check.restart_window.total_seconds())
    return SystemdProbe(Systemctl(check.timeout.total_seconds(), user=check.user), check.selection, rule)


def _timers(check: supervised.TimersCheck, shared: Shared) -> Probe:
    # asked twice: of the timers, and of what they trigger
    return TimersProbe(Systemctl(check.timeout.total_seconds() / 2, user=check.user), check.selection, shared.clock)


def _docker(check: supervised.DockerCheck, shared: Shared) -> Probe:
    return DockerProbe(str(check.socket), check.selection, check.timeout.total_seconds(), shared.clock)


RECIPES: Recipes = {
    supervised.SystemdCheck: Recipe(_systemd, optional=frozenset({"restarts", "state_for"})),
    supervised.TimersCheck: Recipe(_timers, optional=frozenset({"last_run_age"})),
    supervised.DockerCheck: Recipe(_docker, optional=frozenset({"restarts", "up_for", "exit_code"})),
}
