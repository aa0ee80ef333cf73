"""Matchers, and what the suppressors say about one alert."""

from datetime import UTC, datetime, timedelta

import pytest

from config.checks import CheckSettings
from monitor.alerting import advance
from monitor.matching import Matcher, labels_of
from monitor.policy import policy_of
from monitor.result import Status
from monitor.suppress import Kind, Silence, Suppressors

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "value", "matches"),
    [
        ("check=root disk", "root disk", True), ("check=root disk", "root", False),
        ("check = root disk ", "root disk", True),
        ("check!=cpu", "disk", True), ("check!=cpu", "cpu", False), ("check=~(cpu|load)", "load", True),
        ("check=~cpu", "cpu 2", False), ("check=~cpu.*", "cpu 2", True), ("check!~cpu.*", "cpu 2", False),
        ("other=", "disk", True), ("other=~.+", "disk", False), ("check=a=b", "a=b", True),
    ],
)  # fmt: skip
def test_a_matcher_matches_as_it_reads(text: str, value: str, matches: bool) -> None:
    assert Matcher.parse(text).matches({"check": value}) is matches


@pytest.mark.parametrize(
    ("text", "problem"),
    [("disk", "is not a matcher"), ("=x", "is not a matcher"), ("", "not a matcher"), ("check=~(", "is not a regular")],
)
def test_a_matcher_that_cannot_be_read_says_why(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Matcher.parse(text)


def test_a_matcher_is_written_as_it_is_read() -> None:
    for text in ("check=root disk", "entity=~sd[a-c]", "severity!=critical", "host!~db.*"):
        assert str(Matcher.parse(text)) == text


def test_all_matchers_of_a_silence_must_match_and_none_at_all_hides_nothing(policy, result) -> None:
    alert, _ = advance(None, result(Status.CRITICAL, entity="sda"), policy(labels={"site": "hq"}), START)
    labels = labels_of(alert, "erp-1")

    def silence(*texts: str) -> Silence:
        return Silence(1, tuple(Matcher.parse(text) for text in texts), "ann", "", START, START + HOUR)

    assert silence("check=disk", "entity=sda", "site=hq", "host=erp-1", "severity=critical").matches(labels)
    assert silence(f"id={alert.id}").matches(labels)
    assert not silence("check=disk", "entity=sdb").matches(labels)
    assert not silence().matches(labels)
    assert [silence("a=b").is_active(START + wait) for wait in (-HOUR, 0 * HOUR, HOUR)] == [False, True, False]


def test_every_reason_is_given_and_none_for_what_does_not_fire(policy, result) -> None:
    rules = {"disk": policy(depends_on=("array",)), "array": policy("array")}
    suppressors = Suppressors(
        "erp-1", rules, [Silence(3, (Matcher("check", "=", "disk"),), "ann", "new disk", START, START + HOUR)],
        grace_until=START + HOUR, critical_checks={"array"},
    )  # fmt: skip
    firing, _ = advance(None, result(Status.CRITICAL), rules["disk"], START)
    assert {one.kind: one.reason for one in suppressors.of(firing, START)} == {
        Kind.SILENCE: "silence 3 by ann: new disk",
        Kind.DEPENDENCY: "depends on array, which is critical",
        Kind.STARTUP_GRACE: "the daemon has just started",
    }
    pending, _ = advance(None, result(Status.CRITICAL), policy(min_samples=2), START)
    assert suppressors.of(pending, START) == ()


def settings_of(**fields: object) -> CheckSettings:
    from pydantic import TypeAdapter

    return TypeAdapter(CheckSettings).validate_python({"name": "x"} | fields)  # type: ignore[no-any-return]


def test_a_policy_takes_everything_from_the_settings_that_alerting_goes_by() -> None:
    made = policy_of(
        settings_of(
            type="disk", every="1m", **{"for": "5m"}, keep_firing_for="2m", min_samples=3, labels={"site": "hq"},
            runbook="disk-full", depends_on=["array"], on_critical={"run": "clean", "at_most": "2 per 1d"},
        )
    )  # fmt: skip
    assert (made.warning_for, made.critical_for, made.keep_firing_for, made.min_samples) == (
        timedelta(minutes=5), timedelta(minutes=5), timedelta(minutes=2), 3,
    )  # fmt: skip
    assert (made.every, made.runbook, made.depends_on) == (timedelta(minutes=1), "disk-full", ("array",))
    assert made.labels == {"site": "hq"}
    assert made.on_critical is not None
    assert (made.on_critical.run, made.on_critical.limit, made.on_critical.period) == ("clean", 2, timedelta(days=1))


@pytest.mark.parametrize(
    ("fields", "configured", "waits_for_load"),
    [
        ({"type": "disk"}, {""}, False), ({"type": "tcp", "port": 1}, {""}, False), ({"type": "cpu"}, {""}, True),
        ({"type": "disk_io"}, set(), True), ({"type": "disk_io", "include": ["sda"]}, {"sda"}, True),
        ({"type": "network", "include": ["eth0"]}, {"eth0"}, True), ({"type": "swap"}, set(), False),
        ({"type": "temperature"}, set(), False),
    ],
)  # fmt: skip
def test_the_type_decides_what_counts_as_named_and_what_our_load_explains(fields, configured, waits_for_load) -> None:
    made = policy_of(settings_of(**fields))
    assert (made.configured, made.waits_for_load) == (configured, waits_for_load)
