"""The daemon: one loop that owns time, and hands everything that may wait to somebody else.

Checks run on the pool's threads, jobs in child processes, messages and the page on threads of their own. The loop
itself only decides and records: it takes in results, advances alerts, starts what is due, and puts the picture together
that the page shows. It imports neither the repository's code nor the command line's.
"""

import ctypes
import gc
import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType

from backup.catalog import Catalog, CatalogError
from config.problems import ConfigProblems
from config.settings import Settings
from config.units import format_duration
from keepwatch import bridge
from keepwatch.clock import local_time, now
from keepwatch.dispatcher import Dispatcher
from keepwatch.heartbeat import Heartbeat, Pulse
from keepwatch.host_metrics import HostMetrics
from keepwatch.plans.shelf import Shelf
from keepwatch.state import StateDirectory
from keepwatch.supervision import Systemd
from keepwatch.ticker import Ticker
from keepwatch.viewing import Viewer, read_backups
from keepwatch.wal.keeper import WalKeeper
from keepwatch.watch import Watch
from keepwatch.web.opening import open_server
from monitor.inbox import Inbox
from monitor.memory import Memories
from monitor.node.page import NodePage

log = logging.getLogger(__name__)

_STOP_SECONDS = 40.0
"""How long a stop waits for job children; they are killed after 30 s by their runner."""
_STALL_SECONDS = 30.0
"""How long a loop may stand still before the daemon stops calling itself alive."""


def _give_back_free_memory() -> None:
    """Return to the system what starting has freed: glibc would keep some 5 MiB of it for as long as we live."""
    with suppress(AttributeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)


