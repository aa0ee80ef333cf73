"""Manifests: what a database held by its own count, and what is missing when it came back."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from backup.applications.manifest import Manifest, TableFacts, differences, sortable

SAVED = Manifest(
    "postgres", "15.18", datetime(2026, 3, 1, 12, tzinfo=UTC),
    {"shop.public.invoice": TableFacts(10, 12, {"number": "INV-10"}), "shop.public.note": TableFacts(0, None)},
    size_bytes=8192, position="0/3000028", details={"timeline": 1},
)  # fmt: skip


def found(rows: int, newest: str | None = "INV-11") -> Manifest:
    facts = TableFacts(rows, rows, {"number": newest} if newest else {})
    return replace(SAVED, tables={"shop.public.invoice": facts, "shop.public.note": TableFacts(4, 4)})


def test_a_manifest_comes_back_from_its_file() -> None:
    assert Manifest.from_json(SAVED.to_json()) == SAVED
    assert SAVED.rows == 10


@pytest.mark.parametrize("text", [b"{}", b"[]", b"null", b'{"format": 1}', b"not json", b"\xff"])
def test_what_is_no_manifest_is_told(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Manifest.from_json(text)


def test_a_manifest_of_a_later_format_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="format 2"):
        Manifest.from_json(SAVED.to_json().replace(b'"format": 1', b'"format": 2'))


@pytest.mark.parametrize("rows", [10, 11, 12])
def test_as_many_rows_as_were_saved_are_no_difference(rows: int) -> None:
    assert list(differences(SAVED, found(rows))) == []


@pytest.mark.parametrize(
    ("rows", "newest", "told"),
    [
        (9, "INV-11", "table shop.public.invoice has 9 rows, and had 10 when it was saved"),
        (13, "INV-11", "table shop.public.invoice has 13 rows, and had 12 when it was saved"),
        (10, "INV-09", "table shop.public.invoice: the newest number is INV-09, and was INV-10 when it was saved"),
        (10, None, "table shop.public.invoice: the newest number is nothing, and was INV-10 when it was saved"),
    ],
)
def test_what_is_missing_is_named(rows: int, newest: str | None, told: str) -> None:
    assert list(differences(SAVED, found(rows, newest))) == [told]


def test_a_dropped_table_is_named() -> None:
    assert list(differences(SAVED, replace(SAVED, tables={}))) == [
        "table shop.public.invoice is not there", "table shop.public.note is not there",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        [0, 9, 10, 10.5, Decimal(11), 10**15],
        [date(2025, 12, 31), date(2026, 1, 2)],
        [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=timezone(-timedelta(hours=1)))],
        ["2026-01-01", "2026-01-02"],
    ],
)
def test_newest_values_sort_as_they_do_in_the_database(values: list[object]) -> None:
    texts = [sortable(value) for value in values]
    assert texts == sorted(set(texts))


@pytest.mark.parametrize("value", [-1, True, None, b"x"])
def test_a_value_that_has_no_such_text_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="neither a moment"):
        sortable(value)
