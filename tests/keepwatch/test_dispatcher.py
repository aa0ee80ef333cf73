import os
import signal
import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pytest

from backup.catalog import Catalog
from config.settings import Settings
from keepwatch.clock import now
from keepwatch.dispatcher import Dispatcher
from keepwatch.state import StateDirectory


@pytest.fixture
def state(tmp_path):
    return StateDirectory(tmp_path / "state")


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.txt").write_text("a")
    (tmp_path / "password").write_text("secret\n")
    return make_settings(tmp_path)


def make_settings(tmp_path, **job):
    return Settings.model_validate(
        {
            "repositories": {"local": {"url": f"{tmp_path}/repository", "password_file": f"{tmp_path}/password"}},
            "jobs": {
                "docs": {
                    "source": {"type": "files", "paths": [str(tmp_path / "documents")]},
                    "repositories": ["local"],
                    "full": "sunday 02:00",
                    **job,
                }
            },
        }
    )


@pytest.fixture
def dispatch(state):
    """Make a dispatcher; its children are gone when the test is."""
    made = []

    def make(settings):
        made.append(Dispatcher(settings, state, Catalog(state.backup_db), now))
        return made[-1]

    yield make
    for dispatcher in made:
        dispatcher.kill()
        dispatcher.catalog.close()


def finish(dispatcher, seconds=30.0):
    """Tick until nothing runs any more; return the runs, oldest first."""
    deadline = time.monotonic() + seconds
    dispatcher.tick()
    while dispatcher.running:
        assert time.monotonic() < deadline, dispatcher.running
        time.sleep(0.02)
        dispatcher.tick()
    return dispatcher.catalog.runs(100)[::-1]


def test_a_due_job_runs_in_a_child_and_its_end_is_recorded(dispatch, settings):
    runs = finish(dispatch(settings))
    assert [(run.kind, run.outcome) for run in runs] == [("full", "succeeded")]
    assert runs[0].pid != os.getpid()
    assert runs[0].figures["files_new"] == 1


def test_a_failing_hook_fails_the_run_with_its_words_and_after_hooks_still_run(dispatch, tmp_path, settings):
    marker = tmp_path / "outcome"
    after = f'echo "$KEEPWATCH_JOB $KEEPWATCH_OUTCOME" > {marker}'
    broken = make_settings(tmp_path, before=["echo importer does not stop; exit 7"], after=[after])
    runs = finish(dispatch(broken))
    assert runs[0].outcome == "failed"
    assert "exit status 7: importer does not stop" in runs[0].message
    assert marker.read_text() == "docs failed\n"
    assert not (tmp_path / "repository").exists()


def end_of(dispatcher, run_id, seconds=30.0):
    """Tick until that run has ended."""
    deadline = time.monotonic() + seconds
    while run_id in {child.order.run_id for child in dispatcher._runner._children}:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        dispatcher.tick()
    return dispatcher.catalog.run(run_id)


def test_a_run_over_its_time_limit_is_stopped_and_counts_as_failed(dispatch, tmp_path, settings):
    dispatcher = dispatch(make_settings(tmp_path, timeout="1s", before=["sleep 60"]))
    dispatcher.tick()
    ended = end_of(dispatcher, 1)
    assert ended.outcome == "failed"
    assert ended.message == "stopped at its time limit"
    dispatcher.tick()
    assert not dispatcher.running, "it waits before it tries again"


def test_a_child_that_crashes_without_a_word_leaves_no_run_running(dispatch, tmp_path, settings):
    dispatcher = dispatch(make_settings(tmp_path, before=["sleep 60"]))
    dispatcher.tick()
    os.killpg(dispatcher.catalog.run(1).pid, signal.SIGKILL)
    ended = end_of(dispatcher, 1)
    assert ended.outcome == "interrupted"
    assert "signal 9" in ended.message
    assert dispatcher.catalog.run(2).outcome == "running", "the first time, it is made up for at once"
    os.killpg(dispatcher.catalog.run(2).pid, signal.SIGKILL)
    end_of(dispatcher, 2)
    assert not dispatcher.running, "the second time, it waits"


def test_runs_left_by_a_daemon_that_died_are_marked_interrupted_and_made_up_for(dispatch, state, settings):
    with Catalog(state.backup_db) as catalog:
        catalog.start_run("full", "docs", "local", now=now() - timedelta(hours=1), pid=2**22 + 1)
    runs = finish(dispatch(settings))
    assert [(run.kind, run.outcome) for run in runs] == [("full", "interrupted"), ("full", "succeeded")]


def test_a_run_that_somebody_else_is_doing_is_neither_ended_nor_doubled(dispatch, state, settings):
    with Catalog(state.backup_db) as catalog:
        catalog.start_run("full", "docs", "local", now=now(), pid=os.getpid())
    with state.lock("job-docs", what="a run of job docs"):
        dispatcher = dispatch(settings)
        dispatcher.tick()
        assert not dispatcher.running
        assert dispatcher.catalog.runs(9)[0].outcome == "running"


def test_what_a_person_asked_for_runs_though_it_is_not_due(dispatch, state, settings):
    dispatcher = dispatch(settings)
    finish(dispatcher)
    with Catalog(state.backup_db) as catalog:
        catalog.request("full", "docs", "local", now=now())
    runs = finish(dispatcher)
    assert [run.outcome for run in runs] == ["succeeded", "succeeded"]
    assert finish(dispatcher) == runs, "once, not again"


def test_a_wrong_password_fails_the_run_and_nothing_is_written(dispatch, tmp_path, settings):
    finish(dispatch(settings))
    before = sorted(path.name for path in (tmp_path / "repository").rglob("*"))
    (tmp_path / "password").write_text("mistaken\n")
    with closing(sqlite3.connect(tmp_path / "state" / "backup.db")) as catalog, catalog:
        catalog.execute("DELETE FROM runs")
    runs = finish(dispatch(settings))
    assert runs[0].outcome == "failed"
    assert "password" in runs[0].message
    assert sorted(path.name for path in (tmp_path / "repository").rglob("*")) == before
