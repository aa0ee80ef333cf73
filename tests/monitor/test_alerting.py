"""The life of one alert: what each result makes of it, rule by rule of the module's docstring."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from monitor.alerting import (
    NO_DATA,
    Alert,
    Change,
    Policy,
    State,
    Transition,
    advance,
    alert_id,
    close,
    no_data_policy,
    no_data_result,
)
from monitor.result import Reading, Result, Status

OK, WARNING, CRITICAL, UNKNOWN, ABSENT = Status
START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ResultMaker, PolicyMaker = Callable[..., Result], Callable[..., Policy]


@pytest.fixture
def play(result: ResultMaker) -> Callable[..., tuple[Alert | None, list[Transition]]]:
    """Feeds statuses to an alert, ten seconds apart unless said otherwise; a timedelta among them lets time pass."""

    def run(
        policy: Policy, story: Sequence[Status | timedelta], alert: Alert | None = None, every: timedelta = 10 * SECOND,
        entity: str = "",
    ) -> tuple[Alert | None, list[Transition]]:  # fmt: skip
        now, transitions = START, []
        for step in story:
            if isinstance(step, timedelta):
                now += step
                continue
            alert, transition = advance(alert, result(step, now, entity=entity), policy, now)
            transitions += [transition] if transition else []
            now += every
        return alert, transitions

    return run


def changes(transitions: Sequence[Transition]) -> list[Change]:
    return [transition.change for transition in transitions]


def test_without_for_the_first_bad_result_fires(play, policy: PolicyMaker) -> None:
    alert, transitions = play(policy(), [OK, WARNING])
    assert alert is not None
    assert (alert.state, alert.severity, alert.fired_at) == (State.FIRING, WARNING, START + 10 * SECOND)
    assert changes(transitions) == [Change.FIRED]


def test_an_alert_fires_when_for_is_over_and_not_before(play, policy: PolicyMaker) -> None:
    lasting = policy(warning_for=30 * SECOND, critical_for=30 * SECOND)
    assert play(lasting, [WARNING] * 3)[0].state is State.PENDING
    alert, transitions = play(lasting, [WARNING] * 4)
    assert (alert.state, alert.since, alert.fired_at) == (State.FIRING, START, START + 30 * SECOND)
    assert changes(transitions) == [Change.PENDING, Change.FIRED]


def test_of_for_and_min_samples_the_later_one_decides(play, policy: PolicyMaker) -> None:
    assert play(policy(min_samples=3), [WARNING] * 2)[0].state is State.PENDING
    assert play(policy(min_samples=3), [WARNING] * 3)[0].state is State.FIRING
    both = policy(min_samples=3, warning_for=MINUTE, critical_for=MINUTE)
    assert play(both, [WARNING] * 6)[0].state is State.PENDING
    assert play(both, [WARNING, MINUTE, WARNING])[0].state is State.PENDING
    assert play(both, [WARNING] * 7)[0].state is State.FIRING


def test_three_of_five_fire_although_good_ones_lie_between(play, policy: PolicyMaker) -> None:
    rules = policy(min_samples=3, of_samples=5)
    assert play(rules, [WARNING, OK, WARNING, OK])[0].state is State.PENDING
    alert, transitions = play(rules, [WARNING, OK, WARNING, OK, WARNING])
    assert (alert.state, alert.since) == (State.FIRING, START)
    assert changes(transitions) == [Change.PENDING, Change.FIRED]
    assert play(rules, [WARNING, OK, OK, WARNING, WARNING])[0].state is State.FIRING
    assert play(rules, [WARNING, OK, OK, OK])[0] is None, "three of five cannot hold any more"
    assert play(rules, [WARNING, OK, OK, WARNING, OK, WARNING])[0].state is State.PENDING, "three of six are too few"


def test_three_of_five_end_when_so_many_are_good_that_they_could_not_begin(play, policy: PolicyMaker) -> None:
    rules = policy(min_samples=3, of_samples=5)
    assert play(rules, [WARNING] * 3 + [OK, OK])[0].state is State.RECOVERING
    alert, transitions = play(rules, [WARNING] * 3 + [OK, OK, WARNING, OK, OK, OK])
    assert alert.state is State.RESOLVED
    assert changes(transitions)[2:] == [Change.RECOVERING, Change.RETURNED, Change.RECOVERING, Change.RESOLVED]


def test_k_of_n_survives_being_written_down(play, policy: PolicyMaker) -> None:
    from monitor.schema import alert_to_row

    alert, _ = play(policy(min_samples=3, of_samples=5), [WARNING, OK, CRITICAL])
    assert (alert.recent, alert.warning.samples, alert.critical.samples) == ("102", 2, 1)
    assert alert_to_row(alert).count("102") == 1


def test_an_alert_knows_the_reading_that_is_bad_and_its_value(policy: PolicyMaker) -> None:
    readings = (Reading("used", 0.5, "ratio"), Reading("inodes_used", 0.95, "ratio"))
    standing = {"used": OK, "inodes_used": WARNING}
    bad = Result("disk", "", WARNING, "", START, 0.0, readings, standing=standing)
    alert, _ = advance(None, bad, policy(), START)
    assert (alert.reading, alert.value) == ("inodes_used", 0.95)


def test_a_good_result_ends_a_pending_alert_without_a_trace(play, policy: PolicyMaker) -> None:
    alert, transitions = play(policy(min_samples=3), [WARNING, WARNING, OK, WARNING, OK])
    assert alert is None
    assert changes(transitions) == [Change.PENDING, Change.CLEARED] * 2


def test_critical_counts_for_warning_and_each_level_has_its_own_wait(play, policy: PolicyMaker) -> None:
    lasting = policy(warning_for=30 * SECOND, critical_for=30 * SECOND)
    alert, transitions = play(lasting, [WARNING, WARNING, CRITICAL, CRITICAL])
    assert (alert.state, alert.severity) == (State.FIRING, WARNING)
    alert, transitions = play(lasting, [WARNING, WARNING, CRITICAL, CRITICAL, CRITICAL, CRITICAL])
    assert (alert.severity, alert.since) == (CRITICAL, START)
    assert changes(transitions) == [Change.PENDING, Change.FIRED, Change.WORSENED]


def test_critical_eases_to_warning_at_once_and_needs_its_wait_to_come_back(play, policy: PolicyMaker) -> None:
    lasting = policy(critical_for=20 * SECOND)
    alert, transitions = play(lasting, [CRITICAL, CRITICAL, CRITICAL, WARNING, CRITICAL, CRITICAL])
    assert alert.severity is WARNING
    assert changes(transitions) == [Change.FIRED, Change.WORSENED, Change.EASED]
    assert transitions[-1].alert.changed_at == transitions[1].at, "easing is nothing that somebody has to be told"


def test_a_good_result_resolves_a_firing_alert(play, policy: PolicyMaker) -> None:
    alert, transitions = play(policy(), [CRITICAL, OK, OK])
    assert (alert.state, alert.resolved_at, alert.ended_because) == (
        State.RESOLVED, START + 10 * SECOND, "recovered",
    )  # fmt: skip
    assert changes(transitions) == [Change.FIRED, Change.RESOLVED]


def test_keep_firing_for_must_be_clear_without_a_break(play, policy: PolicyMaker) -> None:
    sticky = policy(keep_firing_for=30 * SECOND)
    alert, transitions = play(sticky, [CRITICAL, OK, OK, OK, WARNING, OK, OK, OK])
    assert (alert.state, alert.severity) == (State.RECOVERING, WARNING)
    assert changes(transitions) == [Change.FIRED, Change.RECOVERING, Change.RETURNED, Change.RECOVERING]
    assert alert.changed_at == START, "to everybody else it never stopped firing"
    alert, transitions = play(sticky, [CRITICAL, OK, OK, OK, OK])
    assert alert.state is State.RESOLVED


def test_a_breach_that_returns_worse_is_told_as_worse(play, policy: PolicyMaker) -> None:
    _, transitions = play(policy(keep_firing_for=MINUTE), [WARNING, OK, CRITICAL])
    assert changes(transitions) == [Change.FIRED, Change.RECOVERING, Change.WORSENED]


def test_unknown_never_resolves_a_firing_alert_and_says_since_when_it_is_stale(play, policy: PolicyMaker) -> None:
    alert, transitions = play(policy(), [CRITICAL, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN])
    assert (alert.state, alert.severity, alert.stale_since) == (State.FIRING, CRITICAL, START + 10 * SECOND)
    assert changes(transitions) == [Change.FIRED, Change.STALE]
    alert, _ = play(policy(), [CRITICAL, UNKNOWN, CRITICAL])
    assert alert.stale_since is None


def test_unknown_breaks_the_wait_for_recovery(play, policy: PolicyMaker) -> None:
    alert, _ = play(policy(keep_firing_for=30 * SECOND), [CRITICAL, OK, OK, UNKNOWN, OK, OK, OK])
    assert alert.state is State.RECOVERING


def test_unknown_neither_counts_for_nor_against_a_pending_alert(play, policy: PolicyMaker) -> None:
    assert play(policy(min_samples=3), [WARNING, UNKNOWN, WARNING, UNKNOWN])[0].state is State.PENDING
    assert play(policy(min_samples=3), [WARNING, UNKNOWN, WARNING, UNKNOWN, WARNING])[0].state is State.FIRING


@pytest.mark.parametrize("status", [UNKNOWN, ABSENT])
def test_without_data_nothing_begins(play, policy: PolicyMaker, status: Status) -> None:
    assert play(policy(), [status] * 5) == (None, [])


def test_a_check_that_cannot_be_judged_three_times_in_a_row_has_an_alert_of_its_own(
    result: ResultMaker, policy: PolicyMaker
) -> None:
    rules, alert = no_data_policy(policy(warning_for=HOUR)), None
    for number, status in enumerate([UNKNOWN, UNKNOWN, OK, UNKNOWN, UNKNOWN, UNKNOWN]):
        now = START + number * 10 * SECOND
        alert, transition = advance(alert, no_data_result(result(status, now)), rules, now)
    assert alert is not None
    assert (alert.name, alert.check, alert.state, alert.severity) == (NO_DATA, "disk", State.FIRING, WARNING)
    assert transition is not None
    alert, _ = advance(alert, no_data_result(result(CRITICAL, now)), rules, now)
    assert alert is not None
    assert alert.state is State.RESOLVED, "what is critical can be judged"


def test_the_alert_of_a_thing_that_is_gone_ends_unless_the_thing_was_configured(play, policy: PolicyMaker) -> None:
    discovered, configured = policy(configured=frozenset()), policy(configured=frozenset({"sda"}))
    alert, _ = play(discovered, [CRITICAL, ABSENT], entity="sda")
    assert (alert.state, alert.ended_because) == (State.RESOLVED, "gone")
    alert, _ = play(configured, [CRITICAL, ABSENT], entity="sda")
    assert (alert.state, alert.stale_since) == (State.FIRING, START + 10 * SECOND)


def test_a_gap_of_up_to_an_hour_keeps_since_and_a_longer_one_starts_pending_again(play, policy: PolicyMaker) -> None:
    lasting = policy(warning_for=10 * MINUTE, critical_for=10 * MINUTE)
    alert, _ = play(lasting, [WARNING, 59 * MINUTE, WARNING])
    assert (alert.state, alert.since) == (State.FIRING, START)
    alert, _ = play(lasting, [WARNING, 61 * MINUTE, WARNING])
    assert (alert.state, alert.since) == (State.PENDING, START + 61 * MINUTE + 10 * SECOND)


def test_a_check_that_seldom_runs_has_no_gap_between_its_runs(play, policy: PolicyMaker) -> None:
    seldom = policy(every=6 * HOUR, warning_for=12 * HOUR, critical_for=12 * HOUR)
    assert play(seldom, [WARNING] * 3, every=6 * HOUR)[0].state is State.FIRING


def test_a_long_gap_breaks_the_wait_for_recovery_and_never_the_firing(play, policy: PolicyMaker) -> None:
    sticky = policy(keep_firing_for=MINUTE)
    assert play(sticky, [CRITICAL, OK, 2 * HOUR, OK])[0].state is State.RECOVERING
    assert play(sticky, [CRITICAL, 48 * HOUR, CRITICAL])[0].fired_at == START


def test_a_clock_set_back_neither_fires_early_nor_waits_for_the_lost_time(play, policy: PolicyMaker) -> None:
    lasting = policy(warning_for=30 * SECOND, critical_for=30 * SECOND)
    assert play(lasting, [WARNING, -HOUR, WARNING])[0].state is State.PENDING
    assert play(lasting, [WARNING, -HOUR] + [WARNING] * 4)[0].state is State.FIRING


def test_a_resolved_alert_that_comes_back_is_a_new_episode_of_the_same_alert(play, policy: PolicyMaker) -> None:
    alert, transitions = play(policy(), [CRITICAL, OK, WARNING])
    assert alert.id == transitions[0].alert.id == alert_id("disk", "disk", "")
    assert (alert.fired_at, alert.resolved_at) == (START + 20 * SECOND, None)


def test_a_pending_that_ends_leaves_the_earlier_episode_resolved(play, policy: PolicyMaker) -> None:
    alert, _ = play(policy(min_samples=2), [CRITICAL, CRITICAL, OK, WARNING, OK])
    assert (alert.state, alert.resolved_at) == (State.RESOLVED, START + 20 * SECOND)


def test_closing_ends_what_is_open_and_leaves_what_is_over(play, policy: PolicyMaker) -> None:
    firing, _ = play(policy(), [CRITICAL])
    ended, transition = close(firing, START + HOUR, "no longer configured")
    assert (ended.state, ended.ended_because, transition.change) == (
        State.RESOLVED, "no longer configured", Change.RESOLVED,
    )  # fmt: skip
    assert close(ended, START + 2 * HOUR, "gone") == (ended, None)


def test_identities_differ_by_name_check_and_entity() -> None:
    parts = [("a", "b", "c"), ("a", "bc", ""), ("ab", "", "c"), (NO_DATA, "b", "c")]
    assert len({alert_id(*one) for one in parts}) == len(parts)
