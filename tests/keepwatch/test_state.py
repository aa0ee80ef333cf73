import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from keepwatch.errors import AlreadyRunning, StateError
from keepwatch.state import StateDirectory


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
