"""Rolling verification: every pack is read in time, the same state gives the same choice, and memory keeps the rest."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.catalog import Catalog
from backup.pack_memory import PackMemory, PackRow, readings
from backup.rolling import choose, portion_bytes
from backup.suspicions import Suspicion, Suspicions

NOW = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def row(pack: str, size: int, verified: int | None, *, seen: int = 0, problem: str | None = None) -> PackRow:
    """A pack seen and verified so many days ago."""
    return PackRow(pack, size, NOW - seen * DAY, None if verified is None else NOW - verified * DAY, problem)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path / "backup.db") as made:
        yield made


def test_what_was_never_verified_comes_first_and_then_what_was_longest_ago() -> None:
    packs = [row("new", 10, None, seen=1), row("old", 10, 9), row("older", 10, 12), row("fresh", 10, 0)]
    assert choose(packs, NOW, 30 * DAY, 10 * DAY) == ["new", "older"]
    assert choose(packs, NOW, 30 * DAY, 15 * DAY) == ["new", "older", "old", "fresh"]


def test_a_damaged_pack_is_read_every_time_beyond_the_portion() -> None:
    packs = [row("bad", 10**9, 0, problem="its content"), row("a", 1, 5), row("b", 1, 6)]
    assert choose(packs, NOW, 30 * DAY, DAY)[0] == "bad"


def test_what_would_be_too_old_is_read_whatever_the_portion() -> None:
    packs = [row("due", 10**9, 29), row("due too", 10**9, 30), *(row(f"new {i}", 10**9, None) for i in range(3))]
    assert {"due", "due too"} <= set(choose(packs, NOW, 30 * DAY, DAY))


def test_a_portion_leaves_room_for_one_run_that_fails() -> None:
    assert portion_bytes(29_000, 30 * DAY, DAY) == 1000
    assert portion_bytes(1000, DAY, DAY) == 1000
    assert portion_bytes(1000, DAY, 7 * DAY) == 1000
    assert portion_bytes(0, 30 * DAY, DAY) == 0


def test_nothing_is_chosen_of_nothing() -> None:
    assert choose([], NOW, 30 * DAY, DAY) == []


sizes = st.lists(st.integers(1, 20 << 20), min_size=1, max_size=40)


@given(sizes, st.integers(0, 2**32))
def test_the_same_state_gives_the_same_choice_in_whatever_order_it_comes(sizes: list[int], seed: int) -> None:
    packs = [row(f"{n:03}", size, n % 7 or None, seen=n % 11) for n, size in enumerate(sizes)]
    mixed = packs.copy()
    random.Random(seed).shuffle(mixed)
    assert choose(mixed, NOW, 10 * DAY, DAY) == choose(packs, NOW, 10 * DAY, DAY)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(3, 40), st.integers(0, 200), st.data())
def test_every_pack_is_read_in_time_though_packs_come_and_go_and_a_run_fails(
    sizes: list[int], days: int, failing: int, data: st.DataObject
) -> None:
    packs = {f"{n:03}": row(f"{n:03}", size, None) for n, size in enumerate(sizes)}
    coming = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=10))
    for day in range(2 * days + 2):
        now = NOW + day * DAY
        assert all(now - p.unverified_since <= days * DAY for p in packs.values()), day
        for number in range(coming[day % len(coming)]):
            name = f"day {day} pack {number}"
            packs[name] = PackRow(name, 1 << 20, now, None)
        if day == failing:
            continue
        chosen = choose(packs.values(), now, days * DAY, DAY)
        for pack in chosen:
            packs[pack] = PackRow(pack, packs[pack].size, packs[pack].seen_at, now)
        if len(packs) > 60:
            del packs[min(packs)]


def test_in_the_long_run_a_day_reads_about_its_share() -> None:
    packs = {f"{n:03}": row(f"{n:03}", 1000, None) for n in range(290)}
    read = []
    for day in range(90):
        now = NOW + day * DAY
        chosen = choose(packs.values(), now, 30 * DAY, DAY)
        read.append(len(chosen))
        for pack in chosen:
            packs[pack] = PackRow(pack, 1000, NOW, now)
    assert read == [10] * 90


# ---- memory


def test_packs_come_unverified_and_drop_out_when_they_are_gone(catalog: Catalog) -> None:
    memory = PackMemory(catalog, "local")
    memory.sync({"a": 100, "b": 300}, NOW)
    memory.record([("a", None)], NOW + DAY)
    memory.sync({"a": 100, "c": 300}, NOW + 2 * DAY)
    assert [(p.pack, p.seen_at, p.verified_at) for p in memory.packs()] == [
        ("a", NOW, NOW + DAY), ("c", NOW + 2 * DAY, None)
    ]  # fmt: skip
    assert readings(catalog)["local"].oldest_at == NOW + DAY


def test_a_reading_is_counted_as_long_as_it_is_promised_for(catalog: Catalog) -> None:
    memory = PackMemory(catalog, "local")
    memory.sync({"a": 100, "b": 300}, NOW)
    reading = readings(catalog)["local"]
    assert (reading.verified_ratio(NOW, 30 * DAY), reading.verified_ratio(NOW, None)) == (0, 0)
    memory.record([("b", None)], NOW)
    memory.record([("a", None)], NOW + 20 * DAY)
    reading = readings(catalog)["local"]
    assert reading.oldest_at == NOW
    assert [reading.verified_ratio(NOW + d * DAY, 30 * DAY) for d in (20, 31, 51)] == [1, 0.25, 0]
    assert reading.verified_ratio(NOW + 51 * DAY, None) == 1


def test_a_damaged_pack_is_neither_verified_nor_forgotten_until_it_is_sound_or_gone(catalog: Catalog) -> None:
    memory = PackMemory(catalog, "local")
    memory.sync({"a": 100, "b": 300}, NOW)
    memory.record([("a", None), ("b", "its content does not match its name")], NOW)
    assert readings(catalog)["local"].damaged == ("b",)
    assert readings(catalog)["local"].verified_ratio(NOW, None) == 0.25
    memory.record([("b", None)], NOW + DAY)
    assert readings(catalog)["local"].damaged == ()
    memory.record([("b", "again")], NOW + 2 * DAY)
    memory.sync({"a": 100}, NOW + 3 * DAY)
    assert readings(catalog)["local"].damaged == ()


def test_repositories_are_remembered_apart(catalog: Catalog) -> None:
    for name in ("local", "offsite"):
        PackMemory(catalog, name).sync({"a": 100}, NOW)
    PackMemory(catalog, "local").record([("a", None)], NOW)
    PackMemory(catalog, "local").sync({}, NOW)
    assert readings(catalog)["offsite"].verified_ratio(NOW, None) == 0
    assert (readings(catalog)["local"].oldest_at, readings(catalog)["local"].verified_ratio(NOW, None)) == (None, 1)


# ---- suspicions


def test_a_suspicion_waits_until_somebody_agrees_and_is_not_raised_again(catalog: Catalog) -> None:
    suspicions = Suspicions(catalog)
    first = Suspicion("local", "abc", "docs", NOW, ("90 % of the files are gone",))
    second = Suspicion("offsite", "def", "docs", NOW + DAY)
    suspicions.add([second, first])
    assert suspicions.pending(job="docs") == [first, second]
    assert suspicions.pending(repository="offsite") == [second]
    assert suspicions.pending(job="ledger") == []
    suspicions.agree([first], "weber", "moved to the archive", NOW + DAY)
    suspicions.add([first])
    assert suspicions.pending() == [second]
    assert (suspicions.agreed("local"), suspicions.agreed("offsite")) == ({"abc"}, frozenset())
