"""/metrics: complete, clean to promtool, cached, bounded, and whole even when a part of it breaks."""

import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keepwatch.metric_families import COLLECTORS, gauge, suppressor_kind
from keepwatch.metrics import MetricsPage
from keepwatch.view import DutyView, View
from monitor.result import Reading, Status
from monitor.suppress import Kind
from tests.keepwatch import web_samples as samples

ALWAYS = [
    "keepwatch_build_info",
    "keepwatch_config_last_reload_successful",
    "keepwatch_config_last_reload_success_timestamp_seconds",
    "keepwatch_view_timestamp_seconds",
    "keepwatch_check_status",
    "keepwatch_check_value",
    "keepwatch_check_last_run_timestamp_seconds",
    "keepwatch_check_duration_seconds",
    "keepwatch_check_runs_total",
    "keepwatch_check_failures_total",
    "keepwatch_alert_firing",
    "keepwatch_alerts_suppressed",
    "keepwatch_notifications_total",
    "keepwatch_notifications_failed_total",
    "keepwatch_outbox_pending",
    "keepwatch_scheduler_lag_seconds",
    "keepwatch_check_start_lag_seconds_bucket",
    "keepwatch_heartbeat_last_success_timestamp_seconds",
    "keepwatch_backup_last_success_timestamp_seconds",
    "keepwatch_backup_last_attempt_timestamp_seconds",
    "keepwatch_backup_configured_timestamp_seconds",
    "keepwatch_backup_max_age_seconds",
    "keepwatch_backup_runs_total",
    "keepwatch_backup_failures_total",
    "keepwatch_backup_partial_total",
    "keepwatch_backup_duration_seconds",
    "keepwatch_backup_files",
    "keepwatch_backup_bytes_processed",
    "keepwatch_backup_bytes_added",
    "keepwatch_backup_bytes_stored",
    "keepwatch_backup_newest_snapshot_timestamp_seconds",
    "keepwatch_repository_snapshots",
    "keepwatch_repository_size_bytes",
    "keepwatch_repository_free_bytes",
    "keepwatch_repository_problem",
    "keepwatch_drill_last_success_timestamp_seconds",
    "keepwatch_drill_last_attempt_timestamp_seconds",
    "keepwatch_drill_configured_timestamp_seconds",
    "keepwatch_drill_max_age_seconds",
    "keepwatch_drill_runs_total",
    "keepwatch_drill_failures_total",
    "keepwatch_drill_inconclusive_total",
    "keepwatch_drill_rto_seconds",
    "keepwatch_rto_objective_seconds",
    "keepwatch_drill_rpo_seconds",
    "keepwatch_rpo_objective_seconds",
    "keepwatch_verify_last_success_timestamp_seconds",
    "keepwatch_verify_last_attempt_timestamp_seconds",
    "keepwatch_verify_configured_timestamp_seconds",
    "keepwatch_verify_max_age_seconds",
    "keepwatch_verify_runs_total",
    "keepwatch_verify_failures_total",
    "keepwatch_collector_success",
    "keepwatch_collector_duration_seconds",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "python_info",
    "python_gc_collections_total",
]


def page(view: View) -> str:
    return MetricsPage(lambda: view).render().decode()


def series(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels; fails on two samples with the same identity."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float | None:
    return series(text).get((name, frozenset(labels.items())))


def promtool(text: str) -> tuple[int, str]:
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALWAYS)
def test_the_series_is_exported(name: str) -> None:
    assert name in {found for found, _ in series(page(samples.healthy()))}


def test_what_is_owed_to_channels_has_its_moment_while_something_is_owed() -> None:
    text = page(samples.bad_day())
    assert value(text, "keepwatch_outbox_pending") == 4
    assert value(text, "keepwatch_outbox_oldest_timestamp_seconds") == samples.ago(minutes=26).timestamp()
    assert value(page(samples.healthy()), "keepwatch_outbox_oldest_timestamp_seconds") is None


@pytest.mark.parametrize("make", [samples.healthy, samples.bad_day, samples.first_second, samples.nothing_set_up])
def test_promtool_finds_nothing_to_say(make: Callable[[], View]) -> None:
    assert promtool(page(make())) == (0, "")


def test_promtool_would_find_a_gauge_that_is_named_like_a_counter() -> None:
    code, said = promtool(
        "# HELP keepwatch_wrong_total Wrong.\n# TYPE keepwatch_wrong_total gauge\nkeepwatch_wrong_total 1\n"
    )
    assert code != 0
    assert "keepwatch_wrong_total" in said


@pytest.mark.parametrize("make", [samples.healthy, samples.bad_day, samples.first_second])
def test_no_series_has_a_type_label_or_a_timestamp_of_its_own(make: Callable[[], View]) -> None:
    for line in page(make()).splitlines():
        if not line.startswith("#"):
            assert re.fullmatch(r"[a-z_]+(\{.*\})? [^ ]+", line), line
            assert 'type="' not in line


