"""Retention as arithmetic, and against the real restic on the same snapshots."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.pack import BlobKind
from backup.retention import decide
from backup.snapshot import Snapshot
from backup.storage.local import LocalStorage
from config.jobs import KeepSettings
from tests.backup.repositories import FakeClock, create

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def snapshot(at: datetime, *, number: int = 0, tags: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot(time=at, tree=b"t" * 32, paths=("/srv",), tags=tags, id=f"{number:064x}")


def series(*hours_ago: float) -> list[Snapshot]:
    return [snapshot(NOW - timedelta(hours=hours), number=number) for number, hours in enumerate(hours_ago)]


def kept(found: list[Snapshot], keep: KeepSettings | None, **options: Any) -> dict[int, tuple[str, ...]]:
    return {int(item.snapshot.id, 16): item.reasons for item in decide(found, keep, NOW, **options) if item.keep}


def test_the_last_ones_are_kept() -> None:
    assert kept(series(1, 2, 3, 4), KeepSettings(last=2)) == {0: ("newest", "last"), 1: ("last",)}


def test_one_a_day_is_the_newest_of_the_day_and_the_oldest_of_all_fills_up() -> None:
    found = series(1, 3, 25, 27, 100)
    assert kept(found, KeepSettings(daily=2)) == {0: ("newest", "daily"), 2: ("daily",)}
    assert kept(found, KeepSettings(daily=9)) == {0: ("newest", "daily"), 2: ("daily",), 4: ("daily",)}
    assert kept(series(1, 2, 3), KeepSettings(daily=9)) == {0: ("newest", "daily"), 2: ("daily",)}


def test_one_snapshot_may_have_several_reasons() -> None:
    keep = KeepSettings(last=1, hourly=1, daily=1, weekly=1, monthly=1, yearly=1, within="1h", tags=["gold"])
    (decision,) = decide([snapshot(NOW, tags=("gold",))], keep, NOW)
    assert decision.reasons == (
        "newest", "last", "hourly", "daily", "weekly", "monthly", "yearly", "within 1h", "tag gold",
    )  # fmt: skip


def test_within_is_measured_from_the_newest_and_not_from_now() -> None:
    assert set(kept(series(1000, 1001, 1049), KeepSettings(within="48h"))) == {0, 1}


def test_tagged_ones_are_kept() -> None:
    found = [snapshot(NOW - timedelta(days=day), number=day, tags=("gold",) * (day == 7)) for day in range(9)]
    assert kept(found, KeepSettings(tags=["gold"])) == {0: ("newest",), 7: ("tag gold",)}


def test_the_newest_that_a_drill_has_proven_is_kept() -> None:
    found = series(1, 2, 3, 4)
    proven = {found[2].id, found[3].id}
    assert kept(found, KeepSettings(last=1), proven=proven) == {
        0: ("newest", "last"),
        2: ("newest that a drill has proven",),
    }


def test_without_a_policy_everything_is_kept() -> None:
    assert set(kept(series(1, 2, 3), None)) == {0, 1, 2}


def test_nothing_of_nothing() -> None:
    assert decide([], KeepSettings(last=1), NOW) == []


def test_one_from_the_future_is_kept_and_pushes_nobody_out() -> None:
    found = [*series(1, 2), snapshot(NOW + timedelta(days=400), number=9)]
    assert kept(found, KeepSettings(last=1, within="1h")) == {
        0: ("newest", "last", "within 1h"),
        9: ("dated in the future",),
    }


def test_days_are_those_of_the_operators_zone() -> None:
    evening, night = datetime(2026, 2, 10, 15, 30, tzinfo=UTC), datetime(2026, 2, 10, 16, 30, tzinfo=UTC)
    found = [snapshot(night, number=0), snapshot(evening, number=1), snapshot(evening - timedelta(1), number=2)]
    assert set(kept(found, KeepSettings(daily=2))) == {0, 2}
    assert set(kept(found, KeepSettings(daily=2), zone=ZoneInfo("Asia/Shanghai"))) == {0, 1}


counts = st.integers(0, 5)
policies = st.builds(
    KeepSettings, last=st.integers(1, 5), hourly=counts, daily=counts, weekly=counts, monthly=counts, yearly=counts
)


@given(st.lists(st.integers(0, 20_000), max_size=40), policies)
def test_the_newest_stays_the_order_does_not_matter_and_deciding_twice_changes_nothing(
    hours: list[int], keep: KeepSettings
) -> None:
    found = series(*hours)
    decisions = decide(found, keep, NOW)
    assert decisions == decide(reversed(found), keep, NOW)
    assert not decisions or decisions[0].keep
    stay = [item.snapshot for item in decisions if item.keep]
    assert [item.snapshot for item in decide(stay, keep, NOW) if item.keep] == stay


POLICIES = [
    {"last": 3},
    {"hourly": 5, "daily": 3},
    {"daily": 7, "weekly": 4, "monthly": 12, "yearly": 3},
    {"monthly": 100},
    {"last": 1, "weekly": 2, "within": "60d"},
    {"last": 2, "hourly": 24, "daily": 14, "weekly": 8, "monthly": 12, "yearly": 10, "tags": ["gold"]},
]


def test_restic_keeps_the_same_snapshots(tmp_path: Path, clock: FakeClock, restic: Callable[..., Any]) -> None:
    """Over four years, denser towards the end. None in the same second: restic orders those by chance."""
    clock.now = NOW
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    chance = random.Random(7)
    ages = [chance.random() ** 4 * 35_000 for _ in range(60)]
    with repository.lock():
        repository.load_index()
        tree, _ = repository.save_blob(BlobKind.TREE, b'{"nodes":[]}\n')
        repository.flush()
        for number, age in enumerate(ages):
            taken = snapshot(NOW - timedelta(hours=age), tags=("gold",) * (number % 9 == 0))
            repository.commit(replace(taken, tree=tree, hostname="erp-1", username=str(number)))
    snapshots = repository.snapshots()
    for policy in POLICIES:
        options = [
            f"--keep-{'tag' if rule == 'tags' else rule}={value[0] if isinstance(value, list) else value}"
            for rule, value in policy.items()
        ]
        answer = json.loads(restic("forget", "--dry-run", "--json", "--group-by=host", *options).stdout)
        theirs = {item["id"] for item in answer[0]["keep"]}
        ours = {item.snapshot.id for item in decide(snapshots, KeepSettings(**policy), NOW) if item.keep}
        assert theirs <= ours, policy
        assert ours - theirs <= {snapshots[0].id}, "only newer releases keep the oldest of all while counts are left"


@pytest.mark.parametrize("rule", ["hourly", "daily", "weekly", "monthly", "yearly"])
def test_a_rule_never_keeps_more_than_its_count(rule: str) -> None:
    found = series(*(number * 700.0 for number in range(60)))
    assert len(kept(found, KeepSettings(**{rule: 3}))) == 3
