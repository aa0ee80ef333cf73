"""The engine as the daemon uses it: real store, real outbox, real delivery; only the channel's far end is in memory."""

import sqlite3
import time
from datetime import timedelta

import pytest

from config.checks import ActionSettings
from monitor.alerting import NO_DATA, State
from monitor.matching import Matcher
from monitor.policy import action_of
from monitor.result import Status
from monitor.store import MonitorStore
from monitor.suppress import LoadWindow

OK, WARNING, CRITICAL, UNKNOWN, ABSENT = Status
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def test_a_firing_alert_is_told_once_and_so_is_its_recovery(world) -> None:
    w = world()
    w.see(WARNING, WARNING, WARNING, OK, OK)
    assert w.titles() == ["[WARNING] erp-1: disk", "[RESOLVED] erp-1: disk"]


def test_worse_is_told_again_and_better_is_not(world) -> None:
    w = world()
    w.see(WARNING, CRITICAL, WARNING, OK)
    assert w.titles() == ["[WARNING] erp-1: disk", "[CRITICAL] erp-1: disk", "[RESOLVED] erp-1: disk"]


def test_a_restart_tells_nothing_again_and_forgets_nothing(world, policy) -> None:
    w = world(policy(warning_for=30 * SECOND))
    w.see(WARNING, WARNING)
    w.restart(after=10 * SECOND)
    w.see(WARNING, WARNING)
    assert w.titles() == ["[WARNING] erp-1: disk"], "the wait went on over the restart"
    w.restart()
    w.see(WARNING)
    w.restart(after=3 * HOUR)
    w.see(OK)
    assert w.titles()[1:] == ["[RESOLVED] erp-1: disk"]


def test_a_message_carries_what_an_operator_needs(world, policy, result) -> None:
    w = world(policy(runbook="disk-full", labels={"site": "hq"}, configured=frozenset()))
    w.engine._evidence = lambda _: ["postgres (4711): 12 GiB"]
    bad = result(CRITICAL, w.now, entity="/srv", message="used 96.1 % (> 95%)")
    w.engine.take([bad], w.now)
    w.wait(65 * SECOND)
    [sent] = w.phones["ops"].received
    [alert] = w.store.alerts()
    assert sent.severity is CRITICAL
    for part in (
        "disk / /srv is critical: used 96.1 % (> 95%)", "since 2024-05-01 12:00:00 UTC (1m 5s) on erp-1", "site=hq",
        "runbook: disk-full", "postgres (4711): 12 GiB", f"keepwatch ack {alert.id}",
        "keepwatch silence check=disk entity=/srv",
    ):  # fmt: skip
        assert part in sent.body


def test_a_message_shows_the_way_it_came_where_it_goes_and_what_hangs_on_it(world, policy) -> None:
    w = world(policy(), policy("shop", depends_on=("disk",)), policy("till", depends_on=(("disk", "shop"),)))
    w.surround(
        trend=lambda _check, _entity: (0.1, 0.2, float("nan"), 0.9),
        outlook=lambda _check, _entity: "used reaches 100% in 3h to 5h",
        plan=lambda check, _entity: "fire (A new machine), owner Anna" if check == "disk" else None,
    )
    w.see(CRITICAL)
    [sent] = w.phones["ops"].received
    for part in (
        "lately: ▁▂█", "outlook: used reaches 100% in 3h to 5h", "what depends on it: shop, till",
        "emergency plan: fire (A new machine), owner Anna", "why: keepwatch why ",
    ):  # fmt: skip
        assert part in sent.body


def test_ten_thousand_firing_alerts_cost_a_tick_little(world, policy, channel) -> None:
    checks = [f"check {number}" for number in range(10_000)]
    boss = channel("boss", escalate_after="30m", quiet_hours="00:00-01:00")
    w = world(*map(policy, checks), channels=[channel(), boss])
    w.engine.take([_bad(check, w) for check in checks], w.now)
    w.tell()
    w.now += SECOND
    w.tell()
    began = time.process_time()
    for _ in range(3):
        w.now += SECOND
        w.engine.tick(w.now)
    assert (time.process_time() - began) / 3 < 0.3
    assert len(w.titles()) == 1


