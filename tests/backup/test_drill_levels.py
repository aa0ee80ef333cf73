"""The rungs of the ladder, each with a fault that only it can find, and what a drill chooses."""

import os
import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backup.archiver import backup
from backup.drills.assertions import Assertion
from backup.drills.faults import FLIPPED_BIT, MISSING_PACK, SWAPPED_BLOB
from backup.drills.levels import Level
from backup.drills.report import Verdict
from backup.drills.sampling import choose_moment
from backup.errors import Interrupted
from backup.sources.command import CommandSource
from backup.storage.local import LocalStorage
from tests.backup.repositories import FakeClock, create
from tests.backup.test_drill import Office

FILES = 400


@pytest.fixture
def office(tmp_path: Path, clock: FakeClock) -> Office:
    """Four hundred files in ten folders, a big one, and three snapshots a day apart."""
    noise = random.Random(3)
    for number in range(FILES):
        path = tmp_path / "source" / f"folder{number % 10}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.randbytes(100 + number))
    (tmp_path / "source" / "big").write_bytes(noise.randbytes(5 << 20))
    office = Office(tmp_path, clock, create(LocalStorage(tmp_path / "repository"), clock))
    for day in range(3):
        (tmp_path / "source" / "diary").write_text(f"day {day}")
        office.save()
        clock.advance(days=1)
    return office


# ---- metadata and read


def test_the_structure_of_a_sound_snapshot_passes_without_reading_its_data(office: Office) -> None:
    report = office.drill(level=Level.METADATA)
    assert (report.verdict, report.files, report.packs_read) == (Verdict.PASSED, FILES + 2, 0)
    assert report.rto_seconds is None, "nothing was restored, so nothing is known of how long it takes"


def test_a_missing_pack_is_found_by_the_structure_alone(office: Office) -> None:
    report = office.drill(level=Level.METADATA, plant=MISSING_PACK)
    assert (report.verdict, report.plant_found) == (Verdict.FAILED, True)


def test_a_flipped_bit_is_beyond_the_structure_and_found_by_reading(office: Office) -> None:
    assert office.drill(level=Level.METADATA, plant=FLIPPED_BIT).plant_found is False
    for fault in (FLIPPED_BIT, SWAPPED_BLOB):
        report = office.drill(level=Level.READ, plant=fault)
        assert (report.verdict, report.plant_found) == (Verdict.FAILED, True)
    assert office.drill(level=Level.READ).packs_read > 0


def test_which_packs_are_read_is_for_the_caller_to_say_and_remember(office: Office) -> None:
    read: list[str] = []
    report = office.drill(
        level=Level.READ, choose=lambda packs: sorted(packs)[:1], on_pack=lambda proof: read.append(proof.pack)
    )
    assert (report.verdict, report.packs_read, len(read)) == (Verdict.PASSED, 1, 1)


def test_a_file_whose_size_is_not_its_contents_is_found_by_the_structure(tmp_path: Path, clock: FakeClock) -> None:
    office = Office(tmp_path, clock, create(LocalStorage(tmp_path / "repository"), clock))
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_bytes(b"alpha")
    office.save()
    repository = office.repository
    clock.advance(minutes=1)
    with repository.lock(load_index=True):
        from backup.pack import BlobKind
        from backup.tree import Node, encode_node, encode_tree

        blob, _ = repository.save_blob(BlobKind.DATA, b"alpha")
        lying = Node(name=b"a", type="file", mode=0o644, size=6, content=(blob,))
        tree, _ = repository.save_blob(BlobKind.TREE, encode_tree([encode_node(lying)]))
        repository.flush()
        repository.commit(replace(repository.snapshots()[0], tree=tree, id="", time=clock()))
    report = office.drill(level=Level.METADATA)
    assert report.verdict is Verdict.FAILED
    assert "a" in report.message


# ---- sample


def test_a_sample_restores_a_share_and_compares_it_with_the_live_source(office: Office) -> None:
    report = office.drill(level=Level.SAMPLE, sample_share=0.1, seed=4, keep_scratch=True, workers=2)
    assert (report.verdict, report.files) == (Verdict.PASSED, round(0.1 * (FILES + 2)))
    assert report.compared.live_same == report.files
    assert report.rto_seconds is None
    assert report.scratch is not None
    restored = [path for path in report.scratch.rglob("*") if path.is_file()]
    assert len(restored) == report.files


def test_the_same_seed_draws_the_same_sample_and_another_one_another(office: Office) -> None:
    def drawn(seed: int) -> set[str]:
        office.clock.advance(minutes=1)
        report = office.drill(level=Level.SAMPLE, sample_share=0.05, seed=seed, keep_scratch=True)
        assert report.scratch is not None
        return {path.name for path in report.scratch.rglob("*") if path.is_file()}

    assert drawn(1) == drawn(1) != drawn(2)


def test_damage_within_the_sample_is_found(office: Office) -> None:
    assert office.drill(level=Level.SAMPLE, sample_share=0.2, seed=9, plant=SWAPPED_BLOB).plant_found
    assert office.drill(level=Level.SAMPLE, sample_share=0.2, seed=9, plant="truncated-dump").plant_found


