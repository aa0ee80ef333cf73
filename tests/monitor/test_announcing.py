"""Who is told what, and when not: every reason to wait, planted one at a time in a world that is otherwise real."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from config.notify import MaintenanceSettings, QuietHours
from monitor.flapping import share
from monitor.maintenance import maintenance_of
from monitor.notify import NotifyError
from monitor.result import Status

OK, WARNING, CRITICAL, UNKNOWN, ABSENT = Status
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")


def utc(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=UTC)


# Flapping


def test_an_alert_that_comes_and_goes_is_told_to_flap_once_and_at_the_end_what_is_true(world) -> None:
    w = world()
    w.see(*[WARNING, OK] * 10)
    flapping = w.titles().index("[WARNING] erp-1: flapping disk")
    assert flapping <= 8, "it comes and goes a few times before it is called flapping"
    assert len(w.titles()) == flapping + 1, "and then there is quiet"
    assert w.engine.suppressed_counts()["flapping"] == 1
    w.see(*[OK] * 20)
    assert w.titles()[flapping + 1 :] == ["[RESOLVED] erp-1: disk"]
    assert w.engine.suppressed_counts()["flapping"] == 0


def test_an_alert_that_stops_flapping_and_fires_is_told_as_firing(world) -> None:
    w = world()
    w.see(*[WARNING, OK] * 10)
    before = len(w.titles())
    w.see(*[WARNING] * 20)
    assert w.titles()[before:] == ["[WARNING] erp-1: disk"]
    changes = [entry.change.value for entry in w.store.log(limit=1000)]
    assert (changes.count("flapping"), changes.count("steady")) == (1, 1)


def test_flapping_goes_on_over_a_restart(world) -> None:
    w = world()
    w.see(*[WARNING, OK] * 10)
    before = len(w.titles())
    w.restart()
    w.see(*[WARNING, OK] * 5)
    assert w.titles()[before:] == []


def test_a_check_that_wavers_and_never_fires_is_not_flapping(world, policy) -> None:
    w = world(policy(min_samples=2, of_samples=2))
    w.see(*[WARNING, OK] * 20)
    assert w.titles() == []
    assert w.engine.suppressed_counts()["flapping"] == 0


def test_what_gets_worse_while_it_flaps_is_told(world) -> None:
    w = world()
    w.see(*[WARNING, OK] * 10)
    before = len(w.titles())
    w.see(CRITICAL)
    assert w.titles()[before:] == ["[CRITICAL] erp-1: flapping disk"]


def test_newer_changes_weigh_more_and_all_of_them_are_everything() -> None:
    assert share(0) == 0
    assert share((1 << 20) - 1) == pytest.approx(1)
    assert share(1) > share(1 << 19) > 0


def test_a_thing_that_is_gone_flaps_no_longer(world, policy) -> None:
    w = world(policy(configured=frozenset()))
    w.see(*[WARNING, OK] * 10, entity="sda")
    assert [s.alert.flapping for s in w.engine.alerts()] == [True]
    w.see(OK, entity="sdb")
    assert [s.alert.flapping for s in w.engine.alerts()] == [False]
    assert w.titles()[-1] == "[RESOLVED] erp-1: disk / sda"


# Quiet hours


def test_quiet_hours_hold_a_warning_until_they_end_and_let_what_is_critical_through(world, policy, channel) -> None:
    w = world(policy("a"), policy("b"), channels=[channel(quiet_hours="11:00-13:00")])
    w.see(WARNING, check="a")
    w.see(CRITICAL, check="b")
    assert w.titles() == ["[CRITICAL] erp-1: b"]
    w.wait(HOUR)
    assert w.titles()[1:] == ["[WARNING] erp-1: a"]


def test_a_warning_that_is_over_before_the_quiet_hours_are_is_never_told(world, channel) -> None:
    w = world(channels=[channel(quiet_hours="11:00-13:00")])
    w.see(WARNING, OK)
    w.wait(2 * HOUR)
    assert w.titles() == []


def test_nobody_is_woken_to_hear_that_a_warning_is_over(world, channel) -> None:
    w = world(channels=[channel(quiet_hours="12:30-13:00")])
    w.see(WARNING)
    w.now += 40 * MINUTE
    w.see(OK)
    assert w.titles() == ["[WARNING] erp-1: disk"]
    w.wait(20 * MINUTE)
    assert w.titles()[1:] == ["[RESOLVED] erp-1: disk"]


def test_quiet_hours_are_those_of_the_operators_clock_in_summer_and_winter(channel) -> None:
    quiet = channel(quiet_hours={"warning": "22:00-07:00", "critical": "sat,sun 00:00-24:00"}).quiet_hours
    assert isinstance(quiet, QuietHours)
    held = [
        quiet.hold("warning", utc(2026, month, 10, hour).astimezone(BERLIN))
        for month, hour in ((1, 20), (1, 21), (7, 19), (7, 20))
    ]
    assert held == [None, "22:00-07:00", None, "22:00-07:00"]
    assert quiet.hold("critical", utc(2026, 1, 10, 12)) == "sat,sun 00:00-24:00"
    assert quiet.hold("critical", utc(2026, 1, 12, 12)) is None


def test_quiet_hours_of_one_channel_are_not_those_of_another(world, channel) -> None:
    w = world(channels=[channel("mail"), channel("phone", quiet_hours="00:00-24:00")])
    w.see(WARNING)
    assert (w.titles("mail"), w.titles("phone")) == (["[WARNING] erp-1: disk"], [])


# Maintenance


def windows(zone=UTC, **settings: object):
    return maintenance_of([MaintenanceSettings(name="patch night", **settings)], zone)


def test_what_fires_during_maintenance_is_told_afterwards_if_it_still_does(world, policy) -> None:
    w = world(policy("web 1"), policy("web 2"), policy("disk"))
    w.surround(maintenance=windows(window="wed 11:00-13:00", matchers=["check=~web.*"]))
    for check in ("web 1", "web 2", "disk"):
        w.see(CRITICAL, check=check)
    assert w.titles() == ["[CRITICAL] erp-1: disk"]
    [reason] = {one.reason for s in w.engine.alerts() for one in s.suppressed_by}
    assert reason == "maintenance patch night"
    w.see(OK, check="web 2")
    w.wait(HOUR)
    assert w.titles()[1:] == ["[CRITICAL] erp-1: web 1"]


@pytest.mark.parametrize(
    ("settings", "inside", "outside"),
    [
        ({"window": "sun 02:00-04:00"}, utc(2026, 1, 4, 1), utc(2026, 1, 4, 3)),
        ({"window": "sun 02:00-04:00"}, utc(2026, 7, 5, 0), utc(2026, 7, 5, 2)),
        # On the night of 29 March two o'clock does not come; the window ends at four all the same.
        ({"window": "sun 02:00-04:00"}, utc(2026, 3, 29, 1, 59), utc(2026, 3, 29, 2)),
        # On 25 October it comes twice.
        ({"window": "sun 02:00-04:00"}, utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 3)),
        ({"schedule": "monthly 1 03:00", "lasting": "2h"}, utc(2026, 7, 1, 2, 59), utc(2026, 7, 1, 3)),
        ({"schedule": "monthly 1 03:00", "lasting": "2h"}, utc(2026, 1, 1, 2), utc(2026, 1, 1, 1, 59)),
        ({"schedule": "daily 23:00", "lasting": "3h"}, utc(2026, 1, 2, 0, 59), utc(2026, 1, 2, 1)),
        (
            {"starts_at": datetime(2026, 7, 1, 20), "ends_at": datetime(2026, 7, 1, 22)},  # noqa: DTZ001
            utc(2026, 7, 1, 18), utc(2026, 7, 1, 20),
        ),
        ({"starts_at": utc(2026, 7, 1, 20), "ends_at": utc(2026, 7, 1, 22)}, utc(2026, 7, 1, 20), utc(2026, 7, 1, 19)),
    ],
)  # fmt: skip
def test_a_window_is_open_by_the_clock_of_its_zone(settings, inside, outside) -> None:
    [window] = windows(BERLIN, **settings)
    assert (window.is_open(inside), window.is_open(outside)) == (True, False)


def test_a_window_may_be_meant_in_another_zone_than_the_daemons() -> None:
    [window] = windows(UTC, window="08:00-09:00", timezone="Asia/Shanghai")
    assert window.is_open(utc(2026, 1, 1, 0, 30))


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"schedule": "daily 02:00"}, {"lasting": "2h"}, {"schedule": "every 2h", "lasting": "1h"},
        {"window": "02:00-03:00", "schedule": "daily 02:00"},
        {"starts_at": utc(2026, 1, 2), "ends_at": utc(2026, 1, 1)}, {"window": "02:00-03:00", "timezone": "Nowhere"},
        {"window": "02:00-03:00", "matchers": ["check"]}, {"window": "02:00-03:00", "matchers": ["check=~("]},
    ],
)  # fmt: skip
def test_a_window_that_would_never_or_always_be_open_is_refused(settings) -> None:
    with pytest.raises(ValidationError):
        MaintenanceSettings(name="x", **settings)


# What somebody accepted


def test_a_known_number_is_accepted_and_only_more_of_it_is_told(world) -> None:
    w = world()
    w.see(WARNING, value=8)
    w.store.acknowledge("disk", "eve", "old disk, known", w.now, as_baseline=True)
    w.wait(9 * HOUR)
    w.see(OK, WARNING, value=8)
    w.restart()
    w.see(WARNING, value=7)
    assert w.titles() == ["[WARNING] erp-1: disk", "[RESOLVED] erp-1: disk"]
    [standing] = w.engine.alerts()
    assert [one.reason for one in standing.suppressed_by] == ["used accepted by eve up to 8: old disk, known"]
    w.see(WARNING, WARNING, value=9)
    assert w.titles()[2:] == ["[WARNING] erp-1: disk"]
    assert "it is beyond the 8 that eve accepted" in w.phones["ops"].received[-1].body


def test_a_number_that_rises_while_it_fires_is_told_although_it_was_told_before(world) -> None:
    w = world()
    w.see(WARNING, value=8)
    w.store.acknowledge("disk", "eve", "", w.now, as_baseline=True)
    w.see(WARNING, value=8)
    w.see(WARNING, value=9)
    assert w.titles() == ["[WARNING] erp-1: disk"] * 2
    w.store.acknowledge("disk", "eve", "", w.now, as_baseline=True)
    w.see(WARNING, value=9)
    w.see(WARNING, value=10)
    assert len(w.titles()) == 3


def test_what_is_bad_when_it_falls_is_accepted_down_to_a_value(world, policy) -> None:
    w = world(policy(bad_below=frozenset({"used"})))
    w.see(WARNING, value=8)
    w.store.acknowledge("disk", "eve", "", w.now, as_baseline=True)
    w.see(WARNING, value=9)
    assert len(w.titles()) == 1
    w.see(WARNING, value=7)
    assert len(w.titles()) == 2


def test_an_acceptance_can_be_taken_back(world) -> None:
    w = world()
    w.see(WARNING, value=8)
    w.store.acknowledge("disk", "eve", "", w.now, as_baseline=True)
    w.see(OK, value=1)
    assert w.store.unacknowledge("disk", w.now)
    w.see(WARNING, value=8)
    assert w.titles()[2:] == ["[WARNING] erp-1: disk"]


# Dependencies


def test_a_redundancy_group_is_down_only_when_all_of_it_is(world, policy) -> None:
    w = world(policy("line 1"), policy("line 2"), policy("shop", depends_on=(("line 1", "line 2"),)))
    w.see(CRITICAL, check="line 1")
    w.see(OK, check="line 2")
    w.see(CRITICAL, check="shop", every=timedelta(0))
    w.see(OK, check="line 2", every=timedelta(0))
    w.see(CRITICAL, check="line 1")
    assert w.titles() == ["[CRITICAL] erp-1: line 1", "[CRITICAL] erp-1: shop"]
    w.see(OK, check="shop")
    w.see(CRITICAL, check="line 2")
    w.see(CRITICAL, check="line 1", every=timedelta(0))
    w.see(CRITICAL, check="line 2", every=timedelta(0))
    w.see(CRITICAL, check="shop")
    assert w.titles()[2:] == ["[RESOLVED] erp-1: shop", "[CRITICAL] erp-1: line 2"]


def test_a_parent_that_was_not_looked_at_since_is_looked_at_first(world, policy) -> None:
    w = world(policy("switch"), policy("server", depends_on=("switch",)))
    w.see(OK, check="switch")
    w.see(CRITICAL, check="server", every=SECOND)
    assert w.titles() == [], "nobody knows yet whether it is the switch"
    assert w.engine.checks_to_look_at() == {"switch"}
    assert w.engine.checks_to_look_at() == frozenset(), "asked for once"
    w.see(CRITICAL, check="switch")
    assert w.titles() == ["[CRITICAL] erp-1: switch"]


def test_a_parent_that_never_answers_holds_nobody_up_for_long(world, policy) -> None:
    w = world(policy("switch"), policy("server", depends_on=("switch",)))
    w.see(OK, check="switch")
    w.see(CRITICAL, check="server")
    w.wait(5 * SECOND)
    assert w.titles() == ["[CRITICAL] erp-1: server"]


# Escalation, rate, fallback


def test_escalation_goes_by_unacknowledged_time_and_only_the_last_step_repeats(world, channel) -> None:
    w = world(channels=[channel("mail", repeat=HOUR), channel("boss", escalate_after="30m", repeat=HOUR)])
    w.see(CRITICAL)
    w.wait(29 * MINUTE)
    assert (len(w.titles("mail")), w.titles("boss")) == (1, [])
    w.wait(MINUTE)
    assert w.titles("boss") == ["[CRITICAL] erp-1: disk"]
    w.wait(HOUR + SECOND)
    assert (len(w.titles("mail")), w.titles("boss")[1:]) == (1, ["[CRITICAL] erp-1: still disk"])
    w.see(OK)
    assert w.titles("mail")[1:] == w.titles("boss")[2:] == ["[RESOLVED] erp-1: disk"]


def test_an_acknowledged_alert_climbs_no_further_and_goes_on_where_it_stopped(world, channel) -> None:
    w = world(channels=[channel("mail"), channel("boss", escalate_after="30m")])
    w.see(CRITICAL)
    w.wait(20 * MINUTE)
    w.store.acknowledge("disk", "bob", "", w.now, w.now + 2 * HOUR)
    w.wait(SECOND)
    w.wait(HOUR)
    w.restart()
    w.wait(HOUR)
    assert w.titles("boss") == []
    w.wait(9 * MINUTE)
    assert w.titles("boss") == []
    w.wait(2 * MINUTE)
    assert w.titles("boss") == ["[CRITICAL] erp-1: disk"]


def test_more_messages_than_a_channel_may_have_become_one_digest(world, policy, channel) -> None:
    checks = [f"check {number}" for number in range(10)]
    w = world(*map(policy, checks), channels=[channel(at_most="3 per 1h")])
    for check in checks:
        w.see(CRITICAL, check=check)
    assert len(w.titles()) == 3
    w.wait(HOUR)
    assert w.titles()[3:] == ["[CRITICAL] erp-1: 7 critical"]


def test_while_a_channel_fails_its_fallback_is_told_and_hears_the_end_of_it(world, policy, channel) -> None:
    w = world(
        policy("a"), policy("b"),
        channels=[channel("mail", fallback="sms", fallback_after="10m"), channel("sms", severities=[])],
    )  # fmt: skip
    w.see(CRITICAL, check="a")
    w.phones["mail"].broken = NotifyError("connection refused", permanent=False)
    w.see(CRITICAL, check="b")
    w.wait(9 * MINUTE)
    assert w.titles("sms") == []
    w.wait(2 * MINUTE)
    assert w.titles("sms") == ["[CRITICAL] erp-1: b"], "what the channel had heard before is not told again"
    w.phones["mail"].broken = None
    w.wait(11 * MINUTE)
    assert w.titles("mail") == ["[CRITICAL] erp-1: a", "[CRITICAL] erp-1: b"]
    w.see(OK, check="b")
    assert w.titles("sms")[1:] == w.titles("mail")[2:] == ["[RESOLVED] erp-1: b"]


def test_what_a_channel_can_never_deliver_goes_to_its_fallback_too(world, channel) -> None:
    w = world(channels=[channel("mail", fallback="sms", fallback_after="1m"), channel("sms", severities=[])])
    w.phones["mail"].broken = NotifyError("no such address", permanent=True)
    w.see(CRITICAL)
    w.wait(MINUTE)
    assert w.titles("sms") == ["[CRITICAL] erp-1: disk"]
    state = w.engine.ledger().channels["mail"]
    assert (state.failed, state.given_up) == (1, 1)
    assert state.failing_since - (w.now - MINUTE - 10 * SECOND) < SECOND


# Time


def test_a_clock_that_jumps_an_hour_fires_nothing_early_and_holds_no_message_back(world, policy) -> None:
    w = world(policy(warning_for=5 * MINUTE, critical_for=5 * MINUTE))
    w.see(CRITICAL)
    w.now += HOUR
    w.engine.clock_stepped(HOUR, w.now)
    w.see(CRITICAL)
    assert w.titles() == [], "it has lasted ten seconds"
    w.wait(5 * MINUTE)
    w.phones["ops"].broken = NotifyError("no answer", permanent=False)
    w.see(CRITICAL)
    w.phones["ops"].broken = None
    w.now -= HOUR
    w.engine.clock_stepped(-HOUR, w.now)
    w.wait(SECOND)
    assert w.titles() == ["[CRITICAL] erp-1: disk"], "and does not wait for the lost hour to come by"