def test_a_storm_is_one_digest(world, policy, channel) -> None:
    policies = [policy(f"check {number:02}") for number in range(30)]
    w = world(*policies, channels=[channel(group_wait=30 * SECOND, group_interval=5 * MINUTE)])
    for number, one in enumerate(policies):
        w.see(CRITICAL if number == 7 else WARNING, check=one.check, every=SECOND)
    w.wait(SECOND)
    assert w.titles() == ["[CRITICAL] erp-1: 1 critical, 29 warning"]
    lines = w.phones["ops"].received[0].body.splitlines()
    assert lines[0].startswith("critical check 07")
    assert "and 10 more" in lines


def test_a_quiet_channel_waits_for_company_and_a_busy_one_for_its_interval(world, policy, channel) -> None:
    w = world(policy("a"), policy("b"), channels=[channel(group_wait=30 * SECOND, group_interval=5 * MINUTE)])
    w.see(WARNING, check="a", every=29 * SECOND)
    w.tell()
    assert w.titles() == []
    w.wait(SECOND)
    assert w.titles() == ["[WARNING] erp-1: a"]
    w.see(WARNING, check="b", every=4 * MINUTE + 59 * SECOND)
    w.tell()
    assert len(w.titles()) == 1
    w.wait(SECOND)
    assert w.titles()[1:] == ["[WARNING] erp-1: b"]


def test_an_alert_that_nobody_has_is_repeated(world) -> None:
    w = world()
    w.see(WARNING)
    w.wait(4 * HOUR - 20 * SECOND)
    assert len(w.titles()) == 1
    w.wait(20 * SECOND)
    assert w.titles()[1:] == ["[WARNING] erp-1: still disk"]
    w.wait(MINUTE)
    assert len(w.titles()) == 2


def test_a_channel_is_told_only_its_severities(world, channel) -> None:
    w = world(channels=[channel("all"), channel("pager", severities=["critical"])])
    w.see(WARNING, OK)
    assert w.titles("pager") == []
    w.see(CRITICAL, WARNING, OK)
    assert w.titles("pager") == ["[CRITICAL] erp-1: disk", "[RESOLVED] erp-1: disk"]
    assert len(w.titles("all")) == 4


def test_a_silence_from_another_process_holds_messages_back_until_it_ends(world) -> None:
    w = world()
    w.see(OK)
    with_command_line = MonitorStore(w.path)
    silence = with_command_line.add_silence([Matcher.parse("check=disk")], "ann", "new disk", w.now, w.now + HOUR)
    with_command_line.close()
    w.see(CRITICAL, CRITICAL)
    assert w.titles() == []
    [standing] = w.engine.alerts()
    assert [one.reason for one in standing.suppressed_by] == [f"silence {silence.id} by ann: new disk"]
    assert w.engine.suppressed_counts()["silence"] == 1
    assert [one.id for one in w.engine.silences(w.now)] == [silence.id]
    w.wait(HOUR)
    assert w.titles() == ["[CRITICAL] erp-1: disk"], "it still fires and was never told"


def test_a_silence_never_holds_back_the_recovery_of_what_was_told(world) -> None:
    w = world()
    w.see(CRITICAL)
    w.store.add_silence([Matcher.parse("alertname=~d.*")], "ann", "", w.now, w.now + HOUR)
    w.see(OK)
    assert w.titles()[1:] == ["[RESOLVED] erp-1: disk"]


def test_what_fired_and_ended_under_a_silence_is_never_told(world) -> None:
    w = world()
    w.store.add_silence([Matcher.parse("check=disk")], "ann", "", w.now, w.now + MINUTE)
    w.see(CRITICAL, OK)
    w.wait(HOUR)
    assert w.titles() == []
    assert [entry.change.value for entry in w.store.log()] == ["resolved", "fired"], "but the log has it"


