"""The file: what goes in comes out, other processes write to it, and what happens when it is damaged, new or locked."""

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.actions import action_log
from monitor.alerting import Change, Policy, advance
from monitor.database import Database, MonitorStoreCorrupt, MonitorStoreError, MonitorStoreFull
from monitor.history import History
from monitor.matching import Matcher
from monitor.outbox import Outbox
from monitor.reserve import RESERVE_BYTES, Reserve
from monitor.result import Reading, Result, Status
from monitor.schema import MIGRATIONS
from monitor.store import Changes, MonitorStore, NoSuchAlert

OK, WARNING, CRITICAL, UNKNOWN, ABSENT = Status
START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
ROOT = Path(__file__).resolve().parents[2]
POLICY = Policy("root disk", "root disk", 10 * SECOND)
FIRST_VERSION = """
    INSERT INTO alerts VALUES (
        '4af22bda22', 'root disk', 'root disk', '/', 'firing', 2, '2024-05-01T11:59:00.000000Z', '/ is 97 % full',
        '2024-05-01T12:00:01.000000Z', '2024-05-01T11:59:30.000000Z', '{"site": "hq"}', '2024-05-01T11:59:00.000000Z',
        9, '2024-05-01T11:59:30.000000Z', 3, NULL, NULL, '2024-05-01T11:59:00.000000Z', NULL, '', '["dd (71): 3 GiB"]'
    );
    INSERT INTO alert_log VALUES (
        1, '2024-05-01T11:59:00.000000Z', '4af22bda22', 'root disk', 'root disk', '/', 'fired', 'firing', 1, 'full'
    );
    INSERT INTO check_state VALUES ('root disk', '/', 2);
    INSERT INTO silences VALUES
        (1, '["check=cpu"]', 'ann', 'x', '2024-05-01T11:00:00.000000Z', '2024-05-01T14:00:00.000000Z');
    INSERT INTO acknowledgements VALUES
        (1, '4af22bda22', 2, 'ann', 'mine', '2024-05-01T11:59:40.000000Z', NULL, NULL, NULL);
    INSERT INTO told VALUES ('4af22bda22', 'ops', 1, 1, '2024-05-01T11:59:10.000000Z', 'root disk /');
    INSERT INTO channels VALUES ('ops', '2024-05-01T11:59:10.000000Z', 3, 1);
    INSERT INTO outbox VALUES (
        1, 'ops', 'k1', '{"title": "[CRITICAL] erp-1: root disk /", "body": "b", "severity": 2, "items":
        [["4af22bda22", "firing", 2, "root disk /", "2024-05-01T11:59:30.000000Z"]]}', '2024-05-01T11:59:30.000000Z',
        1, '2024-05-01T11:59:50.000000Z', NULL, NULL, NULL, 'no answer'
    );
    INSERT INTO actions VALUES (
        1, '4af22bda22', 'root disk', '/', 'clean', 1, 3600, '2024-05-01T11:59:30.000000Z', NULL, NULL, 'requested',
        NULL, ''
    );
    INSERT INTO series VALUES (1, 'root disk', '/', 'used', 'ratio');
    INSERT INTO samples VALUES (1, 1714564801000, 0.97);
    PRAGMA user_version = 1;
"""
"""What a daemon of the first version left behind."""


@pytest.fixture
def store(tmp_path):
    opened = MonitorStore(tmp_path / "monitor.db")
    yield opened
    opened.close()


def record(store: MonitorStore, *alerts, now=START) -> None:
    store.record(Changes(alerts={alert.id: alert for alert in alerts}), now)


def test_an_alert_comes_back_as_it_was_whatever_happened_to_it(store, policy, result) -> None:
    rules = policy(
        critical_for=20 * SECOND, keep_firing_for=HOUR, configured=frozenset({"sda"}), labels={"site": "hq"}
    )  # fmt: skip
    alert = None
    for number, status in enumerate([WARNING, CRITICAL, CRITICAL, CRITICAL, UNKNOWN, OK, WARNING, OK]):
        now = START + number * 10 * SECOND + timedelta(microseconds=number)
        alert, _ = advance(alert, result(status, now, entity="sda"), rules, now)
        assert alert is not None
        record(store, alert)
        assert store.alerts() == [alert]


def test_an_alert_is_found_by_the_beginning_of_its_identity_or_by_name(store, policy, result) -> None:
    alerts = [advance(None, result(CRITICAL, check=name), policy(name), START)[0] for name in ("root disk", "cpu")]
    record(store, *alerts)
    assert store.find(alerts[0].id[:4]) == alerts[0]
    assert store.find("cpu") == alerts[1]
    with pytest.raises(NoSuchAlert, match="no alert 'nothing' is pending or firing"):
        store.find("nothing")
    with pytest.raises(NoSuchAlert):
        store.find("")


