"""Settings into checks: from each settings class to the probe that does it, one table an area.

Nothing is measured and nothing started here; a probe opens what it needs at its first run. An area's table, and the
probes in it, are imported when a check of that area is first built.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from importlib import import_module

from config.checks import TYPES, CheckSettings
from monitor.build.recipe import Recipe, Shared
from monitor.check import Check
from monitor.inbox import Inbox
from monitor.memory import Memories
from monitor.probes.file_systems import FileSystems


def build_checks(
    checks: Iterable[CheckSettings],
    *,
    file_systems: FileSystems,
    clock: Callable[[], datetime],
    memories: Memories | None = None,
    inbox: Inbox | None = None,
    zone: tzinfo = UTC,
) -> list[Check]:
    """Return a check for each settings entry, in their order.

    Certificates and ages are held against ``clock``, which has to be a function of a module: some probes measure in a
    child. Without ``memories`` a check remembers as long as it lives; without ``inbox`` nobody has reported.
    """
    memories = memories or Memories()
    shared = Shared(file_systems, clock, memories, inbox or Inbox(memories), zone)
    return [_build(check, shared) for check in checks]


def recipe_of(check: CheckSettings) -> Recipe:
    """Return how a check is made. Its area has a module here that is named as the one of its settings is."""
    recipe: Recipe = import_module(f"monitor.build.{TYPES[check.type]}").RECIPES[type(check)]
    return recipe


def _build(check: CheckSettings, shared: Shared) -> Check:
    recipe = recipe_of(check)
    return Check(
        name=check.name,
        type=check.type,
        probe=recipe.probe(check, shared),
        subject=recipe.subject(check) if recipe.subject else "",
        every=recipe.every(check) if recipe.every else check.every,
        retry_interval=check.retry_interval,
        timeout=check.timeout,
        for_=check.for_,
        keep_firing_for=check.keep_firing_for,
        min_samples=check.min_samples,
        warning=tuple(check.warning),
        critical=tuple(check.critical),
        labels=check.labels,
        runbook=check.runbook,
        depends_on=tuple(one if isinstance(one, str) else tuple(one) for one in check.depends_on),
        on_critical=check.on_critical,
        optional=recipe.optional,
    )
