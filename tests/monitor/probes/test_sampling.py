"""Rates: the window from the last look to this one, short ones where there is none, and never a negative one."""

from collections.abc import Sequence
from typing import Any

import pytest

from monitor.probes.sampling import SHORTEST_SECONDS, Sampler


def sampler(fake_time: Any, looks: Sequence[dict[str, tuple[float, ...]]], slack: float = 0.0) -> Sampler[Any]:
    remaining = list(looks)
    return Sampler(lambda: remaining.pop(0), lambda raw: raw, fake_time.timing, slack)


def test_the_first_window_is_a_short_one_and_not_since_boot(fake_time: Any) -> None:
    window = sampler(fake_time, [{"a": (1_000_000.0,)}, {"a": (1_000_004.0,)}]).window()
    assert window.seconds == pytest.approx(SHORTEST_SECONDS)
    assert window.growth == {"a": (4.0,)}
    assert fake_time.pauses == [SHORTEST_SECONDS]


def test_a_later_window_reaches_back_to_the_last_look_without_waiting(fake_time: Any) -> None:
    counters = sampler(fake_time, [{"a": (0.0,)}, {"a": (1.0,)}, {"a": (21.0,)}])
    counters.window()
    fake_time.now += 10
    window = counters.window()
    assert (window.seconds, window.growth) == (pytest.approx(10), {"a": (20.0,)})
    assert len(fake_time.pauses) == 1


def test_counters_that_went_backwards_open_a_new_window(fake_time: Any) -> None:
    counters = sampler(fake_time, [{"a": (900.0,)}, {"a": (910.0,)}, {"a": (5.0,)}, {"a": (7.0,)}])
    counters.window()
    fake_time.now += 10
    window = counters.window()
    assert (window.seconds, window.growth) == (pytest.approx(SHORTEST_SECONDS), {"a": (2.0,)})


def test_counters_that_keep_going_backwards_never_give_a_negative_rate(fake_time: Any) -> None:
    counters = sampler(fake_time, [{"a": (9.0,)}, {"a": (8.0,)}, {"a": (7.0,)}, {"a": (6.0,)}])
    assert counters.window().growth == {"a": (0.0,)}
    fake_time.now += 10
    assert counters.window().growth == {"a": (0.0,)}


def test_a_wobble_within_the_slack_is_the_same_counter(fake_time: Any) -> None:
    counters = sampler(fake_time, [{"a": (9.0, 1.0)}, {"a": (9.0, 1.0)}, {"a": (8.5, 3.0)}], slack=1.0)
    counters.window()
    fake_time.now += 10
    assert counters.window().growth == {"a": (0.0, 2.0)}
    assert len(fake_time.pauses) == 1


def test_what_appeared_or_vanished_in_between_has_no_growth(fake_time: Any) -> None:
    counters = sampler(fake_time, [{"a": (1.0,), "b": (1.0,)}, {"a": (2.0,), "b": (2.0,)}, {"b": (3.0,), "c": (99.0,)}])
    counters.window()
    fake_time.now += 10
    assert counters.window().growth == {"b": (1.0,)}


def test_two_runs_at_once_after_the_other_do_not_divide_by_nothing(fake_time: Any) -> None:
    counters = sampler(fake_time, [{"a": (float(n),)} for n in range(4)])
    counters.window()
    assert counters.window().seconds == pytest.approx(SHORTEST_SECONDS)
