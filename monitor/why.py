"""Why an alert is as it is, and who is told of it or not: the whole trace of decisions, in words.

The very functions that decide are asked here (monitor/alerting.py, suppress.py, telling.py), so that what is printed
is what happens. Pure: values in, sections of lines out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from config.checks import Bound
from config.notify import NotifySettings
from config.units import format_duration
from config.wording import counted
from monitor.actions import ActionEntry
from monitor.alerting import NO_DATA, Alert, Policy, State, Streak
from monitor.flapping import BEGINS_AT, ENDS_AT, WINDOW, share
from monitor.outbox import ChannelState, Ledger
from monitor.result import Status
from monitor.store import AlertLogEntry
from monitor.suppress import Acknowledgement
from monitor.telling import Situation, Told, decide, has_passed
from monitor.wording import format_value

_UNKNOWN_CHANNEL = ChannelState()


@dataclass(frozen=True, slots=True)
class Section:
    """One step of the trace."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an alert besides itself."""

    situation: Situation
    ledger: Ledger
    channels: Sequence[NotifySettings] = ()
    warning: Sequence[Bound] = ()
    critical: Sequence[Bound] = ()
    acknowledgement: Acknowledgement | None = None
    log: Sequence[AlertLogEntry] = ()
    """Its latest transitions, newest first."""
    actions: Sequence[ActionEntry] = ()
    """Commands that it asked for, newest first."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Channel -> what its waiting message failed of last."""


def trace(alert: Alert, policy: Policy | None, evidence: Evidence) -> list[Section]:
    """Return the steps from the reading to each channel. ``policy``: None for a check that is no longer configured."""
    page = _Page(alert, policy, evidence)
    sections = [
        Section("judged", tuple(page.judged())), Section("lasting", tuple(page.lasting())),
        Section("held back", tuple(page.held_back())),
    ]  # fmt: skip
    sections += [Section(f"channel {channel.name}", tuple(page.channel(channel))) for channel in evidence.channels]
    sections += [Section("commands", tuple(page.commands())), Section("what happened", tuple(page.log()))]
    return [section for section in sections if section.lines]


