"""Recipes of checks of logs."""

from config.checks import logs
from monitor.build.recipe import Recipe, Recipes, Shared
from monitor.probes.log import LineRules, LogProbe
from monitor.result import Probe


def _log(check: logs.LogCheck, shared: Shared) -> Probe:
    return LogProbe(
        check.name,
        LineRules(check.matches, check.ignore),
        files=check.files,
        journal=check.journal,
        window=check.window,
        show=check.show,
        timeout_seconds=check.timeout.total_seconds(),
        memories=shared.memories,
        clock=shared.clock,
    )


def _read(check: logs.LogCheck) -> str:
    return ", ".join(check.files) or "the journal"


RECIPES: Recipes = {logs.LogCheck: Recipe(_log, subject=_read)}
