"""Readings and thresholds into a status: raising, holding, clearing, and what cannot be judged."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.checks import Bound
from monitor.judge import Verdict, judge
from monitor.result import Reading, Status

WARNING = [Bound.model_validate({"raise": "> 85%"})]
CRITICAL = [Bound.model_validate({"raise": "> 95%"})]


def used(value: float) -> list[Reading]:
    return [Reading("used", value, "ratio")]


def statuses(values: list[float], warning: list[Bound] = WARNING, critical: list[Bound] = CRITICAL) -> list[Status]:
    verdict = Verdict(Status.OK)
    seen = []
    for value in values:
        verdict = judge(used(value), warning, critical, verdict.standing)
        seen.append(verdict.status)
    return seen


def test_a_reading_past_a_threshold_gets_its_status() -> None:
    assert statuses([0.85]) == [Status.OK]
    assert statuses([0.86]) == [Status.WARNING]
    assert statuses([0.96]) == [Status.CRITICAL]


def test_a_status_clears_ten_percent_of_the_bound_further_back() -> None:
    assert statuses([0.86, 0.80, 0.77, 0.76, 0.80]) == [
        Status.WARNING, Status.WARNING, Status.WARNING, Status.OK, Status.OK,
    ]  # fmt: skip


def test_critical_implies_warning_on_the_way_down() -> None:
    assert statuses([0.96, 0.87, 0.854, 0.80, 0.76]) == [
        Status.CRITICAL, Status.CRITICAL, Status.WARNING, Status.WARNING, Status.OK,
    ]  # fmt: skip


def test_an_explicit_clear_bound_is_used_instead() -> None:
    bound = [Bound.model_validate({"raise": "> 85%", "clear": "< 50%"})]
    assert statuses([0.9, 0.6, 0.49], bound, []) == [Status.WARNING, Status.WARNING, Status.OK]


def test_a_lower_bound_clears_upwards() -> None:
    bound = [Bound.model_validate({"raise": "< 10%"})]
    assert statuses([0.11, 0.09, 0.105, 0.12], bound, []) == [Status.OK, Status.WARNING, Status.WARNING, Status.OK]


def test_a_count_that_must_not_be_below_one_is_fine_at_one() -> None:
    bound = [Bound.model_validate({"raise": "< 1"})]
    down = judge([Reading("count", 0, "count")], [], bound, {})
    assert down.status is Status.CRITICAL
    assert judge([Reading("count", 1, "count")], [], bound, down.standing).status is Status.OK


def test_a_large_count_still_clears_further_back() -> None:
    bound = [Bound.model_validate({"raise": "> 50"})]
    up = judge([Reading("count", 51, "count")], bound, [], {})
    assert judge([Reading("count", 46, "count")], bound, [], up.standing).status is Status.WARNING
    assert judge([Reading("count", 45, "count")], bound, [], up.standing).status is Status.OK


def test_a_reading_that_never_raised_does_not_hold_the_status_of_another() -> None:
    bounds = [*WARNING, Bound.model_validate({"reading": "inodes_used", "raise": "> 80%"})]
    full = judge([*used(0.9), Reading("inodes_used", 0.75, "ratio")], bounds, [], {})
    assert full.status is Status.WARNING
    cleaned = judge([*used(0.5), Reading("inodes_used", 0.75, "ratio")], bounds, [], full.standing)
    assert cleaned.status is Status.OK


def test_the_worst_breach_is_the_one_that_is_told() -> None:
    bounds = [Bound.model_validate({"reading": "inodes_used", "raise": "> 90%"})]
    verdict = judge([*used(0.9), Reading("inodes_used", 0.95, "ratio")], WARNING, bounds, {})
    assert verdict.breach is not None
    assert (verdict.status, verdict.breach.reading.name) == (Status.CRITICAL, "inodes_used")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_missing_and_not_fine(value: float) -> None:
    assert judge(used(value), WARNING, [], {}).missing == ("used",)


def test_a_reading_that_did_not_come_is_missing_and_keeps_its_standing() -> None:
    raised = judge(used(0.9), WARNING, [], {})
    gone = judge([], [Bound.model_validate({"reading": "used", "raise": "> 85%"})], [], raised.standing)
    assert gone.missing == ("used",)
    assert judge(used(0.8), WARNING, [], gone.standing).status is Status.WARNING


def test_a_standing_for_all_readings_holds_until_each_clears() -> None:
    assert judge(used(0.8), WARNING, CRITICAL, {"": Status.WARNING}).status is Status.WARNING
    assert judge(used(0.7), WARNING, CRITICAL, {"": Status.WARNING}).status is Status.OK


@given(st.lists(st.floats(0, 1), max_size=30))
def test_the_status_only_changes_where_a_bound_is_crossed(values: list[float]) -> None:
    before = Status.OK
    for value, status in zip(values, statuses(values), strict=True):
        if value > 0.95:
            assert status is Status.CRITICAL
        elif value > 0.85:
            assert status >= Status.WARNING
        elif value <= 0.85 * 0.9:
            assert status is Status.OK
        else:
            assert status <= before, f"{value} raised the status without passing a bound"
        before = status