def test_a_live_file_that_rotted_behind_unchanged_times_is_found_in_the_sample(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backup.drills import comparison

    monkeypatch.setattr(comparison, "_is_as_saved", lambda *_: True)  # nobody can set a ctime
    for path in (office.source / "folder3").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    assert office.drill(level=Level.SAMPLE, sample_share=0.5).verdict is Verdict.FAILED


# ---- which snapshot


def test_the_oldest_one_and_one_at_random_can_be_drilled(office: Office) -> None:
    ids = [snapshot.id for snapshot in office.repository.snapshots()]
    assert office.drill(snapshot="oldest").snapshot_id == ids[0]
    assert office.drill(snapshot="latest").snapshot_id == ids[-1]
    drawn = [office.drill(snapshot="random", seed=seed, level=Level.METADATA).snapshot_id for seed in range(8)]
    assert len(set(drawn)) > 1
    assert office.drill(snapshot="random", seed=5, level=Level.METADATA).snapshot_id == drawn[5]


def test_the_evidence_is_enough_to_repeat_the_drill(office: Office) -> None:
    first = office.drill(snapshot="random", seed=6, level=Level.SAMPLE).evidence()
    assert (first["chosen"], first["seed"], first["level"]) == ("random", 6, "sample")
    again = office.drill(snapshot=first["snapshot"], seed=first["seed"], level=Level(str(first["level"]))).evidence()
    assert {key: again[key] for key in ("snapshot", "files", "bytes")} == {
        key: first[key] for key in ("snapshot", "files", "bytes")
    }


def test_a_moment_lies_between_the_two_and_stays_where_it_is_for_a_seed(clock: FakeClock) -> None:
    first, last = clock(), clock() + timedelta(hours=1)
    moments = {choose_moment(first, last, seed) for seed in range(50)}
    assert len(moments) > 40
    assert all(first <= moment <= last for moment in moments)
    assert choose_moment(first, last, 3) == choose_moment(first, last, 3)
    assert choose_moment(first, first, 3) == first


# ---- nothing changes any more


def test_a_source_that_has_not_changed_for_long_fails_the_drill(office: Office) -> None:
    office.clock.advance(days=10)
    office.save()
    assert office.drill(stale_after=timedelta(days=30)).verdict is Verdict.PASSED, "nobody knows of that time"
    report = office.drill(stale_after=timedelta(days=7))
    assert report.verdict is Verdict.FAILED
    assert "the source has not changed for 11d" in report.message
    (office.source / "diary").write_text("news")
    office.clock.advance(minutes=1)
    office.save()
    assert office.drill(stale_after=timedelta(days=7)).verdict is Verdict.PASSED


def test_touched_files_with_the_same_content_are_still_stale(office: Office) -> None:
    office.clock.advance(days=10)
    os.utime(office.source / "diary")
    office.save()
    assert office.drill(stale_after=timedelta(days=7)).verdict is Verdict.FAILED


# ---- the operator's own commands


def run(command: str) -> Assertion:
    return Assertion(run=command)


def test_a_command_judges_the_restored_files(office: Office) -> None:
    folder = str(office.source)[1:]
    good = run(f"sh -c 'test -s $KEEPWATCH_RESTORED/{folder}/big'")
    report = office.drill(level=Level.APPLICATION, assertions=[good])
    assert (report.verdict, report.proofs) == (Verdict.PASSED, (f"holds: {good.run}",))
    bad = run("sh -c 'echo INV-7 has no total >&2; exit 1'")
    report = office.drill(level=Level.APPLICATION, assertions=[good, bad])
    assert report.verdict is Verdict.FAILED
    assert "exit status 1: INV-7 has no total" in report.message


def test_a_command_that_hangs_or_is_not_there_has_not_held(office: Office) -> None:
    for command, told in (("sleep 60", "took longer than 200 ms"), ("no-such-check", "no such file")):
        report = office.drill(level=Level.APPLICATION, assertions=[Assertion(run=command, timeout_seconds=0.2)])
        assert (report.verdict, told in report.message.lower()) == (Verdict.FAILED, True)


def test_a_command_has_no_network_where_the_kernel_allows_that(office: Office) -> None:
    from backup.drills.bringing_up import without_network

    if not without_network():  # then there is nothing to show, and the drill says nothing of it
        assert os.geteuid() != 0
    command = run("sh -c 'test $(ls /sys/class/net | wc -l) -le 1 || test $(wc -l < /proc/net/route) -le 1'")
    assert office.drill(level=Level.APPLICATION, assertions=[command]).verdict is Verdict.PASSED


def test_a_level_without_anything_to_judge_is_inconclusive(office: Office) -> None:
    report = office.drill(level=Level.APPLICATION)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "no application and no assertion" in report.message


# ---- limits


def test_a_drill_that_takes_too_long_is_inconclusive_and_one_that_is_stopped_none(office: Office) -> None:
    report = office.drill(timeout_seconds=0.0)
    assert (report.verdict, report.message) == (Verdict.INCONCLUSIVE, "it took longer than 0 ms")
    with pytest.raises(Interrupted):
        office.drill(stop=lambda: True)
    assert list(office.scratch.iterdir()) == []


def test_an_empty_snapshot_proves_nothing_and_fails(tmp_path: Path, clock: FakeClock) -> None:
    office = Office(tmp_path, clock, create(LocalStorage(tmp_path / "repository"), clock))
    (tmp_path / "source").mkdir()
    office.save()
    report = office.drill()
    assert (report.verdict, "is empty" in report.message) == (Verdict.FAILED, True)


def test_the_output_of_a_program_is_drilled_like_files(tmp_path: Path, clock: FakeClock) -> None:
    repository = create(LocalStorage(tmp_path / "repository"), clock)
    source = CommandSource(name="ledger", clock=clock, command=("seq", "100000"), file_name="numbers")
    backup(repository, source, job="docs", host="h", clock=clock, workers=0)
    office = Office(tmp_path, clock, repository)
    report = office.drill(live_paths=[], level=Level.RESTORE)
    assert (report.verdict, report.files) == (Verdict.PASSED, 1)
    assert office.drill(live_paths=[], plant="truncated-dump").plant_found
