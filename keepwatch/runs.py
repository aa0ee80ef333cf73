"""What a run does, from lock to ledger: the same code in a job child, and in the foreground of the command line.

Each kind of run is one function that returns an Ending; its module is imported when it is wanted, since all of them
together cost more than a backup of unchanged files. Whatever happens, the ledger gets an end and ``after`` hooks
run; a user's error becomes a failed run with a hint, a bug one with a traceback in the log.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from backup.catalog import Catalog
from backup.errors import BackupError, Interrupted
from config.secrets import SecretError
from config.settings import Settings
from keepwatch.errors import HeldByGuard, KeepwatchError
from keepwatch.orders import Ending, Order, Progress
from keepwatch.state import StateDirectory
from keepwatch.work import Work

log = logging.getLogger(__name__)


def carry_out(
    order: Order,
    settings: Settings,
    state: StateDirectory,
    *,
    clock: Callable[[], datetime],
    progress: Callable[[Progress], None],
    stop: threading.Event,
    is_paused: Callable[[], bool] = lambda: False,
) -> Ending:
    """Do what the order says and record it; an order without a ``run_id`` gets its row here.

    ``is_paused`` is asked, in the calling thread, wherever the run may pause; it waits there until it turns false.
    Raises AlreadyRunning when the same job (or repository duty) is at work elsewhere and no row was written yet.
    """
    name = f"job-{order.job}" if order.job else f"repository-{order.repository}"
    what = f"a run of job {order.job}" if order.job else f"work on repository {order.repository}"
    with Catalog(state.backup_db) as catalog:
        try:
            with state.lock(name, what=what):
                if not order.run_id:
                    run_id = catalog.start_run(*_ledger_key(order), now=clock(), pid=os.getpid())
                    order = replace(order, run_id=run_id)
                work = Work(order, settings, state, catalog, clock, progress, stop, is_paused)
                ending = _guarded(work)
                _look_for_locks(work)
                ending = replace(ending, figures=ending.figures | work.request_figures())
                _record(work, ending)
        except KeepwatchError as error:
            if not order.run_id:
                raise
            ending = Ending("failed", str(error), error.hint or "", error.exit_code)
            catalog.end_run(order.run_id, "failed", str(error), now=clock())
        return ending


def _guarded(work: Work) -> Ending:
    try:
        return _KINDS[work.order.kind](work)
    except Interrupted as error:
        return Ending("interrupted", str(error) or "asked to stop", exit_code=130)
    except HeldByGuard as error:
        return Ending("held", str(error), error.hint or "", 1)
    except (BackupError, SecretError, KeepwatchError) as error:
        return Ending("failed", str(error), error.hint or "", getattr(error, "exit_code", 1))
    except Exception as bug:
        log.exception("run failed by a bug", extra={"job": work.order.job, "kind": work.order.kind})
        return Ending("failed", f"{type(bug).__name__}: {bug}", "this is a bug; the log has its traceback", 1)


def _look_for_locks(work: Work) -> None:
    """See which locks of others stand in the repositories, above all after a run that one of them kept out."""
    if not work.opened or work.stop.is_set():
        return
    from keepwatch.remembering import remember_locks

    for name, repository in work.opened.items():
        remember_locks(repository, name, work.catalog, work.clock)


def _record(work: Work, ending: Ending) -> None:
    work.catalog.end_run(
        work.order.run_id, ending.outcome, ending.message, now=work.clock(), snapshot=ending.snapshot,
        figures=ending.figures, data_at=ending.data_at,
    )  # fmt: skip
    fields = {"kind": work.order.kind, "job": work.order.job, "outcome": ending.outcome, "hint": ending.hint}
    log.debug("run recorded", extra=fields)


def _save(work: Work) -> Ending:
    from keepwatch.saving import save

    return save(work)


def _forget(work: Work) -> Ending:
    from keepwatch.keeping import forget

    return forget(work)


def _prune(work: Work) -> Ending:
    from keepwatch.keeping import prune

    return prune(work)


def _extend(work: Work) -> Ending:
    from keepwatch.keeping import extend

    return extend(work)


def _verify(work: Work) -> Ending:
    from keepwatch.proving import prove_repository

    return prove_repository(work)


def _drill(work: Work) -> Ending:
    from keepwatch.proving import drill

    return drill(work)


_KINDS: dict[str, Callable[[Work], Ending]] = {
    "full": _save,
    "incremental": _save,
    "forget": _forget,
    "verify": _verify,
    "prune": _prune,
    "extend": _extend,
    "drill": _drill,
}


def _ledger_key(order: Order) -> tuple[str, str, str]:
    # A drill with a planted fault tests the drill; it must not count as the job's own.
    return ("planted drill" if order.plant else order.kind, order.job, order.repository)