def test_an_acknowledgement_stops_repeats_and_ends_when_it_gets_worse(world) -> None:
    w = world()
    w.see(WARNING)
    w.store.acknowledge(w.store.alerts()[0].id[:5], "bob", "on it", w.now)
    w.wait(5 * HOUR)
    assert w.titles() == ["[WARNING] erp-1: disk"]
    assert w.engine.alerts()[0].acknowledgement.author == "bob"
    w.see(CRITICAL, WARNING)
    assert w.titles()[1:] == ["[CRITICAL] erp-1: disk"]
    assert w.store.acknowledgements() == {}, "easing does not bring it back"
    w.see(OK)
    assert w.titles()[2:] == ["[RESOLVED] erp-1: disk"]


def test_an_acknowledgement_belongs_to_one_episode(world) -> None:
    w = world()
    w.see(CRITICAL)
    w.store.acknowledge("disk", "bob", "", w.now)
    w.see(OK, CRITICAL)
    assert w.titles() == ["[CRITICAL] erp-1: disk", "[RESOLVED] erp-1: disk", "[CRITICAL] erp-1: disk"]


def test_a_child_waits_while_its_parent_is_critical(world, policy) -> None:
    w = world(policy("switch"), policy("server", depends_on=("switch",)), policy("site", depends_on=("server",)))
    w.see(CRITICAL, check="switch")
    w.see(CRITICAL, check="server")
    w.see(CRITICAL, check="site")
    assert w.titles() == ["[CRITICAL] erp-1: switch"]
    assert w.engine.suppressed_counts()["dependency"] == 2
    w.see(OK, check="switch")
    assert w.titles()[1:] == ["[CRITICAL] erp-1: server, 1 over"], "the site still waits for its own parent"
    w.see(OK, check="server")
    assert w.titles()[2:] == ["[CRITICAL] erp-1: site, 1 over"]


@pytest.mark.parametrize("parent", [[WARNING], [UNKNOWN] * 4, [CRITICAL, UNKNOWN]])
def test_a_parent_that_is_not_known_to_be_critical_mutes_nobody(world, policy, parent) -> None:
    w = world(policy("switch"), policy("server", depends_on=("switch",)))
    w.see(*parent, check="switch")
    w.see(CRITICAL, check="server")
    assert w.engine.checks_to_look_at() == {"switch"}
    w.see(parent[-1], check="switch")
    assert w.titles()[-1] == "[CRITICAL] erp-1: server"


def test_checks_that_depend_on_each_other_do_not_hang_the_engine(world, policy) -> None:
    w = world(policy("a", depends_on=("b",)), policy("b", depends_on=("a",)))
    w.see(CRITICAL, check="a")
    assert w.titles() == ["[CRITICAL] erp-1: a"]


def test_load_of_our_own_jobs_holds_back_what_it_explains(world, policy) -> None:
    w = world(policy("cpu", waits_for_load=True), policy("disk"))
    window = LoadWindow("backup documents", w.now - SECOND)
    w.engine.take([], w.now)
    w.engine.tick(w.now, [window])
    for check in ("cpu", "disk"):
        w.engine.take([_bad(check, w)], w.now)
    w.tell(load_windows=[window])
    assert w.titles() == ["[CRITICAL] erp-1: disk"]
    w.now += 30 * SECOND
    w.tell(load_windows=[LoadWindow(window.reason, window.opened_at, w.now - 10 * SECOND)])
    assert len(w.titles()) == 1, "the check has not seen yet that the load is gone"
    w.wait(MINUTE)
    assert w.titles()[1:] == ["[CRITICAL] erp-1: cpu"]


def test_nothing_new_is_told_while_the_daemon_starts(world) -> None:
    w = world()
    w.grace = MINUTE
    w.restart()
    w.see(CRITICAL)
    assert w.engine.suppressed_counts()["startup_grace"] == 1
    assert w.titles() == []
    w.wait(MINUTE)
    assert w.titles() == ["[CRITICAL] erp-1: disk"]


