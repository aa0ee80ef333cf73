"""Recipes of checks of how the machine is kept."""

import os

from config.checks import upkeep
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.failed_logins import FailedLoginsProbe
from monitor.probes.permissions import Expected, PermissionsProbe
from monitor.probes.ports import ListeningPortsProbe
from monitor.probes.reboot import RebootProbe
from monitor.probes.recent import Recent
from monitor.probes.updates import UpdatesProbe
from monitor.result import Probe


def _permissions(check: upkeep.PermissionsCheck, _shared: Shared) -> Probe:
    return PermissionsProbe(
        list(map(os.fspath, check.paths)),
        Expected(int(check.at_most, 8), check.owner, check.group),
        check.timeout.total_seconds(),
        recursive=check.recursive,
    )


RECIPES: Recipes = {
    upkeep.RebootCheck: Recipe(lambda _check, _shared: RebootProbe()),
    # lists that were never fetched have no age
    upkeep.UpdatesCheck: Recipe(
        lambda check, shared: UpdatesProbe(check.timeout.total_seconds(), shared.clock), optional=frozenset({"age"})
    ),
    upkeep.PermissionsCheck: Recipe(_permissions),
    upkeep.ListeningPortsCheck: Recipe(
        lambda check, _shared: ListeningPortsProbe(check.allowed, loopback=check.loopback)
    ),
    upkeep.FailedLoginsCheck: Recipe(lambda check, _shared: FailedLoginsProbe(Recent(check.within.total_seconds()))),
}
