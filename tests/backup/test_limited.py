"""Limits: which rate holds when, that processes share one, and that bytes flow in small portions at that rate."""

import io
import math
import multiprocessing
import os
import struct
import tempfile
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from backup.storage.base import FileKind
from backup.storage.limited import Account, Bandwidth, Limit, Limited, PacedBody, accounts_folder, read_paced
from config.windows import WeeklyWindow
from tests.backup.storages import MemoryStorage

NAME = "ab" * 32
MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MIB = 1 << 20


class Time:
    """A monotonic clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def line(folder: Path, clock: Time, upload: float = math.inf, download: float = math.inf) -> Bandwidth:
    return Bandwidth(
        "line", lambda: MONDAY_NOON, upload=Limit(upload), download=Limit(download), folder=folder,
        monotonic=lambda: clock.now, sleep=clock.sleep,
    )  # fmt: skip


def test_windows_go_before_the_rate_and_the_lowest_of_them_counts() -> None:
    windows = ((WeeklyWindow.parse("mon-fri 08:00-19:00"), 2.0), (WeeklyWindow.parse("mon 12:00-13:00"), 1.0),
               (WeeklyWindow.parse("sun 00:00-24:00"), math.inf))  # fmt: skip
    limit = Limit(20.0, windows, UTC)
    rates = {hours: limit.at(MONDAY_NOON + timedelta(hours=hours)) for hours in (-2, 0, 8, -20)}
    assert rates == {-2: 2.0, 0: 1.0, 8: 20.0, -20: math.inf}
    assert not limit.never
    assert Limit(math.inf, ((windows[2]),)).never


def test_windows_are_read_in_their_own_zone() -> None:
    window = (WeeklyWindow.parse("mon 20:00-21:00"), 1.0)
    assert Limit(2.0, (window,), timezone(timedelta(hours=8))).at(MONDAY_NOON) == 1.0
    assert Limit(2.0, (window,), UTC).at(MONDAY_NOON) == 2.0


def test_bytes_take_as_long_as_the_rate_says(tmp_path: Path) -> None:
    clock = Time()
    storage = Limited(MemoryStorage(), line(tmp_path, clock, upload=MIB, download=4 * MIB))
    storage.put(FileKind.DATA, NAME, [bytes(3 * MIB), bytes(MIB)])
    assert 3.5 < clock.now - 1000 <= 4.0
    assert max(clock.slept) < 0.3, "small portions, for a line that is full at once is full for others"
    began = clock.now
    assert len(storage.get(FileKind.DATA, NAME)) == 4 * MIB
    assert 0.5 < clock.now - began <= 1.0


def test_without_a_limit_nothing_waits_and_no_account_is_kept(tmp_path: Path) -> None:
    clock = Time()
    storage = Limited(MemoryStorage(), line(tmp_path, clock))
    storage.put(FileKind.DATA, NAME, bytes(MIB))
    storage.get(FileKind.DATA, NAME)
    assert clock.slept == []
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_idle_saves_up_no_more_than_a_moment(tmp_path: Path) -> None:
    account = Account(tmp_path / "line")
    assert account.reserve(10.0, now=100.0) == 0.0
    assert account.reserve(1.0, now=100.0) == pytest.approx(9.75)
    assert account.reserve(1.0, now=5000.0) == 0.0
    assert account.reserve(1.0, now=5000.0) == pytest.approx(0.75)


@pytest.mark.parametrize("held", [b"", b"torn", struct.pack("<d", 1e12), struct.pack("<d", math.nan)])
def test_an_account_from_before_a_restart_or_half_written_is_opened_anew(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "line").write_bytes(held)
    account = Account(tmp_path / "line")
    assert account.reserve(1.0, now=10.0) == 0.0
    assert account.reserve(1.0, now=10.0) == pytest.approx(0.75)


def _send(folder: Path, began: float) -> None:
    shared = Bandwidth("line", lambda: MONDAY_NOON, upload=Limit(4 * MIB), folder=folder)
    for _ in range(10):
        shared.sending(MIB // 10)
    os._exit(0 if time.monotonic() - began > 0.2 else 1)


def test_processes_share_one_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    workers = [multiprocessing.get_context("fork").Process(target=_send, args=(tmp_path, began)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    took = time.monotonic() - began
    assert took >= 3 / 4 - 0.25 - 0.1, f"3 MiB at 4 MiB/s came through in {took:.2f} s"


def test_a_body_is_free_until_it_is_sent_and_then_paced_once(tmp_path: Path) -> None:
    clock = Time()
    body = PacedBody(bytes(2 * MIB), line(tmp_path, clock, upload=MIB))
    while body.read(65536):
        pass
    assert (body.tell(), body.seek(0, os.SEEK_END), body.seek(0), clock.slept) == (2 * MIB, 2 * MIB, 0, [])
    body.start()
    came = 0
    while part := body.read(16384):
        came += len(part)
    assert came == 2 * MIB == len(body)
    assert 1.5 < clock.now - 1000 <= 2.0


def test_a_body_is_received_at_the_pace_and_a_short_one_ends(tmp_path: Path) -> None:
    clock = Time()
    pace = line(tmp_path, clock, download=MIB)
    assert b"".join(read_paced(io.BytesIO(bytes(2 * MIB)), 2 * MIB, pace)) == bytes(2 * MIB)
    assert 1.5 < clock.now - 1000 <= 2.0
    assert list(read_paced(io.BytesIO(b"half"), 8, pace)) == [b"half"]


def test_a_folder_of_accounts_that_others_may_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual = tmp_path / f"keepwatch-{os.geteuid()}"
    assert accounts_folder() == usual == accounts_folder()
    usual.chmod(0o777)
    assert accounts_folder() != usual
