"""Snapshot JSON: restic's fields and order, and nothing lost on the way through."""

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import CorruptData
from backup.rfc3339 import format_time, parse_time
from backup.snapshot import Snapshot, SnapshotSummary, format_snapshot, parse_snapshot

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
FULL = Snapshot(
    time=AT, tree=b"t" * 32, paths=("/srv/a", "/srv/b"), hostname="erp-1", username="root", uid=1, gid=2,
    excludes=("*.tmp",), tags=("job:docs", "full"), parent="a" * 64, original="b" * 64, program_version="keepwatch 0.1",
    summary=SnapshotSummary(AT, AT, files_new=3, total_bytes_processed=2**40),
    extra={"label": {"deep": [1]}}, id="c" * 64,
)  # fmt: skip


def test_a_snapshot_reads_as_it_was_written() -> None:
    assert parse_snapshot(format_snapshot(FULL), FULL.id) == FULL


def test_a_time_keeps_its_nanoseconds_and_offset_until_it_is_changed() -> None:
    text = b"2026-03-01T14:00:00.250000001+02:00"
    document = format_snapshot(FULL).replace(b"2026-03-01T12:00:00.25Z", text, 1)
    found = parse_snapshot(document, FULL.id)
    assert found.time == AT
    assert format_snapshot(found) == document
    earlier = replace(found, time=AT.replace(year=2025))
    assert orjson.loads(format_snapshot(earlier))["time"] == "2025-03-01T12:00:00.25Z"


def test_fields_come_in_restics_order() -> None:
    assert list(orjson.loads(format_snapshot(FULL))) == [
        "time", "parent", "tree", "paths", "hostname", "username", "uid", "gid", "excludes", "tags", "original",
        "program_version", "summary", "label",
    ]  # fmt: skip
    assert list(orjson.loads(format_snapshot(FULL))["summary"]) == [
        "backup_start", "backup_end", "files_new", "files_changed", "files_unmodified", "dirs_new", "dirs_changed",
        "dirs_unmodified", "data_blobs", "tree_blobs", "data_added", "data_added_packed", "total_files_processed",
        "total_bytes_processed",
    ]  # fmt: skip


def test_empty_fields_are_left_out() -> None:
    document = format_snapshot(Snapshot(time=AT, tree=b"t" * 32, paths=()))
    assert document == b'{"time":"2026-03-01T12:00:00.25Z","tree":"' + b"74" * 32 + b'","paths":[]}'


def test_paths_that_are_no_text_are_written_readably() -> None:
    document = format_snapshot(Snapshot(time=AT, tree=b"t" * 32, paths=("/srv/\udcff",)))
    assert orjson.loads(document)["paths"] == ["/srv/\ufffd"]


def test_what_restic_writes_is_read() -> None:
    found = parse_snapshot(
        b'{"time":"2026-03-01T13:00:00.123456789+01:00","tree":"%s","paths":null,"hostname":"h"}' % (b"00" * 32),
        "d" * 64,
    )
    assert found.time == datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
    assert (found.paths, found.tags, found.short_id) == ((), (), "dddddddd")


@pytest.mark.parametrize("document", [b"[]", b"{}", b'{"time":"x","tree":"","paths":[]}', b"{", b"null"])
def test_nonsense_is_refused_by_name(document: bytes) -> None:
    with pytest.raises(CorruptData) as found:
        parse_snapshot(document, "e" * 64)
    assert found.value.name == "e" * 64


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
def test_moments_read_as_they_were_written(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment


def test_a_moment_without_a_zone_is_refused_both_ways() -> None:
    with pytest.raises(ValueError, match="time zone"):
        format_time(AT.replace(tzinfo=None))
    with pytest.raises(ValueError, match="without an offset"):
        parse_time("2026-03-01T12:00:00")
