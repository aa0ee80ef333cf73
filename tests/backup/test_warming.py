"""Files come from the disk before they are read, once it is seen that they lie there, and only if they will be read."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from backup.portions import Portion
from backup.warming import Warming
from tests.backup.page_cache import cached_pages, drop

_COUNT = 50


def drop_all(folder: Path) -> None:
    for path in folder.iterdir():
        drop(path)


@pytest.fixture
def cold() -> Iterator[Path]:
    """A folder of files that are in no cache; on a disk, which the usual temporary folder may not be."""
    with TemporaryDirectory(prefix="keepwatch-cold-", dir="/var/tmp") as name:
        folder = Path(name)
        for number in range(_COUNT):
            (folder / f"{number:02}").write_bytes(os.urandom(8192))
        drop_all(folder)
        if any(map(cached_pages, folder.iterdir())):
            pytest.fail("the file system of /var/tmp gives nothing back to the disk, so there is nothing to see")
        yield folder


def portion(folder: Path, old_tree: bytes | None = None) -> Portion:
    return Portion(str(folder), tuple(sorted(os.listdir(folder))), old_tree, whole=True)


def have_come(folder: Path) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if all(map(cached_pages, folder.iterdir())):
            return True
        time.sleep(0.02)
    return False


def seen_a_cold_job(folder: Path, *, trusts_parent: bool = False) -> Warming:
    """A warming after a job that read files from a disk."""
    warming = Warming(trusts_parent=trusts_parent)
    for path in folder.iterdir():
        path.read_bytes()
    warming.looked_back()
    drop_all(folder)
    assert not any(map(cached_pages, folder.iterdir()))
    return warming


def test_after_a_job_that_waited_for_the_disk_the_next_files_come_by_themselves(cold: Path) -> None:
    seen_a_cold_job(cold).expect([portion(cold)])
    assert have_come(cold)


def test_where_all_is_in_memory_nothing_is_opened(cold: Path) -> None:
    warming = seen_a_cold_job(cold)
    warming.looked_back()  # on a job that read nothing from a disk
    warming.expect([portion(cold)])
    assert not any(map(cached_pages, cold.iterdir()))


def test_files_that_the_parent_snapshot_has_are_left_where_they_are(cold: Path) -> None:
    warming = seen_a_cold_job(cold, trusts_parent=True)
    warming.expect([portion(cold, old_tree=bytes(32))])
    assert not any(map(cached_pages, cold.iterdir()))
    warming.expect([portion(cold)])
    assert have_come(cold)


def test_what_vanished_or_became_something_else_harms_nobody(cold: Path) -> None:
    warming = seen_a_cold_job(cold)
    planned = portion(cold)
    (cold / "00").unlink()
    (cold / "01").unlink()
    os.mkfifo(cold / "01")
    (cold / "02").unlink()
    (cold / "02").symlink_to("/dev/zero")
    warming.expect([Portion("/nowhere", ("x",), None, whole=True), planned])
    for name in ("00", "01", "02"):
        (cold / name).unlink(missing_ok=True)
    assert have_come(cold)
