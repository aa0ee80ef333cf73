import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest

from backup.catalog import Catalog
from keepwatch.errors import AlreadyRunning, StateError
from keepwatch.state import StateDirectory
from monitor.store import MonitorStore


def test_it_is_made_for_its_owner_only(tmp_path):
    state = StateDirectory(tmp_path / "a" / "b")
    assert state.path.stat().st_mode & 0o777 == 0o700
    assert state.scratch.is_dir()


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="preparing the state directory") as caught:
        StateDirectory(tmp_path / "file" / "state")
    assert "--state-dir" in caught.value.hint


def test_a_second_holder_is_refused_and_told_who_has_it(tmp_path):
    state = StateDirectory(tmp_path)
    script = (
        "import sys, pathlib\nfrom keepwatch.state import StateDirectory\n"
        "with StateDirectory(pathlib.Path(sys.argv[1])).lock('daemon', what='the daemon'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert state.is_locked("daemon")
        with (
            pytest.raises(AlreadyRunning, match=f"the daemon is already running as process {holder.pid}"),
            state.lock("daemon", what="the daemon"),
        ):
            pass
        holder.kill()
    assert not state.is_locked("daemon")
    with state.lock("daemon", what="the daemon"):
        assert (state.locks / "daemon.lock").read_text().strip() == str(os.getpid())


def test_copies_of_live_databases_are_consistent(tmp_path):
    state = StateDirectory(tmp_path)
    with closing(sqlite3.connect(state.monitor_db, isolation_level=None)) as live:
        live.execute("pragma journal_mode=wal")
        live.execute("create table t(a)")
        live.executemany("insert into t values (?)", [(n,) for n in range(100)])
        live.execute("begin immediate")
        live.execute("delete from t where a > 10")
        state.copy_databases()
        live.execute("rollback")
    with closing(sqlite3.connect(state.copies / "monitor.db")) as copy:
        assert copy.execute("select count(*) from t").fetchone() == (100,)


def test_a_database_that_cannot_be_copied_is_an_error_and_leaves_the_old_copy(tmp_path):
    state = StateDirectory(tmp_path)
    (state.copies / "monitor.db").write_bytes(b"yesterday")
    state.monitor_db.write_bytes(b"this is no database" * 100)
    with pytest.raises(StateError, match="copying"):
        state.copy_databases()
    assert (state.copies / "monitor.db").read_bytes() == b"yesterday"


def test_what_is_only_read_is_not_made(tmp_path):
    state = StateDirectory(tmp_path / "nowhere", to_read=True)
    with closing(MonitorStore(state.monitor_db, to_read=True)) as store, Catalog(state.backup_db, to_read=True) as runs:
        assert store.alerts() == []
        assert runs.runs(9) == []
    assert not state.is_locked("daemon")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_catalog_that_is_only_read_stays_where_it_is(tmp_path):
    (tmp_path / "backup.db").write_bytes(b"this is no database" * 100)
    with Catalog(tmp_path / "backup.db", to_read=True) as runs:
        assert "is damaged" in runs.problem
    assert [file.name for file in tmp_path.iterdir()] == ["backup.db"]


def test_databases_are_made_for_their_owner_only_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with closing(MonitorStore(tmp_path / "monitor.db")), Catalog(tmp_path / "backup.db"):
            rights = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert {"monitor.db", "monitor.db-wal", "monitor.db-shm", "backup.db", "backup.db-wal"} <= rights.keys()
    assert set(rights.values()) == {0o600}


def test_what_others_may_do_is_taken_away_and_leave_to_read_for_the_group_stays(tmp_path):
    state = StateDirectory(tmp_path)
    tmp_path.chmod(0o777)
    for name, rights in (("monitor.db", 0o644), ("monitor.db-wal", 0o666), ("backup.db", 0o600)):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(rights)
    state.tighten()
    assert tmp_path.stat().st_mode & 0o777 == 0o750
    assert state.monitor_db.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "monitor.db-wal").stat().st_mode & 0o777 == 0o640
    assert state.backup_db.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_everybody_shares_is_no_state_directory(tmp_path):
    tmp_path.chmod(0o1777)
    with pytest.raises(StateError, match="everybody shares") as caught:
        StateDirectory(tmp_path).tighten()
    assert str(tmp_path / "keepwatch") in caught.value.hint
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_since_when_a_lock_is_held_is_known_while_it_is(tmp_path):
    state = StateDirectory(tmp_path)
    assert state.locked_since("daemon") is None
    with state.lock("daemon", what="the daemon"):
        os.utime(state.locks / "daemon.lock", (1_000_000_000, 1_000_000_000))
        assert state.locked_since("daemon") == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert state.locked_since("daemon") is None