def test_a_blind_check_has_one_alert_however_many_entities_it_has(world, policy, result) -> None:
    w = world(policy(configured=frozenset()))
    entities = [f"sd{letter}" for letter in "abcde"]
    w.engine.take([result(CRITICAL if e == "sda" else OK, w.now, entity=e) for e in entities], w.now)
    for _ in range(3):
        w.now += 10 * SECOND
        w.engine.take([result(UNKNOWN, w.now, entity=e) for e in entities], w.now)
        w.tell()
    firing = {(s.alert.name, s.alert.entity): s.alert for s in w.engine.alerts() if s.alert.is_firing}
    assert set(firing) == {("disk", "sda"), (NO_DATA, "")}
    assert "data stale since 2024-05-01 12:00:10 UTC: used 90% (unknown)" in firing["disk", "sda"].message
    w.now += 10 * SECOND
    w.engine.take([result(OK, w.now, entity=e) for e in entities], w.now)
    assert not [s for s in w.engine.alerts() if s.alert.is_open]


def test_one_entity_of_several_that_cannot_be_judged_has_its_own_alert(world, policy, result) -> None:
    w = world(policy(configured=frozenset()))
    for _ in range(3):
        w.now += 10 * SECOND
        w.engine.take([result(UNKNOWN, w.now, entity="sda"), result(OK, w.now, entity="sdb")], w.now)
    assert [(s.alert.name, s.alert.entity) for s in w.engine.alerts()] == [(NO_DATA, "sda")]
    w.engine.take([result(OK, w.now, entity="sdb")], w.now)
    assert [s.alert.ended_because for s in w.engine.alerts()] == ["gone"]


def test_a_discovered_entity_that_vanishes_is_gone_and_a_configured_one_is_missed(world, policy, result) -> None:
    w = world(policy(configured=frozenset({"sda"})))
    w.engine.take([result(CRITICAL, w.now, entity=e) for e in ("sda", "sdb", "sdc")], w.now)
    for _ in range(3):
        w.now += 10 * SECOND
        w.engine.take([result(OK, w.now, entity="sdc")], w.now)
    alerts = {(s.alert.name, s.alert.entity): s.alert for s in w.engine.alerts()}
    assert alerts["disk", "sdb"].ended_because == "gone"
    assert alerts["disk", "sdc"].ended_because == "recovered"
    assert alerts["disk", "sda"].stale_since is not None
    assert alerts[NO_DATA, "sda"].state is State.FIRING


def test_alerts_of_checks_that_were_removed_resolve_and_that_is_told(world, policy) -> None:
    w = world(policy("a"), policy("b"))
    w.see(CRITICAL, check="a")
    w.see(CRITICAL, check="b")
    w.engine.reconfigure({"b": w.policies["b"]}, w.channels, w.now)
    w.tell()
    assert w.titles()[2:] == ["[RESOLVED] erp-1: a"]
    w.policies.clear()
    w.restart()
    w.tell()
    assert w.titles()[3:] == ["[RESOLVED] erp-1: b"]
    assert "no longer configured" in w.phones["ops"].received[-1].body
    w.see(CRITICAL, check="a")
    assert not any(s.alert.is_open for s in w.engine.alerts()), "a result that was still on its way is dropped"


def test_a_channel_that_is_removed_is_owed_nothing_and_a_new_one_hears_what_fires(world, channel) -> None:
    w = world()
    w.see(CRITICAL)
    w.channels = [channel("mail")]
    w.phones["mail"] = type(w.phones["ops"])()
    w.engine.reconfigure(w.policies, w.channels, w.now)
    w.see(CRITICAL, OK)
    assert w.titles("mail") == ["[CRITICAL] erp-1: disk", "[RESOLVED] erp-1: disk"]
    assert len(w.titles("ops")) == 1


def test_pending_checks_are_named_so_that_they_run_sooner(world, policy) -> None:
    w = world(policy("a", min_samples=2), policy("b"))
    w.see(WARNING, check="a")
    w.see(WARNING, UNKNOWN, check="b")
    assert w.engine.pending_checks() == {"a"}


