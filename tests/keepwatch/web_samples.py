"""Views to show: a healthy day, a bad day with everything that can be wrong, and the first second of a new daemon."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from backup.past_drills import PastDrill
from keepwatch.view import (
    AlertView,
    CheckView,
    DutyView,
    JobView,
    RepositoryView,
    RunView,
    SnapshotView,
    View,
)
from monitor.result import Reading, Status

# These are tables, and read as such:
# fmt: off
NOW = datetime(2026, 3, 3, 13, 32, 5, tzinfo=UTC)
GIB = 2**30
EVIL = "<script>alert('boo')</script>"


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def wave(middle: float, swing: float, count: int = 60, drift: float = 0.0) -> tuple[float, ...]:
    """A trend that looks alive: two sines and a drift, never random."""
    return tuple(
        middle + swing * (math.sin(i / 3.1) * 0.6 + math.sin(i / 0.9 + middle) * 0.4) + drift * (i / count)
        for i in range(count)
    )


def check(
    name: str, type_: str, value: float, unit: str, message: str, *, entity: str = "", status: Status = Status.OK,
    trend: tuple[float, ...] = (), more: tuple[Reading, ...] = (), age: float = 12, runs: int = 4821,
        failures: int = 0,
) -> CheckView:
    readings = () if status in (Status.ABSENT, Status.UNKNOWN) else (Reading("used", value, unit, entity), *more)
    return CheckView(name, entity, type_, status, message, ago(seconds=age), 0.0032, readings, trend, runs, failures)


HEALTHY_CHECKS = (
    check("cpu", "cpu", 0.124, "ratio", "12.4 % used", trend=wave(0.16, 0.12), more=(
        Reading("user", 0.08, "ratio"), Reading("system", 0.03, "ratio"), Reading("iowait", 0.014, "ratio"))),
    check("load", "load", 0.41, "count", "0.41 per core", trend=wave(0.4, 0.2), more=(Reading("load1", 3.1,
        "count"),)),
    check("memory", "memory", 0.413, "ratio", "41.3 % used, 18.4 GiB available", trend=wave(0.4, 0.02, drift=0.03),
          more=(Reading("available_bytes", 18.4 * GIB, "bytes"), Reading("total_bytes", 31.3 * GIB, "bytes"))),
    check("swap", "swap", 0.0, "ratio", "0 % used", trend=wave(0.0, 0.0)),
    check("processes", "processes", 312, "count", "312 processes, no zombies", trend=wave(312, 6)),
    check("file descriptors", "file_descriptors", 0.004, "ratio", "0.4 % of the limit", trend=wave(0.004, 0.001)),
    check("uptime", "uptime", 34.4 * 86_400, "seconds", "up 34 d 9 h"),
    check("root disk", "disk", 0.634, "ratio", "63.4 % used", entity="/", trend=wave(0.63, 0.001, drift=0.01),
          more=(Reading("free_bytes", 73.2 * GIB, "bytes"), Reading("inodes_used", 0.11, "ratio"))),
    check("invoice disk", "disk", 0.712, "ratio", "71.2 % used", entity="/srv/invoices", trend=wave(0.70, 0.002,
        drift=0.02)),
    check("disk activity", "disk_io", 0.031, "ratio", "3.1 % busy", entity="nvme0n1", trend=wave(0.05, 0.05)),
    check("disk activity", "disk_io", 0.012, "ratio", "1.2 % busy", entity="sda", trend=wave(0.02, 0.02)),
    check("network", "network", 0.0, "ratio", "no errors", entity="eth0", trend=wave(0.0, 0.0), more=(
        Reading("receive_bytes_per_second", 2_345_678, "bytes_per_second"),)),
    check("temperatures", "temperature", 54, "celsius", "54 °C", entity="coretemp Package id 0", trend=wave(54, 3)),
    check("fans", "fans", 0, "rpm", "this machine tells of no fans", status=Status.ABSENT),
    check("invoice service", "http", 0.043, "seconds", "200 in 43 ms", trend=wave(0.045, 0.01), age=3),
    check("ledger database", "tcp", 0.0007, "seconds", "connected in 0.7 ms", trend=wave(0.0007, 0.0002)),
)


def snapshot(number: int, job: str, hours: float, kind: str = "incremental", **changes: object) -> SnapshotView:
    plain = SnapshotView(f"{number:02x}" * 32, job, "local", kind, ago(hours=hours), 12_345 + number,
                         int(4.2 * GIB), 1_234_567 * number)
    return replace(plain, **changes)  # type: ignore[arg-type]


def run(number: int, job: str, kind: str, outcome: str, hours: float, took: float, **changes: object) -> RunView:
    figures = (
        {"files_new": 3.0, "files_changed": 12.0, "files_unmodified": 12_330.0, "files_unreadable": 0.0,
         "bytes_processed": 4.2 * GIB, "bytes_added": 1_234_567.0, "bytes_stored": 456_789.0}
        if kind in ("full", "incremental") else {}
    )
    plain = RunView(number, job, kind, "local", outcome, ago(hours=hours), ago(hours=hours) + timedelta(seconds=took),
                    "snapshot 0a0a0a0a saved" if figures else "nothing to complain about", figures=figures)
    return replace(plain, **changes)  # type: ignore[arg-type]


def drill(number: int, job: str, verdict: str, hours: float, message: str, **changes: object) -> PastDrill:
    plain = PastDrill(number, job, "local", "0a" * 32, "restore", verdict, ago(hours=hours, minutes=4),
        ago(hours=hours),
                      192.0, 3_720.0, 12_345, int(4.2 * GIB), message)
    return replace(plain, **changes)  # type: ignore[arg-type]


def duties(job: str, *, last_hours: float = 0.3, drill_hours: float = 9.0) -> tuple[DutyView, ...]:
    return (
        DutyView("incremental", "local", "every 1h", ago(hours=last_hours - 1), ago(hours=last_hours),
            ago(hours=last_hours),
                 7200, 812, 3, 1),
        DutyView("full", "local", "sunday 02:00", ago(days=-5), ago(days=2), ago(days=2), 15 * 86_400, 34, 0, 0),
        DutyView("drill", "local", "daily 04:30", ago(hours=drill_hours - 24), ago(hours=drill_hours),
                 ago(hours=drill_hours), 2 * 86_400 + 300, 33, 1, 0, 2),
    )


def healthy() -> View:
    documents = JobView(
        "documents", "/srv/invoices", ("local",), ago(days=34), 7200, 1800, duties("documents"), None,
        run(91, "documents", "incremental", "succeeded", 0.3, 4.2), run(91, "documents", "incremental", "succeeded",
            0.3, 4.2),
        drill(33, "documents", "PASSED", 9, ""), snapshot(10, "documents", 0.3),
    )
    settings = JobView(
        "machine", "/etc, /root and keepwatch's own state", ("local",), ago(days=34), 86_400, 600,
        duties("machine", last_hours=0.8, drill_hours=8), None, run(90, "machine", "incremental", "succeeded", 0.8,
            1.1),
        run(90, "machine", "incremental", "succeeded", 0.8, 1.1), drill(32, "machine", "PASSED", 8, "",
            rto_seconds=3.4),
        snapshot(9, "machine", 0.8),
    )
    passed = "12,345 files compared byte by byte with the snapshot, 12,301 with the live source"
    return View(
        host="erp-1", version="0.1.0", made_at=NOW, started_at=ago(days=34, hours=3), timezone="Europe/Berlin",
        checks=HEALTHY_CHECKS,
        alerts=(AlertView("c0ffee12", "load", "load", "", "warning", "resolved", ago(hours=5),
            "2.31 per core, above 2",
                          notified_at=ago(hours=5), resolved_at=ago(hours=4)),),
        jobs=(documents, settings),
        runs=tuple(
            run(91 - i, "machine" if i % 2 else "documents", ("incremental", "drill", "forget")[i % 3],
                "passed" if i % 3 == 1 else "succeeded", 0.3 + i, 4.2 + i)
            for i in range(12)
        ),
        drills=tuple(drill(33 - i, "machine" if i % 2 else "documents", "PASSED", 8 + i * 12,
            passed) for i in range(10)),
        snapshots=tuple(
            snapshot(12 - i, "machine" if i % 2 else "documents", 0.3 + i, "full" if i == 9 else "incremental",
                     drilled_at=ago(hours=9) if i > 8 else None)
            for i in range(12)
        ),
        repositories=(
            RepositoryView("local", "/srv/keepwatch/repository", 148, int(9.7 * GIB), 73 * GIB, ago(hours=20),
                           duties=(DutyView("verify", "local", "daily 03:00", ago(hours=-4), ago(hours=20),
                               ago(hours=20),
                                            2 * 86_400, 33, 0),), configured_at=ago(days=34)),
        ),
        config_reloaded_at=ago(days=2), scheduler_lag_seconds=0.004,
        lags=((0.01, 7), (float("inf"), 9)), lag_seconds_sum=0.5,
        notifications=(("ops", 12, 1), ("phone", 3, 0)),
        heartbeat_success_at=ago(seconds=40),
    )


LONG = "nightly-archive-of-scanned-supplier-invoices-and-delivery-notes-of-the-northern-branch-office"


def bad_day() -> View:
    """Firing and pending alerts, a failed drill, a partial run, a broken promise, long, Chinese and hostile names."""
    good = healthy()
    documents, machine = good.jobs
    failed = drill(
        34, "documents", "FAILED", 2,
        "2026/02/rechnung-10233.pdf: 4 of 17 blobs cannot be read from pack 3f9a0c12: wrong authentication code",
        rto_seconds=None,
    )
    unclear = drill(35, "发票档案", "INCONCLUSIVE", 1,
        "no scratch space: 4.2 GiB needed, 1.1 GiB free below /var/tmp", rto_seconds=None)
    partial = run(95, LONG, "incremental", "partial", 4.2, 61,
        message="/srv/scans/2026/03/batch-7.tif: permission denied (and 2 more)")
    partial = replace(partial, figures=partial.figures | {"files_unreadable": 3.0})
    running = RunView(97, "machine", "incremental", "local", "running", ago(minutes=2), None, "/etc/ssl/certs", 0.43)
    interrupted = run(94, "documents", "incremental", "interrupted", 6, 10, message="the daemon was stopped")
    chinese = replace(
        machine, name="发票档案", source="/srv/发票/2026年", last_drill=unclear, newest_snapshot=snapshot(7,
            "发票档案", 0.4),
        duties=duties("发票档案", last_hours=0.4, drill_hours=30), running=None,
    )
    long = replace(
        documents, name=LONG, source="/srv/scans", repositories=("local", "offsite"), last_drill=None,
            last_backup=partial,
        newest_snapshot=snapshot(5, LONG, 4.2, partial=True), last_run=partial,
        duties=(
            DutyView("incremental", "local", "every 1h", ago(minutes=1), ago(hours=5.2), ago(hours=4.2), 7200, 812,
                9, 4),
            DutyView("incremental", "offsite", "every 1h", ago(minutes=1), None, ago(hours=4.2), 7200, 12, 12, 0),
            DutyView("drill", "local", "daily 04:30", None, None, None, 2 * 86_400, 0, 0, 0, 0),
        ),
    )
    checks = {(c.check, c.entity): c for c in good.checks}
    checks["invoice disk", "/srv/invoices"] = check(
        "invoice disk", "disk", 0.968, "ratio", "96.8 % used, above 95 % (3.1 GiB free)", entity="/srv/invoices",
        status=Status.CRITICAL, trend=wave(0.80, 0.004, drift=0.168),
    )
    checks["load", ""] = check("load", "load", 2.31, "count", "2.31 per core, above 2", status=Status.WARNING,
                               trend=wave(0.5, 0.2, drift=1.8))
    checks["invoice service", ""] = check(
        "invoice service", "http", 0, "seconds", "GET http://127.0.0.1:8080/health: no answer within 10 s",
        status=Status.CRITICAL, age=3,
    )
    checks["invoice service", ""] = replace(checks["invoice service", ""], readings=())
    checks["tax authority", ""] = check(
        "tax authority", "command", 0, "count", "check_tax: exit status 3: " + EVIL, status=Status.UNKNOWN,
        failures=14,
    )
    checks["税务局同步", ""] = check("税务局同步", "command", 41, "count", "同步正常，积压 41 条", trend=wave(40, 5))
    alerts = (
        AlertView("7f31", "invoice disk", "invoice disk", "/srv/invoices", "critical", "firing", ago(minutes=47),
                  "96.8 % used, above 95 % (3.1 GiB free)", runbook="disk-full", notified_at=ago(minutes=46)),
        AlertView("8a02", "invoice service", "invoice service", "", "critical", "firing", ago(minutes=12),
                  "GET http://127.0.0.1:8080/health: no answer within 10 s",
                  runbook="https://wiki.example.com/invoice",
                  suppressed_by=("silence 3",)),
        AlertView("backup-documents", "drill documents", "drill documents", "documents", "critical", "firing",
            ago(hours=2),
                  failed.message, acknowledged_by="weber", notified_at=ago(hours=2)),
        AlertView("9b14", "load", "load", "", "warning", "pending", ago(minutes=3), "2.31 per core, above 2"),
        AlertView("e0e0", EVIL, EVIL, "it's $(rm -rf /)", "warning", "recovering", ago(minutes=30), EVIL,
                  runbook="javascript:alert(1)", notified_at=ago(minutes=29)),
        *good.alerts,
    )
    return replace(
        good, checks=tuple(checks.values()), alerts=alerts,
        jobs=(
            replace(documents, last_drill=failed, last_run=failed_run(failed), duties=duties("documents",
                drill_hours=26)),
            replace(machine, running=running), chinese, long,
        ),
        drills=(unclear, failed, *good.drills), runs=(running, partial, interrupted, *good.runs),
        snapshots=(snapshot(5, LONG, 4.2, partial=True), *good.snapshots),
        repositories=(
            *good.repositories,
            RepositoryView("offsite", "s3:https://s3.example.com/erp-backups/erp-1", 0, None, None, None,
                           problem="opening s3.example.com: connection timed out after 30 s"),
        ),
        silences=((3, "check=invoice service", "weber", "deploying 4.2", NOW + timedelta(minutes=48)),),
        config_reload_ok=False, config_problem="keepwatch.toml:41: checks[3].every: not a duration (got 'soon').",
        outbox_pending=4, outbox_oldest_at=ago(minutes=26), suppressed=(("silence 3", 1), ("acknowledgement", 1)),
    )


def failed_run(report: PastDrill) -> RunView:
    return RunView(96, report.job, "drill", report.repository, "failed", report.started_at, report.ended_at,
        report.message)


def first_second() -> View:
    """A daemon that has just started: checks are known, none has run; a job is set up, nothing is saved yet."""
    waiting = tuple(
        replace(c, status=Status.UNKNOWN, message="did not run yet", checked_at=None, readings=(), trend=(), runs=0)
        for c in HEALTHY_CHECKS[:6]
    )
    duty = DutyView("incremental", "local", "every 1h", NOW, None, None, 7200)
    proof = DutyView("drill", "local", "daily 04:30", None, None, None, 2 * 86_400)
    job = JobView("documents", "/srv/invoices", ("local",), NOW, 7200, 1800, (duty, proof), None, None, None, None,
        None)
    repository = RepositoryView("local", "/srv/keepwatch/repository", 0, None, None, None, configured_at=NOW)
    return View("erp-1", "0.1.0", NOW, NOW, "Europe/Berlin", checks=waiting, jobs=(job,), repositories=(repository,))


def nothing_set_up() -> View:
    """No checks, no jobs, no repositories."""
    return View("erp-1", "0.1.0", NOW, NOW, "no/such zone")