def test_a_name_that_means_several_alerts_says_which(store, policy, result) -> None:
    alerts = [advance(None, result(CRITICAL, entity=e), policy(), START)[0] for e in ("sda", "sdb")]
    record(store, *alerts)
    with pytest.raises(NoSuchAlert, match=r"may mean any of .*disk / sd[ab].*disk / sd[ab]"):
        store.find("disk")


def test_silences_are_kept_until_they_expire_or_are_ended(store) -> None:
    matchers = [Matcher.parse("check=root disk"), Matcher.parse("entity=~sd.*")]
    first = store.add_silence(matchers, "ann", "new disk", START, START + HOUR)
    second = store.add_silence(matchers, "ann", "", START + HOUR, START + 2 * HOUR)
    assert store.silences(START) == [first, second]
    assert store.silences(START + HOUR) == [second]
    assert store.expire_silence(second.id, START)
    assert not store.expire_silence(second.id, START)
    assert store.silences(START) == [first]


def test_a_silence_that_would_hide_everything_or_nothing_is_refused(store) -> None:
    with pytest.raises(ValueError, match="would hide all alerts"):
        store.add_silence([], "ann", "", START, START + HOUR)
    with pytest.raises(ValueError, match="would never count"):
        store.add_silence([Matcher.parse("check=a")], "ann", "", START, START)


def test_acknowledging_again_replaces_and_taking_back_removes(store, policy, result) -> None:
    alert, _ = advance(None, result(WARNING), policy(), START)
    record(store, alert)
    store.acknowledge(alert.id, "ann", "", START)
    store.acknowledge(alert.id, "bob", "mine", START + SECOND, START + HOUR)
    [acknowledgement] = store.acknowledgements().values()
    assert (acknowledgement.author, acknowledgement.severity, acknowledgement.expires_at) == (
        "bob", WARNING, START + HOUR,
    )  # fmt: skip
    assert acknowledgement.covers(alert, START + 2 * SECOND)
    assert not acknowledgement.covers(alert, START + HOUR)
    assert store.unacknowledge(alert.id, START)
    assert not store.unacknowledge(alert.id, START)


def test_another_process_writes_while_this_one_has_the_file_open(store) -> None:
    before = store.database.revision()
    code = (
        "import sys; from datetime import *; from pathlib import Path; from monitor.store import MonitorStore;"
        "from monitor.matching import Matcher; now = datetime(2024, 5, 1, 12, tzinfo=UTC);"
        "MonitorStore(Path(sys.argv[1])).add_silence([Matcher.parse('check=a')], 'ann', '', now, now + timedelta(1))"
    )
    subprocess.run([sys.executable, "-c", code, str(store.database.path)], check=True, cwd=ROOT, timeout=60)
    assert store.database.revision() != before
    assert [silence.author for silence in store.silences(START)] == ["ann"]


def test_what_is_old_is_forgotten(store, policy, result) -> None:
    _, transition = advance(None, result(CRITICAL), policy(), START)
    store.record(Changes(transitions=[transition]), START)
    store.prune(START + timedelta(days=89))
    assert len(store.log()) == 1
    store.prune(START + timedelta(days=91))
    assert store.log() == []


def damage_header(path: Path) -> None:
    path.write_bytes(b"this is no database" + bytes(5000))


def damage_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [damage_header, damage_page, truncate])
def test_a_damaged_file_is_set_aside_under_a_name_that_is_told_and_an_empty_one_made(tmp_path, damage) -> None:
    path = tmp_path / "monitor.db"
    MonitorStore(path).close()
    damage(path)
    damaged = path.read_bytes()
    store = MonitorStore(path, set_aside_corrupt=True)
    assert store.database.set_aside == [tmp_path / "monitor.db.corrupt-1"]
    assert (tmp_path / "monitor.db.corrupt-1").read_bytes() == damaged
    assert store.alerts() == []
    store.close()
    damage(path)
    store = MonitorStore(path, set_aside_corrupt=True)
    assert store.database.set_aside == [tmp_path / "monitor.db.corrupt-2"], "an earlier copy is never overwritten"
    store.close()


