"""MariaDB to any moment of a log that two writers filled: what must hold does, and nothing is there that came later."""

import bisect
import contextlib
import math
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.applications.base import RecoveryTarget
from backup.applications.mariadb import MariaDbApplication
from backup.applications.mariadb_connection import open_session, rows
from backup.binlog.archive import BinlogArchive, listing_of
from backup.repository import Repository
from backup.sources.mariadb import MariaDbSource
from backup.storage.local import LocalStorage
from config.databases import MariaDbSource as MariaDbSettings
from keepwatch.clock import now
from tests.backup.repositories import create
from tests.backup.sources.saving import bring_back, save
from tests.servers.mariadb import OWNER, PASSWORD, MariaDb, mariadb
from tests.servers.private import private_folder

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]
LOGGING = {"log_bin": "binlog", "server_id": "7", "sync_binlog": "0"}
SCHEMA = """
CREATE DATABASE shop; CREATE TABLE shop.account (id INT PRIMARY KEY, balance INT);
INSERT INTO shop.account SELECT seq, 1000 FROM seq_1_to_10;
CREATE TABLE shop.entry (writer INT, n INT, gtid VARCHAR(40), PRIMARY KEY (writer, n));
"""
WRITERS = (1, 2)
SECONDS_OF_LOAD = 12


@dataclass
class Ledger:
    """What a writer did: of each transaction when it began and ended by our clock, and its GTID."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    gtids: list[str] = field(default_factory=list)


@dataclass
class Scene:
    """Two base backups that were taken under load, the log behind them, and what was written from then on."""

    repository: Repository
    bases: dict[str, Path]
    begins: datetime
    ends: datetime
    ledgers: dict[int, Ledger]


def write(server: MariaDb, writer: int, ledger: Ledger, stop: threading.Event) -> None:
    """Move money between two of ten accounts, each time with an entry, until told to stop."""
    chance = random.Random(writer)
    session = open_session(unix_socket=str(server.socket), user=OWNER, password=PASSWORD, database="shop")
    with contextlib.closing(session):
        while not stop.wait(0.002):
            one, other = sorted(chance.sample(range(1, 11), 2))  # in order, so that nobody waits for each other
            ledger.began.append(time.time())
            session.begin()
            rows(session, f"UPDATE account SET balance = balance - 7 WHERE id = {one}")
            rows(session, f"INSERT INTO entry VALUES ({writer}, {len(ledger.began)}, '')")
            rows(session, f"UPDATE account SET balance = balance + 7 WHERE id = {other}")
            session.commit()
            ledger.ended.append(time.time())
            ledger.gtids.append(str(rows(session, "SELECT @@last_gtid")[0][0]))


@contextlib.contextmanager
def writing(server: MariaDb, ledgers: dict[int, Ledger]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=write, args=(server, *item, stop)) for item in ledgers.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(len(ledger.began) == len(ledger.gtids) for ledger in ledgers.values()), "a writer broke off"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("moments")
    (place / "secret").write_text(PASSWORD)
    (place / "secret").chmod(0o600)
    repository = create(LocalStorage(place / "repository"), now)  # type: ignore[arg-type]  # the true clock will do
    ledgers = {writer: Ledger() for writer in WRITERS}
    with (
        private_folder("mariadb") as folder,
        mariadb(folder, LOGGING) as server,
        contextlib.closing(BinlogArchive(repository, "ledger", "erp-1", now)) as archive,
    ):
        server.sql(SCHEMA)
        bases = {}
        with writing(server, ledgers):
            for method in ("physical", "logical"):
                settings = MariaDbSettings(
                    type="mariadb", socket=server.socket, user=OWNER, password_file=place / "secret",
                    method=method, databases=["shop"],
                )  # fmt: skip
                saved = save(repository, MariaDbSource("ledger", now, settings, place / "work"), "ledger")
                bases[method] = bring_back(repository, saved, place / method, "ledger")
            begins = datetime.now(UTC)
            until = time.monotonic() + SECONDS_OF_LOAD
            while time.monotonic() < until:
                time.sleep(SECONDS_OF_LOAD / 4)
                server.sql("FLUSH BINARY LOGS")
                archive.take(server.data, listing_of(server.data, "binlog"))
            ends = datetime.now(UTC)
        archive.take(server.data, listing_of(server.data, "binlog"), asked_at=datetime.now(UTC))
        yield Scene(repository, bases, begins, ends, ledgers)


@contextlib.contextmanager
def recovered(scene: Scene, method: str, target: RecoveryTarget, folder: Path) -> Iterator[dict[int, int]]:
    """Have it recovered, and what must hold proven; gives how many transactions of each writer are there."""
    application, place = MariaDbApplication("ledger"), folder / "ledger"
    shutil.copytree(scene.bases[method], place)
    application.recover(scene.repository, place, target)
    with private_folder("work") as work, application.start(
        place, workspace=work / "run", timeout_seconds=60
    ) as running:
        assert running.integrity() == []
        assert running.query("SELECT sum(balance) FROM shop.account") == 10_000
        counts = {writer: f"SELECT count(*) FROM shop.entry WHERE writer = {writer}" for writer in WRITERS}
        found = {writer: int(str(running.query(statement))) for writer, statement in counts.items()}
        for writer, count in found.items():
            assert running.query(f"SELECT max(n) FROM shop.entry WHERE writer = {writer}") == count, "one is left out"
        yield found


@pytest.mark.parametrize("method", ["physical", "logical"])
@pytest.mark.parametrize("seed", range(10))
def test_twenty_random_moments_under_load_come_back(scene: Scene, tmp_path: Path, method: str, seed: int) -> None:
    share = random.Random(f"{method} {seed}").random()
    moment = scene.begins + share * (scene.ends - scene.begins)
    second = math.ceil(moment.timestamp())  # the moments of a log are whole seconds
    with recovered(scene, method, RecoveryTarget(moment=moment), tmp_path) as found:
        for writer, ledger in scene.ledgers.items():
            surely, at_most = bisect.bisect_left(ledger.ended, second), bisect.bisect_left(ledger.began, second)
            assert surely <= found[writer] <= at_most, (writer, moment)


@pytest.mark.parametrize("method", ["physical", "logical"])
@pytest.mark.parametrize("seed", range(3))
def test_a_random_transaction_is_the_last_that_comes_back(
    scene: Scene, tmp_path: Path, method: str, seed: int
) -> None:
    chance = random.Random(f"{method} {seed}")
    writer = chance.choice(WRITERS)
    ledger = scene.ledgers[writer]
    first = bisect.bisect_left(ledger.began, scene.begins.timestamp())
    chosen = chance.randrange(first, len(ledger.gtids))
    with recovered(scene, method, RecoveryTarget(position=ledger.gtids[chosen]), tmp_path) as found:
        assert found[writer] == chosen + 1
        number = int(ledger.gtids[chosen].rpartition("-")[2])
        for other in set(WRITERS) - {writer}:
            others = [int(gtid.rpartition("-")[2]) for gtid in scene.ledgers[other].gtids]
            assert found[other] == bisect.bisect_left(others, number)