def test_resolved_alerts_are_shown_for_a_day(world) -> None:
    w = world()
    w.see(CRITICAL, OK)
    w.wait(23 * HOUR)
    assert [s.alert.state for s in w.engine.alerts()] == [State.RESOLVED]
    w.wait(2 * HOUR)
    w.wait(SECOND)
    assert w.engine.alerts() == []
    assert w.store.alerts() == []


def test_the_last_judged_status_survives_for_sticky_thresholds(world) -> None:
    w = world()
    w.see(OK, WARNING, UNKNOWN)
    assert w.store.statuses() == {("disk", ""): WARNING}
    w.engine.reconfigure({}, [], w.now)
    assert w.store.statuses() == {}


def test_a_critical_alert_asks_for_its_command_once(world, policy) -> None:
    w = world(policy(on_critical=action_of(ActionSettings(run="clean", at_most="2 per 1h"))))
    w.see(WARNING, CRITICAL, CRITICAL, WARNING)
    with w.store.database.read() as connection:
        rows = connection.execute("SELECT command, most, period_seconds, outcome FROM actions").fetchall()
    assert [tuple(row) for row in rows] == [("clean", 2, 3600.0, "requested")]


def test_what_a_full_disk_kept_from_being_written_is_written_later(world, policy) -> None:
    w = world(*(policy(f"check {number}") for number in range(200)))
    w.see(WARNING, check="check 0")
    pages = w.store.database._connection.execute("PRAGMA page_count").fetchone()[0]
    w.store.database._connection.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(200):
        w.see(CRITICAL, check=f"check {number}", every=timedelta(0))
    assert "full" in str(w.engine.store_problem)
    assert "make room" in w.engine.store_problem.hint
    assert sum(s.alert.is_firing for s in w.engine.alerts()) == 200, "evaluation goes on"
    for number in range(100, 200):
        w.see(OK, check=f"check {number}", every=timedelta(0))
    w.store.database._connection.execute("PRAGMA max_page_count = 1000000")
    w.now += 10 * SECOND
    w.tell()
    assert w.engine.store_problem is None
    changes = [entry.change.value for entry in w.store.log(limit=1000)]
    assert (changes.count("fired"), changes.count("worsened"), changes.count("resolved")) == (200, 1, 100)
    w.tell()
    assert sum(alert.is_firing for alert in w.store.alerts()) == 100


def test_a_database_that_breaks_while_in_use_is_set_aside_and_written_anew(world) -> None:
    w = world()
    w.see(CRITICAL)
    w.store.acknowledge("disk", "bob", "", w.now)
    w.store.add_silence([Matcher.parse("check=other")], "ann", "", w.now, w.now + HOUR)
    w.tell()
    connection = w.store.database._connection
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = w.path.stat().st_size
    with w.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    connection.execute("PRAGMA cache_size = 0")
    connection.execute("PRAGMA shrink_memory")
    for _ in range(3):
        w.see(CRITICAL)
    [aside] = w.store.database.set_aside
    assert str(aside) in str(w.engine.store_problem) or w.engine.store_problem is None
    assert w.titles() == ["[CRITICAL] erp-1: disk"], "what was told is known, so it is not told again"
    assert [s.author for s in w.store.silences(w.now)] == ["ann"]
    assert [a.author for a in w.store.acknowledgements().values()] == ["bob"]
    w.restart()
    w.see(OK)
    assert w.titles()[1:] == ["[RESOLVED] erp-1: disk"]


def test_a_failing_store_is_logged_once_and_not_every_second(world, caplog) -> None:
    w = world()
    lock = sqlite3.connect(w.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    w.store.database._connection.execute("PRAGMA busy_timeout = 1")
    for _ in range(5):
        w.engine.take([_bad("disk", w)], w.now)
        w.engine.tick(w.now)
        w.now += SECOND
    lock.execute("ROLLBACK")
    lock.close()
    assert [r.getMessage() for r in caplog.records].count("monitor store failed") == 1
    w.tell()
    assert w.titles() == ["[CRITICAL] erp-1: disk"]


def _bad(check: str, w):
    from monitor.result import Result

    return Result(check, "", CRITICAL, "bad", w.now, 0.0)