def test_the_command_line_leaves_a_damaged_file_where_it_is(tmp_path) -> None:
    path = tmp_path / "monitor.db"
    damage_header(path)
    with pytest.raises(MonitorStoreCorrupt, match="file is not a database") as caught:
        MonitorStore(path)
    assert "recover" in caught.value.hint
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_the_first_version_is_taken_over_with_all_that_it_holds(tmp_path) -> None:
    path = tmp_path / "monitor.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.executescript(FIRST_VERSION)
    connection.close()
    store = MonitorStore(path, set_aside_corrupt=True)
    [alert] = store.alerts()
    assert (alert.title, alert.severity, alert.is_firing) == ("root disk / /", CRITICAL, True)
    assert (alert.warning.samples, alert.warning.misses, alert.evidence) == (9, 0, ("dd (71): 3 GiB",))
    assert (alert.flapping, alert.value, alert.clear_samples) == (False, None, 0)
    assert store.statuses() == {("root disk", "/"): CRITICAL}
    assert [entry.change for entry in store.log("4af22bda22")] == [Change.FIRED]
    assert [str(silence) for silence in store.silences(START)] == ["check=cpu"]
    assert store.acknowledgements()["4af22bda22"].covers(alert, START + HOUR)
    ledger = Outbox(store.database).ledger()
    assert ledger.told["ops"]["4af22bda22"].severity is WARNING
    assert ledger.channels["ops"].sent == 3
    [parcel] = Outbox(store.database).due(START + HOUR)
    assert (parcel.message.title, parcel.message.items[0].mark) == ("[CRITICAL] erp-1: root disk /", "")
    assert Outbox(store.database).claim(parcel, START + HOUR, START + 2 * HOUR)
    history = History(store)
    [sample] = history.samples("root disk", "/", "used", START, START + HOUR)
    assert sample == (START + SECOND, 0.97)
    history.add([Result("root disk", "/", OK, "", START + HOUR, 0.0, (Reading("used", 0.5, "ratio", "/"),))])
    history.flush(START + HOUR)
    assert history.trend("root disk", "/") == (0.97, 0.5)
    assert [entry.command for entry in action_log(store)] == ["clean"]
    record(store, advance(alert, Result("root disk", "/", OK, "", START + HOUR, 0.0), POLICY, START + HOUR)[0])
    store.close()
    again = MonitorStore(path)
    assert not again.alerts()[0].is_firing
    again.close()


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path) -> None:
    path = tmp_path / "monitor.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(MonitorStoreError, match="written by a newer keepwatch"):
        MonitorStore(path, set_aside_corrupt=True)
    assert path.exists()


def test_a_place_that_cannot_be_opened_is_a_clear_error(tmp_path) -> None:
    with pytest.raises(MonitorStoreError, match="unable to open database file") as caught:
        MonitorStore(tmp_path / "nowhere" / "monitor.db", set_aside_corrupt=True)
    assert str(tmp_path / "nowhere") in caught.value.hint


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_of_the_transaction(store, policy, result) -> None:
    record(store)
    with store.database.read() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    alerts = [advance(None, result(CRITICAL, entity=str(n)), policy(), START)[0] for n in range(500)]
    with pytest.raises(MonitorStoreFull, match="disk is full") as caught:
        record(store, *alerts)
    assert "make room" in caught.value.hint
    assert store.alerts() == []
    with store.database.read() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    record(store, *alerts)
    assert len(store.alerts()) == 500


def test_a_mistake_in_our_own_statements_is_not_taken_for_a_failing_disk(tmp_path) -> None:
    database = Database(tmp_path / "monitor.db")
    with pytest.raises(sqlite3.ProgrammingError), database.write() as connection:
        connection.execute("SELECT ?", ())
    with database.write() as connection:
        connection.execute("DELETE FROM silences")
    database.close()


def test_two_processes_that_make_the_file_at_once_agree(tmp_path) -> None:
    code = "from pathlib import Path; from monitor.store import MonitorStore; MonitorStore(Path('{}'))"
    command = [sys.executable, "-c", code.format(tmp_path / "monitor.db")]
    makers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(maker.communicate(timeout=60)[1], maker.returncode) for maker in makers] == [(b"", 0)] * 4


def test_room_is_reserved_and_given_up_when_the_disk_is_full(tmp_path, policy, result) -> None:
    store = MonitorStore(tmp_path / "monitor.db", set_aside_corrupt=True)
    reserve = tmp_path / "monitor.db.reserve"
    record(store)
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES, "real blocks, no hole"
    with store.database.read() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    alerts = [advance(None, result(CRITICAL, entity=str(n)), policy(), START)[0] for n in range(500)]
    with pytest.raises(MonitorStoreFull):
        record(store, *alerts)
    assert not reserve.exists()
    with store.database.read() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    record(store, *alerts)
    assert reserve.exists(), "there is room again"
    store.close()


def test_where_there_is_little_room_nothing_is_reserved(tmp_path) -> None:
    greedy = Reserve(tmp_path / "reserve", size_bytes=2**60)
    greedy.keep()
    assert list(tmp_path.iterdir()) == []
    greedy.give_up()
