"""From a check's settings to the policy under which its results become alerts.

Refuses to judge anything: it only says which parts of the settings alerting goes by, and what they mean for each type
of check where the type decides (what counts as named by the operator, what our own jobs explain).
"""

from datetime import timedelta

from config.checks import ActionSettings, CheckSettings
from config.units import parse_duration
from monitor.alerting import ActionPolicy, Policy

_EXPLAINED_BY_OUR_LOAD = frozenset({"cpu", "load", "disk_io", "network", "pressure"})


def policy_of(settings: CheckSettings) -> Policy:
    """Return the policy of one configured check."""
    return Policy(
        name=settings.name,
        check=settings.name,
        every=settings.every,
        warning_for=settings.for_,
        critical_for=settings.for_,
        keep_firing_for=settings.keep_firing_for,
        min_samples=settings.min_samples,
        of_samples=settings.of_samples or settings.min_samples,
        configured=settings.named_entities,
        labels=settings.labels,
        runbook=settings.runbook,
        depends_on=tuple(one if isinstance(one, str) else tuple(one) for one in settings.depends_on),
        bad_below=frozenset(
            bound.reading or next(iter(settings.readings), "")
            for bound in (*settings.warning, *settings.critical)
            if bound.raise_.op.startswith("<")
        ),
        waits_for_load=settings.type in _EXPLAINED_BY_OUR_LOAD,
        on_critical=action_of(settings.on_critical) if settings.on_critical else None,
    )


def bounded_readings(settings: CheckSettings) -> frozenset[str]:
    """Return the readings that a check names in its thresholds and forecasts, its main one aside."""
    named = [bound.reading for bound in (*settings.warning, *settings.critical)]
    return frozenset(name for name in (*named, *(rule.reading for rule in settings.forecast)) if name)


def action_of(settings: ActionSettings) -> ActionPolicy:
    """Return a command with its cap as numbers: ``1 per 1h`` is one in an hour."""
    limit, _, period = settings.at_most.partition(" per ")
    return ActionPolicy(
        settings.run, int(limit), max(parse_duration(period), timedelta(milliseconds=1)), settings.cooldown
    )