@dataclass(frozen=True, slots=True)
class _Page:
    alert: Alert
    policy: Policy | None
    evidence: Evidence

    @property
    def now(self) -> datetime:
        return self.evidence.situation.now

    @property
    def zone(self) -> tzinfo:
        return self.evidence.situation.zone

    def judged(self) -> list[str]:
        """What the last judged result said, and by which thresholds."""
        alert = self.alert
        lines = [f"{alert.message} (judged {self.ago(alert.judged_at)})"]
        if alert.name == NO_DATA:
            lines.append("a check that cannot be judged three times in a row has this alert of its own")
            return lines
        for level, bounds in (("warning", self.evidence.warning), ("critical", self.evidence.critical)):
            for bound in bounds:
                reading = bound.reading or "main reading"
                over = bound.until.opposite()
                until = f"{over.op} {format_value(over.bound, over.kind)}"
                lines.append(f"{level}: {reading} {bound.raise_}, until {until}")
        if alert.value is not None:
            lines.append(f"{alert.reading} was {alert.value:g}")
        if alert.stale_since is not None:
            lines.append(f"no data since {self.moment(alert.stale_since)}: it keeps firing, since unknown is not well")
        return lines

    def lasting(self) -> list[str]:
        """How far each level is on its way to fire, or the alert on its way to end."""
        alert, policy = self.alert, self.policy
        if policy is None:
            return ["its check is no longer configured"]
        if alert.state is State.RESOLVED:
            since = f" since {self.moment(alert.resolved_at)}" if alert.resolved_at else ""
            return [f"over{since}: {alert.ended_because}"]
        lines = [f"{alert.state} as {alert.severity.label} since {self.moment(alert.since)}"]
        if alert.is_firing and alert.fired_at is not None:
            lines[0] += f", firing since {self.moment(alert.fired_at)}"
        for level, streak, lasting in (
            (Status.WARNING, alert.warning, policy.warning_for), (Status.CRITICAL, alert.critical, policy.critical_for),
        ):  # fmt: skip
            lines.append(self._level(level, streak, lasting, policy))
        if alert.clear_since is not None:
            clear = f"clear for {self.since(alert.clear_since)}, {counted(alert.clear_samples, 'result')}"
            lines.append(f"{clear}; ends {_after(policy.keep_firing_for, policy.breaking_samples)}")
        if alert.flips:
            lines.append(
                f"changed by {share(alert.flips):.0%} of its last {WINDOW} results: "
                f"{'flapping until below' if alert.flapping else 'flapping from'} "
                f"{ENDS_AT if alert.flapping else BEGINS_AT:.0%}"
            )
        return lines

    def _level(self, level: Status, streak: Streak | None, lasting: timedelta, policy: Policy) -> str:
        wanted = f"fires {_after(lasting, policy.min_samples, policy.of_samples)}"
        if streak is None:
            return f"{level.label}: not now; {wanted}"
        return f"{level.label}: for {self.since(streak.since)}, {counted(streak.samples, 'result')}; {wanted}"

    def held_back(self) -> list[str]:
        """Every suppressor that counts now."""
        alert = self.alert
        reasons = [one.reason for one in self.evidence.situation.suppressed.get(alert.id, ())]
        if mark := self.evidence.situation.marks.get(alert.id):
            reasons.append(f"not any more: it is {mark}")
        given = self.evidence.acknowledgement
        if given is not None and not given.covers(alert, self.now, self.policy.bad_below if self.policy else ()):
            over = "it has run out, or the alert got worse than it was"
            reasons.append(f"not by the acknowledgement of {given.author}: {over}")
        return reasons or ["by nothing"]

    def channel(self, channel: NotifySettings) -> list[str]:
        """What one channel knows, is owed, and why not more."""
        told = self.evidence.ledger.told.get(channel.name, {}).get(self.alert.id)
        decision = decide(self.alert, told, channel, self.evidence.situation)
        lines = [self._told(told)]
        if decision.item is None:
            lines.append(f"owed nothing: {decision.reason}")
        else:
            lines.append(f"owed ({decision.item.kind}): {decision.reason}")
            lines += self._delay(channel, decision.item.due_at)
        state = self.evidence.ledger.channels.get(channel.name, _UNKNOWN_CHANNEL)
        if state.failing_since is not None:
            lines.append(f"failing since {self.moment(state.failing_since)}")
        return lines

    def _delay(self, channel: NotifySettings, due_at: datetime) -> list[str]:
        parcel = self.evidence.ledger.parcels.get(channel.name)
        if parcel is not None:
            failed = self.evidence.errors.get(channel.name)
            why = f", last failure: {failed}" if failed else ""
            attempts = counted(parcel.attempts, "attempt")
            return [f"in the outbox since {self.moment(parcel.created_at)}, {attempts}{why}"]
        last = self.evidence.ledger.channels.get(channel.name, _UNKNOWN_CHANNEL).last_message_at
        lines = []
        if not has_passed(channel.group_wait, due_at, self.now):
            lines.append(f"waits for company until {self.moment(due_at + channel.group_wait)}")
        if last is not None and not has_passed(channel.group_interval, last, self.now):
            lines.append(f"the channel had a message {self.ago(last)}, the next may go {self.in_(last, channel)}")
        if channel.at_most:
            lines.append(f"at most {channel.at_most}")
        return lines

    def commands(self) -> list[str]:
        """What was run because of it."""
        return [
            f"{self.moment(entry.requested_at)} {entry.command}: {entry.outcome}"
            + (f", exit code {entry.exit_code}" if entry.exit_code is not None else "")
            for entry in self.evidence.actions
        ]

    def log(self) -> list[str]:
        """Its latest transitions, newest first."""
        return [
            f"{self.moment(entry.at)} {entry.change} ({entry.severity.label}): {entry.reason}"
            for entry in self.evidence.log
        ]

    def _told(self, told: Told | None) -> str:
        if told is None:
            return "was told nothing, or that it is over"
        sure = "was told" if told.sure else "may have been told"
        mark = f" ({told.mark})" if told.mark else ""
        return f"{sure} {self.ago(told.told_at)}: {told.severity.label}{mark}"

    def moment(self, moment: datetime) -> str:
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S")

    def since(self, moment: datetime) -> str:
        return format_duration(max(self.now - moment, timedelta(0)))

    def ago(self, moment: datetime) -> str:
        return f"{self.since(moment)} ago"

    def in_(self, last: datetime, channel: NotifySettings) -> str:
        return f"in {format_duration(last + channel.group_interval - self.now)}"


def _after(lasting: timedelta, samples: int, window: int = 0) -> str:
    """Write what has to be so before an alert changes: ``after 2m and 3 of 5 results``, ``at once``."""
    results = f"{samples} of {window} results" if window > samples else counted(samples, "result")
    wanted: list[str] = [format_duration(lasting)] if lasting else []
    wanted += [results] if max(samples, window) > 1 else []
    return f"after {' and '.join(wanted)}" if wanted else "at once"
