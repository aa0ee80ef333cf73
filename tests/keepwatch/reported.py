"""A month of an office's life in real stores: backups, a failed week, drills, alerts, an exercise."""

from datetime import datetime, timedelta
from pathlib import Path

from backup.catalog import Catalog
from backup.journal import Journal
from backup.past_drills import PastDrill, PastDrills
from keepwatch.plans.records import Exercise, Verdict
from monitor.alerting import Alert, Change, State, Transition
from monitor.result import Status
from monitor.store import Changes, MonitorStore
from tests.keepwatch.planned import Planned

GIB = 2**30


class Month(Planned):
    """Thirty days up to ``now``, as the stores tell them."""

    def live(self, days: int) -> None:
        """Live the last ``days`` of forty."""
        with Catalog(self.state.backup_db) as catalog:
            for hour in range(24 * (40 - days), 24 * 40):
                self._hour(catalog, self.now - timedelta(days=40) + timedelta(hours=hour + 1), hour)
        self._alerts()
        done = Exercise(
            "fire", "anna", self.now, self.now - timedelta(days=3), Verdict.SHORT, 9000, 16000, 60, 14400, 3600, (),
            ("everything was back after 4h 26m, promised 4h; documents took longest",), self.plan().digest,
        )  # fmt: skip
        self.log.exercised(done, Journal(self.state.journal))

    def _hour(self, catalog: Catalog, at: datetime, hour: int) -> None:
        """Each hour both jobs are saved, but for an outage of six hours; each day both are drilled."""
        for number, job in enumerate(("ledger", "documents")):
            outage = job == "documents" and 24 * 27 <= hour < 24 * 27 + 6
            run = catalog.start_run("incremental", job, "local", now=at)
            stored = {"bytes_stored": (20 + hour % 24) * 2.0**20, "bytes_processed": 3.0 * GIB}
            end = at + timedelta(minutes=3)
            catalog.end_run(run, "failed" if outage else "succeeded", "", now=end, figures={} if outage else stored)
            if hour % 24 == 5:
                failed = job == "documents" and hour == 24 * 31 + 5
                self._drill(catalog, job, at, 420 + 40 * number + hour, failed=failed)
        if hour % 24 == 6:
            prune = catalog.start_run("prune", "", "local", now=at)
            catalog.end_run(prune, "succeeded", "", now=at, figures={"bytes_freed": 300 * 2.0**20})
            catalog.look_at_repository("local", now=at, size_bytes=8 * GIB, free_bytes=90 * GIB)
            catalog.record_verify("local", None, now=at)

    def _drill(self, catalog: Catalog, job: str, at: datetime, rto: float, *, failed: bool) -> None:
        run = catalog.start_run("drill", job, "local", now=at)
        verdict = "FAILED" if failed else "PASSED"
        message = "invoice-17.pdf came back different" if failed else "1204 entries came back as they were"
        measured = None if failed else rto
        row = PastDrill(
            0, job, "local", "ab" * 32, "restore", verdict, at, at + timedelta(seconds=rto), measured, 1800.0, 1204,
            3 * GIB, message,
        )  # fmt: skip
        PastDrills(catalog).add(run, row)
        catalog.end_run(run, verdict.lower(), message, now=at + timedelta(seconds=rto))
        Journal(self.state.journal).append({"job": job, "verdict": verdict, "message": message}, now=at)

    def _alerts(self) -> None:
        store = MonitorStore(self.state.monitor_db)
        try:
            for day, hours, severity in ((25, 5, Status.CRITICAL), (20, 0.5, Status.WARNING), (2, 48, Status.WARNING)):
                fired = self.now - timedelta(days=day)
                alert = Alert(
                    id=f"a{day}", name="root disk", check="root disk", entity="/", state=State.FIRING,
                    severity=severity, since=fired, message="99 % used", judged_at=fired, changed_at=fired,
                    fired_at=fired,
                )  # fmt: skip
                began = Transition(fired, Change.FIRED, alert, "99 % used, bound 90 %")
                store.record(Changes(alerts={alert.id: alert}, transitions=[began]), fired)
                if day == 25:
                    store.acknowledge("a25", "anna", "on it", fired + timedelta(minutes=12))
                if day != 2:
                    over = fired + timedelta(hours=hours)
                    store.record(Changes(transitions=[Transition(over, Change.RESOLVED, alert, "recovered")]), over)
            quiet = Changes(statuses={("cpu", ""): Status.OK, ("root disk", "/"): Status.OK})
            store.record(quiet, self.now)
        finally:
            store.close()




def month(root: Path, days: int = 40) -> Month:
    made = Month(root)
    config = made.config.read_text()
    promise = 'repositories = ["local", "offsite"]\nrpo = "2h"\nrto = "30m"'
    made.config.write_text(config.replace('repositories = ["local", "offsite"]', promise))
    made.live(days)
    return made
