"""The demo office: its settings are good, its faults are seen by the checks that should see them, and it shuts."""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from config.loading import load
from config.plan_files import read_plans
from config.settings import Settings
from keepwatch.cli.app import run
from keepwatch.plans.checking import findings

DEMO = Path(__file__).resolve().parents[2] / "deploy/demo"


def free_ports() -> int:
    """The first of four neighbouring ports that are free now."""
    start = 20_000 + os.getpid() % 1000 * 8  # so that two runs side by side do not meet
    for first in range(start, 30_000, 4):
        probes = [socket.socket() for _ in range(4)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        else:
            return first
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no four free ports")


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An office that is not open yet."""
    monkeypatch.syspath_prepend(str(DEMO))
    module = importlib.import_module("office")
    made = module.Office(tmp_path, free_ports())
    yield made
    made.close()


def settings_of(office: Any) -> Settings:
    return load(office.write_settings(), environ={})


def plugin(office: Any, what: str) -> tuple[int, str]:
    command = [sys.executable, str(DEMO / "check_office.py"), what, str(office.office)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout


def test_its_settings_are_good_and_its_password_is_made_once_and_kept_private(office: Any) -> None:
    settings = settings_of(office)
    password = settings.repositories["local"].password_file
    assert password is not None
    first = password.read_text(encoding="utf-8")
    assert (password.stat().st_mode & 0o777, len(first) > 20) == (0o600, True)
    settings_of(office)
    assert password.read_text(encoding="utf-8") == first


def test_each_plan_of_the_office_names_jobs_and_checks_that_are_there(office: Any) -> None:
    settings = settings_of(office)
    assert settings.plans.folder is not None
    book = read_plans(settings.plans.folder)
    found = findings(book, settings, {}, datetime.now(UTC))
    assert {finding.message for finding in found} == {"was never exercised"}


def test_each_fault_is_for_a_check_that_is_there_and_happens_once_a_cycle(office: Any) -> None:
    checks = {check.name for check in settings_of(office).checks}
    faults = office._faults()
    assert {fault.check for fault in faults} <= checks
    assert min(fault.begins for fault in faults) < 30, "the page is worth looking at within a minute"
    for fault in faults:
        assert [fault.is_on(t) for t in (fault.begins - 1, fault.begins, fault.ends - 1, fault.ends)] == [0, 1, 1, 0]
        assert fault.is_on(300 + fault.begins)


def test_a_document_that_vanishes_is_missed_by_name(office: Any) -> None:
    office.books.fill(30, datetime.now(UTC))
    assert plugin(office, "documents")[0] == 0
    fault = next(f for f in office._faults() if f.check == "documents complete")
    fault.begin()
    status, line = plugin(office, "documents")
    assert (status, "INV-000011" in line) == (2, True)
    fault.end()
    fault.end()
    assert plugin(office, "documents")[0] == 0


def test_a_document_with_other_permissions_is_seen_once_it_has_settled(office: Any) -> None:
    office.books.fill(40, datetime.now(UTC))
    plugins = importlib.import_module("check_office")
    fault = next(f for f in office._faults() if f.check == "document permissions")
    fault.begin()
    assert plugins.permissions(office.books)[0] == 0
    plugins._SETTLED_SECONDS = -1
    status, text, _ = plugins.permissions(office.books)
    assert (status, "INV-000011.xml has 0000" in text) == (1, True)
    fault.end()
    assert plugins.permissions(office.books)[0] == 0


def test_a_stuffed_in_tray_is_seen_and_the_importer_leaves_what_is_too_large(office: Any) -> None:
    importer = importlib.import_module("importer")
    fault = next(f for f in office._faults() if f.check == "in-tray quota")
    fault.begin()
    (office.in_tray / "small.scan").write_bytes(b"x")
    importer.file_scans(office.office)
    assert (office.books.archive / "scans/small.scan").exists()
    assert plugin(office, "quota")[0] == 1
    fault.end()
    assert plugin(office, "quota")[0] == 0


def test_a_sync_that_stalls_leaves_invoices_waiting_and_one_that_recovers_sends_them_all(office: Any) -> None:
    office.gateway.service.open()
    office.books.issue(datetime.now(UTC))
    office._sync()
    assert plugin(office, "sync")[1].startswith("SYNC OK")
    office.gateway.stalled.set()
    office.books.issue(datetime.now(UTC))
    office._sync()
    assert office.books.standing()[1] == 1
    office.gateway.stalled.clear()
    office._sync()
    assert office.books.standing()[1] == 0


def test_a_sync_that_never_was_is_unknown(office: Any) -> None:
    assert plugin(office, "sync")[0] == 3


def test_the_ledger_comes_back_as_books_that_answer_and_lost_rows_are_found(office: Any) -> None:
    office.books.fill(400, datetime.now(UTC))
    office.books.issue(datetime.now(UTC))
    where = ["--config", str(office.write_settings())]
    assert run(["backup", "ledger", "--quiet", *where]) == 0
    assert run(["drill", "ledger", "--quiet", *where]) == 0
    assert run(["drill", "ledger", "--quiet", "--plant", "fewer-rows", *where]) == 0
    with office.books.open() as ledger:
        ledger.execute("delete from invoice where number > 'INV-000300'")
    assert run(["backup", "ledger", "--quiet", *where]) == 0
    assert run(["drill", "ledger", "--quiet", *where]) == 4, "they came back, and are not what the office had"


def test_the_portal_closes_and_opens_and_the_gateway_falls_ill_and_recovers(office: Any) -> None:
    office.portal.service.open()
    office.gateway.service.open()
    address = ("127.0.0.1", office.portal_port)
    socket.create_connection(address, 2).close()
    office.portal.service.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 2)
    office.portal.service.open()
    socket.create_connection(address, 2).close()
    office.gateway.ill.set()
    with pytest.raises(urllib.error.HTTPError, match="500") as error:
        urllib.request.urlopen(f"{office.gateway.url}/health", timeout=5)
    error.value.close()
    office.gateway.ill.clear()
    with urllib.request.urlopen(f"{office.gateway.url}/health", timeout=5) as answer:
        assert answer.read() == b"ready"


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise does without
def test_the_desk_shows_what_apprise_delivers(office: Any) -> None:
    import apprise  # it takes a second, and only this test pays

    office.desk.service.open()
    messenger = apprise.Apprise()
    messenger.add(settings_of(office).notify[0].url.get_secret_value())
    assert messenger.notify(title="the <importer> is gone", body="no process", notify_type="failure")
    with urllib.request.urlopen(f"{office.desk.url}/inbox.json", timeout=5) as answer:
        (message,) = json.load(answer)
    assert (message["kind"], message["title"]) == ("failure", "the <importer> is gone")
    with urllib.request.urlopen(office.desk.url, timeout=5) as answer:
        assert "the &lt;importer&gt; is gone" in answer.read().decode()


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_a_whole_cycle_of_the_demo_is_seen_told_backed_up_and_drilled(tmp_path: Path) -> None:
    """Every fault turns its check bad and is put right; backups and drills go on; Ctrl-C leaves nothing behind."""
    port = free_ports()
    command = [sys.executable, str(DEMO / "office.py"), "--directory", str(tmp_path), "--port", str(port)]
    office = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        bad, recovered, page = watch_demo(port, seconds=330)
    finally:
        office.send_signal(signal.SIGINT)
        output, _ = office.communicate(timeout=90)
    log = (tmp_path / "keepwatch.log").read_text(encoding="utf-8")
    expected = {
        "tax authority sync", "documents complete", "customer portal", "tax gateway", "importer",
        "document permissions", "in-tray quota",
    }  # fmt: skip
    assert office.returncode == 0, output.decode() + log
    assert (expected - bad, expected - recovered) == (set(), set())
    assert page['keepwatch_drill_runs_total{job="invoices"}'] >= 2
    assert page['keepwatch_drill_failures_total{job="invoices"}'] == 0
    assert page['keepwatch_backup_runs_total{job="invoices"}'] >= 5
    assert page['keepwatch_backup_failures_total{job="invoices"}'] == 0
    for plan in ("database-lost", "disk-failure", "fire", "ransomware"):
        assert page[f'keepwatch_plan_findings{{plan="{plan}"}}'] == 0, output.decode()
        assert page[f'keepwatch_plan_exercise_rto_seconds{{plan="{plan}"}}'] > 0
    assert page['keepwatch_notifications_total{channel="desk"}'] >= len(expected)
    assert "Traceback" not in log
    assert [p for p in psutil.process_iter() if str(tmp_path) in " ".join(cmdline(p))] == []


def watch_demo(port: int, seconds: float) -> tuple[set[str], set[str], dict[str, float]]:
    """Checks that went bad, those of them that recovered, and the last /metrics."""
    bad: set[str] = set()
    recovered: set[str] = set()
    page: dict[str, float] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(1)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            continue
        page = {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}
        for name, value in page.items():
            if match := re.match(r'keepwatch_check_status\{check="([^"]+)"', name):
                if value in (1, 2):
                    bad.add(match[1])
                elif value == 0 and match[1] in bad:
                    recovered.add(match[1])
    return bad, recovered, page


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