def test_totals_are_counters_and_counters_are_totals() -> None:
    for family in text_string_to_metric_families(page(samples.bad_day())):
        if family.name.startswith("keepwatch_") and family.samples:
            assert (family.type == "counter") == all(s.name.endswith("_total") for s in family.samples), family.name


def test_counters_only_grow_from_one_view_to_the_next() -> None:
    before = samples.healthy()

    def busier(duty: DutyView) -> DutyView:
        return replace(
            duty,
            runs=duty.runs + 2,
            failures=duty.failures + 1,
            partial=duty.partial + 1,
            inconclusive=duty.inconclusive + 1,
        )

    after = replace(
        before,
        checks=tuple(replace(c, runs=c.runs + 1, failures=c.failures + 1) for c in before.checks),
        jobs=tuple(replace(j, duties=tuple(busier(d) for d in j.duties)) for j in before.jobs),
        repositories=tuple(replace(r, duties=tuple(busier(d) for d in r.duties)) for r in before.repositories),
        notifications=tuple((name, sent + 1, failed + 1) for name, sent, failed in before.notifications),
    )
    old, new = series(page(before)), series(page(after))
    counters = [key for key in old if key[0].startswith("keepwatch_") and key[0].endswith("_total")]
    assert len(counters) > 40
    assert [key for key in counters if new[key] <= old[key]] == []


def test_the_moment_of_a_counter_s_creation_is_not_exported() -> None:
    assert "_created" not in page(samples.healthy())


def broken(view: View) -> Iterator[str]:
    yield gauge("keepwatch_half", "Half.", (), [((), 1)])
    raise RuntimeError("planted")


def test_one_raising_collector_costs_its_own_families_only(caplog: pytest.LogCaptureFixture) -> None:
    metrics = MetricsPage(samples.healthy, [*COLLECTORS, ("broken", broken)])
    text = metrics.render().decode()
    assert value(text, "keepwatch_collector_success", collector="broken") == 0
    assert value(text, "keepwatch_collector_success", collector="checks") == 1
    assert value(text, "keepwatch_check_status", check="cpu", entity="") == 0
    assert "keepwatch_half" not in text
    assert promtool(text) == (0, "")
    assert "planted" in caplog.text


def test_a_collector_that_goes_on_raising_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    metrics = MetricsPage(samples.healthy, [("broken", broken)])
    for _ in range(3):
        metrics.render()
    assert caplog.text.count("metrics collector failed") == 1


def test_each_collector_tells_how_long_it_took() -> None:
    took = {
        labels: v
        for (name, labels), v in series(page(samples.healthy())).items()
        if name.endswith("collector_duration_seconds")
    }
    assert len(took) == len(COLLECTORS) + 3
    assert all(0 <= seconds < 5 for seconds in took.values())


def test_the_page_is_rendered_once_for_each_view() -> None:
    rendered: list[View] = []

    def count(view: View) -> Iterator[str]:
        rendered.append(view)
        yield gauge("keepwatch_counted", "Counted.", (), [((), len(rendered))])

    views = [samples.healthy()]
    metrics = MetricsPage(lambda: views[-1], [("count", count)])
    first = metrics.render()
    assert metrics.render() is first
    views.append(samples.bad_day())
    assert b"keepwatch_counted 2\n" in metrics.render()
    assert rendered == views


def test_a_backup_is_as_fresh_as_its_latest_full_or_incremental_in_each_repository() -> None:
    text = page(samples.bad_day())
    fresh = "keepwatch_backup_last_success_timestamp_seconds"
    assert value(text, fresh, job="documents", repository="local") == samples.ago(hours=0.3).timestamp()
    assert value(text, fresh, job=samples.LONG, repository="local") == samples.ago(hours=5.2).timestamp()
    assert value(text, fresh, job=samples.LONG, repository="offsite") is None
    assert (
        value(text, "keepwatch_backup_configured_timestamp_seconds", job=samples.LONG, repository="offsite") is not None
    )
    assert value(text, "keepwatch_backup_max_age_seconds", job="documents", repository="local") == 7200


def test_day_one_has_a_configured_moment_and_no_success() -> None:
    text = page(samples.first_second())
    assert value(text, "keepwatch_drill_last_success_timestamp_seconds", job="documents") is None
    assert value(text, "keepwatch_drill_configured_timestamp_seconds", job="documents") == samples.NOW.timestamp()
    assert value(text, "keepwatch_drill_max_age_seconds", job="documents") == 2 * 86_400


def test_known_counters_start_at_zero() -> None:
    text = page(samples.first_second())
    for name in (
        "backup_runs",
        "backup_failures",
        "backup_partial",
        "drill_runs",
        "drill_failures",
        "drill_inconclusive",
    ):
        assert value(text, f"keepwatch_{name}_total", job="documents") == 0
    assert value(text, "keepwatch_check_runs_total", check="cpu", entity="") == 0
    for kind in Kind:
        assert value(text, "keepwatch_alerts_suppressed", reason=kind.value) == 0