class Daemon:
    """Made with everything open and the port bound, so that what cannot work fails before anything starts."""

    def __init__(self, settings: Settings, state: StateDirectory, read_settings: Callable[[], Settings]) -> None:
        """Open stores and bind the page's port. Raises ListenError, WebConfigError, MonitorStoreError, CatalogError."""
        self._settings = settings
        self._read_settings = read_settings
        self._signals: SimpleQueue[signal.Signals] = SimpleQueue()
        self._problems: dict[str, str | None] = {"configuration": None, "backup.db": None}
        self._stop_asked = False
        self._viewer = Viewer(settings, now(), now)
        memories = Memories(state.memories)
        inbox = Inbox(memories)
        self._server = open_server(
            settings.web, settings.daemon.host, self._viewer.view, now, lambda: self._host_metrics.render(), inbox
        )
        self._shelf = Shelf(settings, state.plan_log)
        self._watch = Watch(settings, state.monitor_db, now, self._shelf.called_for, memories, inbox)
        self._host_metrics = self._open_host_metrics()
        self._dispatcher = Dispatcher(settings, state, Catalog(state.backup_db), now)
        self._wal = WalKeeper(settings, state.path)
        self._pulse = Pulse(("evaluation", "scheduler"))
        self._heartbeat = Heartbeat(settings.heartbeat, now) if settings.heartbeat else None
        self._systemd = Systemd()
        self._ticker = Ticker(local_time)

    @property
    def url(self) -> str:
        """Where the page is."""
        return self._server.url

    def run(self) -> int:
        """Serve until told to stop; returns the exit status: 0 after a clean stop, 130 after a forced one."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._ticker.every(1, self._evaluate)
        self._ticker.every(1, self._dispatch)
        self._ticker.every(1, self._wal.tick)
        self._ticker.every(int(bridge.EVERY.total_seconds()), self._judge_backups)
        self._ticker.every(5, self._tell_supervisors)
        self._ticker.every(5, self._show_plans)
        self._ticker.every(10, lambda: self._watch.keep_history(now()))
        self._show_backups()
        self._show_plans()
        # What is loaded by now stays for months. Looking through its 70,000 objects in each full collection would hold
        # up checks and scrapes for tens of milliseconds.
        gc.collect()
        gc.freeze()
        _give_back_free_memory()
        self._server.start()
        self._systemd.ready(f"page at {self._server.url}")
        log.info("daemon started", extra={"page": self._server.url})
        try:
            self._dispatch()
            while not self._stop_asked:
                self._turn()
            return self._shut_down()
        finally:
            self._server.stop()
            self._watch.close()
            self._dispatcher.catalog.close()

    def _turn(self) -> None:
        """One turn of the loop: do what is due, then wait for the next act, check or signal."""
        self._ticker.run_pending()
        self._watch.pool.start_due()
        wait = min(self._ticker.idle_seconds, self._watch.pool.idle_seconds)
        try:
            number = self._signals.get(timeout=max(wait, 0.005))
        except Empty:
            return
        if number == signal.SIGHUP:
            self._reload()
        else:
            self._stop_asked = True
            log.info("stopping", extra={"signal": number.name})

    def _evaluate(self) -> None:
        moment = now()
        if self._watch.evaluate(moment, self._dispatcher.running):
            self._viewer.put(watch=self._watch.part(moment))
        self._watch.tell_alertmanagers(moment, alive=not self._pulse.stalled(_STALL_SECONDS))
        self._pulse.beat("evaluation")

    def _dispatch(self) -> None:
        try:
            if self._dispatcher.tick():
                self._judge_backups()
            elif self._dispatcher.running:
                self._show_backups()
        except CatalogError as error:
            if self._problems.get("backup.db") is None:
                log.error("catalog failed", extra={"reason": error, "hint": error.hint})
            self._problems["backup.db"] = f"nothing can be started while this lasts: {error}"
        else:
            self._problems["backup.db"] = self._dispatcher.catalog.problem
        self._pulse.beat("scheduler")

    def _show_backups(self) -> None:
        dispatcher = self._dispatcher
        part = read_backups(
            dispatcher.catalog, self._settings, tuple(dispatcher.duties), dispatcher.standings, dispatcher.running,
            self._wal.standings(),
        )  # fmt: skip
        self._viewer.put(backups=part)

    def _judge_backups(self) -> None:
        """Let the monitor watch the backups, and the daemon itself."""
        with suppress(CatalogError):  # it is a problem of its own; what was known goes on being judged
            self._show_backups()
        view, moment = self._viewer.view(), now()
        plans = self._shelf.results(moment)
        problems = self._problems | self._watch.problems() | {"plans.jsonl": self._shelf.problem}
        self._watch.take([*bridge.results(view.jobs, view.repositories, problems, moment), *plans], moment)

    def _show_plans(self) -> None:
        """Show plans and what became of them, as files and log stand now."""
        alerts = self._viewer.ingredients.watch.alerts
        firing = [(a.check, f"{a.check} {a.entity}".strip()) for a in alerts if a.state in ("firing", "recovering")]
        part = self._shelf.part(now(), firing)
        if part != self._viewer.ingredients.plans:
            self._viewer.put(plans=part)

    def _tell_supervisors(self) -> None:
        stalled = self._pulse.stalled(_STALL_SECONDS)
        if stalled:
            log.error("loops stalled", extra={"loops": ", ".join(stalled)})
        else:
            self._systemd.alive()
        if self._heartbeat:
            self._heartbeat.tick(self._pulse, time.monotonic())
            if self._heartbeat.last_success_at != self._viewer.ingredients.heartbeat_success_at:
                self._viewer.put(heartbeat_success_at=self._heartbeat.last_success_at)

    def _reload(self) -> None:
        """Read the settings again. Bad ones change nothing but raise an alert about themselves."""
        self._systemd.reloading()
        try:
            settings = self._read_settings()
            self._refuse_what_needs_a_restart(settings)
        except (ConfigProblems, ValueError) as problems:
            log.error("reload refused", extra={"problems": str(problems)})
            self._problems["configuration"] = f"the changed configuration is refused, the old one stays: {problems}"
            self._viewer.put(config_problem=str(problems))
        else:
            self._settings = settings
            self._problems["configuration"] = None
            self._watch.reconfigure(settings, now())
            self._host_metrics = self._open_host_metrics()
            self._dispatcher.reconfigure(settings)
            self._wal.reconfigure(settings)
            self._shelf.reconfigure(settings)
            self._heartbeat = Heartbeat(settings.heartbeat, now) if settings.heartbeat else None
            self._viewer.put(settings=settings, reloaded_at=now(), config_problem=None)
            log.info("reloaded")
        self._judge_backups()
        self._systemd.ready("watching")

    def _open_host_metrics(self) -> HostMetrics:
        settings = self._settings.metrics
        page = NodePage(self._watch.file_systems, now, textfile_directory=settings.textfile_directory)
        return HostMetrics(settings, page.render)

    def _refuse_what_needs_a_restart(self, settings: Settings) -> None:
        for name, old, new in (
            ("daemon.state_dir", self._settings.daemon.state_dir, settings.daemon.state_dir),
            ("web", self._settings.web, settings.web),
        ):
            if old != new:
                raise ValueError(f"{name} changes from {old} to {new}, which needs a restart")

    def _shut_down(self) -> int:
        """Stop cleanly; a second signal stops at once."""
        self._systemd.stopping()
        self._watch.pool.stop()
        self._dispatcher.stop()
        self._wal.stop()
        if running := len(self._dispatcher.running):
            log.info("waiting for runs to end", extra={"runs": running, "at_once_by": "a second Ctrl-C"})
        began = time.monotonic()
        while self._dispatcher.running and time.monotonic() - began < _STOP_SECONDS:
            try:
                self._signals.get(timeout=0.1)
            except Empty:
                self._dispatcher.tick()
                continue
            self._dispatcher.kill()
            log.warning("stopped at once")
            return 130
        self._dispatcher.kill()
        log.info("stopped", extra={"after": format_duration(time.monotonic() - began)})
        return 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.put(signal.Signals(number))


