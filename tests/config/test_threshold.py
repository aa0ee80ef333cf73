"""Thresholds: forms, base units, and where a status that began ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.checks import Bound
from config.threshold import Threshold


@pytest.mark.parametrize(
    ("text", "op", "bound", "kind"),
    [
        ("> 85%", ">", 0.85, "ratio"),
        ("<10 GiB", "<", 10 * 2**30, "bytes"),
        ("> 20 MiB/s", ">", 20 * 2**20, "bytes"),
        (">= 5m", ">=", 300, "seconds"),
        ("!= 0", "!=", 0, "number"),
        ("< -5.5", "<", -5.5, "number"),
    ],
)
def test_a_threshold_compares_in_the_base_unit(text: str, op: str, bound: float, kind: str) -> None:
    assert Threshold.parse(text) == Threshold(op, bound, text, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["85%", ">", "> x%", "> nan", "> inf", "=> 5", "> 5 M", 85, None, ""])
def test_what_is_not_a_threshold_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"not a"):
        Threshold.parse(text)


@given(st.sampled_from([">", ">=", "<", "<=", "==", "!="]), st.integers(-9, 9), st.integers(-9, 9))
def test_the_opposite_holds_exactly_when_the_threshold_does_not(op: str, bound: int, value: int) -> None:
    threshold = Threshold.parse(f"{op} {bound}")
    assert threshold.is_past(value) != threshold.opposite().is_past(value)


@given(st.sampled_from([">", ">=", "<", "<="]), st.integers(-999, 999))
def test_whatever_raises_also_holds_by_default(op: str, bound: int) -> None:
    threshold = Threshold.parse(f"{op} {bound}")
    for value in (bound - 1, bound, bound + 1):
        assert threshold.default_clear().is_past(value) or not threshold.is_past(value)


def test_the_default_clear_lies_ten_percent_back() -> None:
    until = Bound.model_validate({"raise": "> 90%"}).until
    assert (until.is_past(0.82), until.is_past(0.80)) == (True, False)


def test_clear_names_where_the_status_ends() -> None:
    bound = Bound.model_validate({"raise": "> 85%", "clear": "< 80%"})
    assert bound.raise_.is_past(0.86)
    assert [bound.until.is_past(value) for value in (0.84, 0.80, 0.79)] == [True, True, False]


def test_clear_of_a_lower_bound_lies_above_it() -> None:
    bound = Bound.model_validate({"raise": "< 10 GiB", "clear": ">= 12 GiB"})
    assert [bound.until.is_past(value * 2**30) for value in (9, 11, 12)] == [True, True, False]


@pytest.mark.parametrize(
    ("start", "end", "why"), [("> 85%", "> 80%", "same side"), ("> 85%", "< 90%", "beyond"), ("< 5", "> 4", "beyond")]
)
def test_a_clear_that_cannot_be_meant_is_refused(start: str, end: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Bound.model_validate({"raise": start, "clear": end})