def test_a_check_that_never_ran_has_no_moment_and_no_value() -> None:
    text = page(samples.first_second())
    assert value(text, "keepwatch_check_last_run_timestamp_seconds", check="cpu", entity="") is None
    assert value(text, "keepwatch_check_status", check="cpu", entity="") == Status.UNKNOWN


def test_an_alert_is_one_while_it_fires_silenced_or_recovering_and_zero_before_and_after() -> None:
    text = page(samples.bad_day())
    firing = {
        dict(labels)["alertname"]: v for (name, labels), v in series(text).items() if name == "keepwatch_alert_firing"
    }
    assert firing["invoice disk"] == firing["invoice service"] == firing[samples.EVIL] == 1
    assert firing["load"] == 0


@pytest.mark.parametrize(
    ("reason", "label"),
    [("silence 3", "silence"), ("load_window", "load_window"), ("Silence 17 by ann", "silence"), ("3", "other")],
)
def test_the_reason_label_drops_what_has_no_bound(reason: str, label: str) -> None:
    assert suppressor_kind(reason) == label


def test_attempts_to_notify_are_messages_sent_and_failures() -> None:
    text = page(samples.healthy())
    assert value(text, "keepwatch_notifications_total", channel="ops") == 13
    assert value(text, "keepwatch_notifications_failed_total", channel="ops") == 1


def test_a_device_that_vanished_vanishes() -> None:
    views = [samples.healthy()]
    metrics = MetricsPage(lambda: views[-1])
    assert b'entity="sda"' in metrics.render()
    views.append(replace(views[0], checks=tuple(c for c in views[0].checks if c.entity != "sda")))
    assert b'entity="sda"' not in metrics.render()


def test_two_alerts_of_one_identity_are_one_series_and_the_firing_one_wins() -> None:
    good = samples.bad_day()
    twice = replace(good, alerts=(good.alerts[0], replace(good.alerts[0], id="other", state="resolved")))
    assert (
        value(
            page(twice), "keepwatch_alert_firing", alertname="invoice disk", severity="critical", entity="/srv/invoices"
        )
        == 1
    )


def test_a_name_that_is_no_unicode_does_not_break_the_page() -> None:
    good = samples.healthy()
    odd = replace(good.checks[0], entity='caf\udce9\n"quoted"\\', readings=(Reading("used", float("nan"), "ratio"),))
    text = page(replace(good, checks=(odd,)))
    assert promtool(text) == (0, "")
    assert value(text, "keepwatch_check_status", check="cpu", entity='caf?\n"quoted"\\') == 0


def test_the_figures_of_the_last_backup_and_drill_are_told() -> None:
    text = page(samples.healthy())
    assert value(text, "keepwatch_backup_files", job="documents", state="changed") == 12
    assert value(text, "keepwatch_backup_duration_seconds", job="documents") == pytest.approx(4.2)
    assert value(text, "keepwatch_drill_rto_seconds", job="machine") == 3.4
    assert value(text, "keepwatch_rto_objective_seconds", job="machine") == 600


def test_what_a_storage_behind_a_network_was_asked_is_told() -> None:
    good = samples.healthy()
    job = next(job for job in good.jobs if job.name == "documents")
    assert job.last_backup is not None
    asked = {"requests_put": 40.0, "request_errors_put": 3.0, "request_retries_put": 3.0, "request_bytes_put": 1e9}
    remote = replace(job, last_backup=replace(job.last_backup, figures=job.last_backup.figures | asked))
    text = page(replace(good, jobs=(remote,)))
    assert promtool(text) == (0, "")
    assert value(text, "keepwatch_backup_requests", job="documents", operation="put") == 40
    assert value(text, "keepwatch_backup_request_errors", job="documents", operation="put") == 3
    assert value(text, "keepwatch_backup_request_bytes", job="documents", operation="put") == 1e9
    assert 'operation="get"' not in text


def test_renewing_object_locks_has_its_series() -> None:
    good = samples.healthy()
    repository = next(r for r in good.repositories if any(d.kind == "verify" for d in r.duties))
    verify = next(duty for duty in repository.duties if duty.kind == "verify")
    text = page(replace(good, repositories=(replace(repository, duties=(replace(verify, kind="extend", runs=7),)),)))
    assert value(text, "keepwatch_extend_runs_total", repository=repository.name) == 7
    assert "keepwatch_extend_max_age_seconds{" in text


def test_five_hundred_series_are_rendered_in_milliseconds(record_property: Callable[[str, object], None]) -> None:
    good = samples.healthy()
    many = tuple(replace(good.checks[i % 3], check=f"check {i}") for i in range(66))
    views = [replace(good, checks=many, made_at=good.made_at + timedelta(seconds=i)) for i in range(25)]
    metrics = MetricsPage(lambda: views[0])
    assert len(series(metrics.render().decode())) >= 500
    took = []
    while len(views) > 1:
        views.pop(0)
        started = time.perf_counter()
        metrics.render()
        took.append(time.perf_counter() - started)
    record_property("median_render_seconds", statistics.median(took))
    assert statistics.median(took) < 0.1, "some 10 ms are normal; this bound only catches another order of growth"
