"""Rolling verification in real runs: everything is read in time and remembered, damage is named until it is mended."""

import json
import os
import re
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from backup.errors import Interrupted
from backup.pack_memory import PackMemory, readings
from keepwatch import verifying
from keepwatch.cli.app import run
from keepwatch.clock import now
from keepwatch.metrics import MetricsPage
from keepwatch.repositories import open_repository
from keepwatch.verifying import Portion, verify_and_remember
from keepwatch.web.page import PageRenderer
from monitor.result import Status
from tests.keepwatch.guarded import Guarded, without_waiting

Capture = pytest.CaptureFixture[str]
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


@pytest.fixture
def office(tmp_path: Path) -> Guarded:
    return busy(Guarded(tmp_path))


def busy(made: Guarded) -> Guarded:
    """Back up five times with something new, which makes ten packs."""
    for number in range(5):
        (made.documents / f"scan-{number}.bin").write_bytes(os.urandom(50_000))
        assert made.back_up().outcome == "succeeded"
    return made


def packs(office: Guarded) -> dict[str, Path]:
    return {path.name: path for path in sorted((office.root / "repository/data").rglob("*")) if path.is_file()}


def damage(path: Path) -> bytes:
    """Flip a bit; gives what was there."""
    sound = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(sound[:40] + bytes([sound[40] ^ 1]) + sound[41:])
    return sound


def biggest(office: Guarded) -> Path:
    return max(packs(office).values(), key=lambda path: path.stat().st_size)


def verified(office: Guarded) -> set[str]:
    with office.catalog() as catalog:
        return {row.pack for row in PackMemory(catalog, "local").packs() if row.verified_at}


def test_daily_runs_read_a_share_each_and_everything_in_time(office: Guarded) -> None:
    read: list[set[str]] = [set()]
    for _ in range(9):
        ending = office.run("verify", after=DAY)
        assert ending.outcome == "succeeded"
        assert 0 < ending.figures["packs_read"] < len(packs(office))
        read.append(verified(office))
        assert read[-1] >= read[-2]
    assert read[1] != set(packs(office))
    assert read[-1] == set(packs(office))
    assert office.judged("repository local").status is Status.OK
    (repository,) = office.view().repositories
    assert repository.reading
    assert repository.reading.verified_ratio == 1
    assert office.now - repository.reading.oldest_at <= 10 * DAY


def test_a_pack_that_is_not_read_in_time_is_told(office: Guarded) -> None:
    assert office.run("verify", read_data=True).outcome == "succeeded"
    office.now += 9 * DAY
    office.config.write_text(office.config.read_text().replace('verify = "daily', 'verify = "sunday'))
    assert office.judged("repository local").status is Status.OK
    office.now += 2 * DAY
    found = office.judged("repository local")
    assert found.status is Status.WARNING
    assert "a pack was last read and verified 11d ago, allowed 10d" in found.message


def test_page_and_metrics_tell_how_much_was_read(office: Guarded) -> None:
    office.run("verify", after=DAY)
    with office.catalog() as catalog:
        share = readings(catalog)["local"].verified_ratio(office.now, 10 * DAY)
    assert 0 < share < 1
    page = PageRenderer(office.clock).page(office.view()).decode()
    assert re.search(rf"\b{int(share * 100)} % within 10d, oldest 2[4-9] h ago", page)
    metrics = MetricsPage(office.view).render().decode()
    assert f'keepwatch_repository_verified_ratio{{repository="local"}} {share}' in metrics
    assert "keepwatch_repository_oldest_unverified_pack_timestamp_seconds{" in metrics


def test_new_packs_are_known_from_the_backup_on(office: Guarded) -> None:
    (repository,) = office.view().repositories
    assert repository.reading
    assert repository.reading.packs == len(packs(office))
    assert repository.reading.oldest_at < office.now


def test_a_damaged_pack_is_named_with_who_needs_it_and_stays_a_problem_until_it_is_sound(office: Guarded) -> None:
    pack = biggest(office)
    sound = damage(pack)
    endings = [office.run("verify", after=DAY) for _ in range(9)]
    assert "failed" in {ending.outcome for ending in endings}
    last = endings[-1]
    assert last.outcome == "failed", "it is read again each time"
    assert pack.name in last.message
    assert "its content does not match its name; needed by" in last.message
    assert str(office.archive) in last.message or str(office.documents) in last.message
    told = office.judged("repository local")
    assert (told.status, pack.name in told.message) == (Status.CRITICAL, True)
    pack.write_bytes(sound)
    assert office.run("verify").outcome == "succeeded"
    assert office.judged("repository local").status is Status.OK


def test_a_problem_outlives_a_verification_that_reads_nothing_new(office: Guarded) -> None:
    damage(biggest(office))
    assert office.run("verify", read_data=True).outcome == "failed"
    text = office.config.read_text().replace('read_all_within = "10d"\n', "")
    office.config.write_text(text)
    ending = office.run("verify")
    assert (ending.outcome, ending.figures["packs_read"]) == ("failed", 1)
    assert office.judged("repository local").status is Status.CRITICAL


def test_a_damaged_pack_that_is_gone_from_the_index_is_no_problem_any_more(office: Guarded) -> None:
    (office.documents / "secret.bin").write_bytes(os.urandom(80_000))
    before = set(packs(office))
    office.back_up()
    (new,) = [path for name, path in packs(office).items() if name not in before and path.stat().st_size > 80_000]
    (office.documents / "secret.bin").unlink()
    office.back_up()
    damage(new)
    assert office.run("verify", read_data=True).outcome == "failed"
    assert office.run("forget").outcome == "succeeded"
    assert office.run("prune").outcome == "succeeded"
    assert new.name not in packs(office)
    assert office.run("verify").outcome == "succeeded"


def test_what_an_interrupted_verification_read_is_remembered(
    office: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "_REMEMBER_EVERY", 100)
    settings, stop = office.settings, threading.Event()
    repository = open_repository(settings.repositories["local"], clock=office.clock)
    with office.catalog() as catalog, repository.lock(exclusive=True), pytest.raises(Interrupted):
        verify_and_remember(
            repository, "local", settings.repositories["local"], catalog, Portion.ALL, zone=settings.daemon.zone,
            clock=office.clock, stop=stop, progress=lambda p: stop.set() if p.files_done == 3 else None,
        )  # fmt: skip
    assert len(verified(office)) == 3


def test_commands_read_everything_or_a_portion_and_remember_it(tmp_path: Path, capsys: Capture) -> None:
    office = busy(Guarded(tmp_path, now() - timedelta(hours=5)))
    where = ["--config", str(office.config)]
    assert run(["verify", *where]) == 0
    assert verified(office) == set()
    assert run(["verify", "--read-some", *where]) == 0
    some = verified(office)
    assert set() < some < set(packs(office))
    assert run(["verify", "--read-data", *where]) == 0
    assert verified(office) == set(packs(office))
    pack = biggest(office)
    damage(pack)
    capsys.readouterr()
    assert run(["verify", "--read-data", "--json", *where]) == 4
    found = json.loads(capsys.readouterr().out)
    assert {"pack-hash", "pack-needed"} <= {finding["code"] for finding in found if pack.name in finding["subject"]}
    url = ["--repository-url", f"{office.root}/repository", "--password-file", f"{office.root}/password"]
    assert run(["verify", "--read-some", *url]) == 2
    assert run(["verify", "--read-data", *url]) == 4
