"""From a log of alerts to episodes: what fired, how bad it got, who took it, when it was over."""

from datetime import UTC, datetime, timedelta

from monitor.alerting import Change, State
from monitor.episodes import Taken, episodes
from monitor.result import Status
from monitor.store import AlertLogEntry

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def entry(minutes: float, change: Change, severity: Status = Status.WARNING, alert: str = "a") -> AlertLogEntry:
    return AlertLogEntry(at(minutes), alert, "disk", "disk", "/", change, State.FIRING, severity, change.value)


def test_an_alert_that_worsens_and_ends_is_one_episode_with_a_span_for_each_severity() -> None:
    [one] = episodes([
        entry(0, Change.PENDING), entry(5, Change.FIRED), entry(20, Change.WORSENED, Status.CRITICAL),
        entry(50, Change.EASED), entry(55, Change.RECOVERING), entry(60, Change.RESOLVED),
    ])  # fmt: skip
    assert [(span.severity, span.began_at, span.ended_at) for span in one.spans] == [
        (Status.WARNING, at(5), at(20)), (Status.CRITICAL, at(20), at(50)), (Status.WARNING, at(50), at(60)),
    ]  # fmt: skip
    assert (one.severity, one.fired_at, one.resolved_at, one.reason) == (Status.CRITICAL, at(5), at(60), "fired")


def test_what_never_fired_is_no_episode_and_what_still_fires_has_no_end() -> None:
    found = episodes([entry(0, Change.PENDING), entry(1, Change.CLEARED), entry(9, Change.FIRED, alert="b")])
    assert [(one.alert_id, one.resolved_at) for one in found] == [("b", None)]


def test_the_end_of_one_whose_beginning_the_log_has_lost_is_passed_over() -> None:
    assert episodes([entry(0, Change.RESOLVED), entry(1, Change.WORSENED)]) == []


def test_an_acknowledgement_belongs_to_the_episode_in_which_it_was_given() -> None:
    log = [entry(0, Change.FIRED), entry(10, Change.RESOLVED), entry(20, Change.FIRED), entry(30, Change.RESOLVED)]
    first, second = episodes(log, [Taken("a", at(25), "anna"), Taken("b", at(5), "li")])
    assert (first.acknowledged_by, second.acknowledged_by, second.acknowledged_at) == ("", "anna", at(25))


def test_a_span_counts_only_what_lies_within_the_period() -> None:
    [one] = episodes([entry(0, Change.FIRED), entry(60, Change.RESOLVED)])
    [span] = one.spans
    assert span.seconds_within(at(30), at(90)) == 1800
    assert span.seconds_within(at(70), at(90)) == 0
    [lasting] = episodes([entry(0, Change.FIRED)])
    assert lasting.spans[0].seconds_within(at(-10), at(10)) == 600
