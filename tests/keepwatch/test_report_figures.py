"""The figures of a report: measured against promised, and what nobody measured is not known."""

from datetime import UTC, datetime, timedelta

import pytest

from backup.catalog import RunRow
from backup.past_drills import PastDrill
from keepwatch.report.drawing import HEIGHT, WIDTH, bars, chart, per_slice, thinned
from keepwatch.report.figures import Period, availability, growth, loss, of_alerts, of_job
from monitor.episodes import Episode, Span
from monitor.result import Status

UNTIL = datetime(2026, 3, 8, tzinfo=UTC)
WEEK = Period("week", UNTIL - timedelta(days=7), UNTIL)


def hour(n: float) -> datetime:
    """Hours since the period began."""
    return WEEK.since + timedelta(hours=n)


def run(
    started: float, outcome: str = "succeeded", *, repository: str = "local", kind: str = "incremental",
    data: float | None = None, **figures: float,
) -> RunRow:  # fmt: skip
    """One that took six minutes."""
    end = hour(started) + timedelta(minutes=6)
    data_at = hour(data) if data is not None else None
    return RunRow(1, kind, "ledger", repository, hour(started), end, outcome, "", None, "", figures, data_at)


def drill(ended: float, rto: float | None, verdict: str = "PASSED", job: str = "ledger") -> PastDrill:
    return PastDrill(1, job, "local", "", "restore", verdict, hour(ended), hour(ended), rto, 1.0, 1, 1, "")


def episode(*spans: tuple[Status, float, float | None], check: str = "disk", taken: float | None = None) -> Episode:
    made = tuple(Span(s, hour(b), hour(e) if e is not None else None) for s, b, e in spans)
    return Episode("a", check, check, "/", made, "full", hour(taken) if taken is not None else None, "anna")


def test_the_loss_is_largest_just_before_a_run_ends_and_counts_from_the_start_of_the_one_before() -> None:
    found = loss([run(-1), *(run(n) for n in range(168))], WEEK, 7200)
    assert found.worst_seconds == pytest.approx(3600 + 360)
    assert found.kept_ratio == pytest.approx(1.0)


def test_an_outage_counts_even_where_no_run_failed_at_its_end() -> None:
    found = loss([run(-1), *(run(n) for n in range(100))], WEEK, 7200)
    assert found.worst_seconds == 69 * 3600
    assert found.kept_ratio == pytest.approx(1 - 67 / 168)


def test_a_failed_run_saves_nothing_and_another_repository_does() -> None:
    failed = [run(-1), run(10, "failed"), run(20)]
    assert loss(failed, WEEK, None).worst_seconds == pytest.approx((168 - 20) * 3600)
    assert loss([run(-1), run(100, repository="offsite")], WEEK, None).worst_seconds == pytest.approx(101.1 * 3600)


def test_a_copied_snapshot_is_as_old_as_its_data() -> None:
    assert loss([run(-1), run(167, data=150)], WEEK, None).worst_seconds == pytest.approx(168.1 * 3600)


def test_before_the_first_backup_nothing_is_known_and_time_counts_from_there() -> None:
    assert loss([], WEEK, 60).worst_seconds is None
    assert loss([], WEEK, 60).kept_ratio is None
    young = loss([run(166), run(167)], WEEK, 7200)
    assert (young.worst_seconds, young.kept_ratio) == (pytest.approx(3960), pytest.approx(1.0))


def test_a_job_is_judged_by_its_worst_and_not_at_all_where_nothing_is_promised_or_measured() -> None:
    runs = [run(n) for n in range(-1, 168)]
    kept = of_job("ledger", 7200, 600, runs, [drill(5, 300), drill(6, 590)], WEEK)
    assert (kept.kept, kept.rto_worst_seconds, kept.drills) == (True, 590, {"PASSED": 2})
    assert of_job("ledger", 7200, 500, runs, [drill(5, 300), drill(6, 590)], WEEK).kept is False
    assert of_job("ledger", 3600, 600, runs, [], WEEK).kept is False
    assert of_job("ledger", None, 600, runs, [], WEEK).kept is None
    assert of_job("ledger", 7200, None, runs, [drill(5, None, "FAILED")], WEEK).kept is False, "nothing came back"
    other = of_job("documents", 7200, 600, runs, [drill(5, 300)], WEEK)
    assert (other.kept, dict(other.outcomes), dict(other.drills)) == (None, {}, {})


def test_alerts_count_where_they_fired_and_half_of_them_took_no_longer_than_the_median() -> None:
    found = of_alerts([
        episode((Status.CRITICAL, 1, 2), taken=1.25), episode((Status.WARNING, 5, 8)),
        episode((Status.WARNING, 160, None)), episode((Status.WARNING, -5, 1)),
    ], WEEK)  # fmt: skip
    assert (len(found.episodes), found.count(Status.CRITICAL), found.count(Status.WARNING)) == (3, 1, 2)
    assert (found.to_acknowledge_seconds, found.to_resolve_seconds) == (900, 7200)
    assert (found.longest_seconds, found.acknowledged) == (8 * 3600, 1)


def test_availability_is_the_share_of_the_period_without_an_alert_and_what_never_fired_has_all_of_it() -> None:
    spans = ((Status.WARNING, -10, 0), (Status.CRITICAL, 0, 16.8), (Status.WARNING, 16.8, 33.6))
    worst, best = availability([("cpu", "")], [episode(*spans)], WEEK)
    assert (worst.check, worst.not_critical_ratio, worst.in_order_ratio) == (
        "disk", pytest.approx(0.9), pytest.approx(0.8),
    )  # fmt: skip
    assert (best.check, best.in_order_ratio) == ("cpu", 1.0)


def test_growth_is_what_was_stored_less_what_was_given_back() -> None:
    elsewhere = run(2, repository="offsite", bytes_stored=7)
    runs = [run(1, bytes_stored=100), elsewhere, run(3, kind="prune", bytes_freed=40)]
    assert [value for _, value in growth(runs, "local", WEEK)] == [0, 100, 60, 60]


def test_a_chart_spans_the_period_and_holds_its_promise() -> None:
    drawn = chart([(hour(0), 10.0), (hour(168), 40.0)], WEEK.since, WEEK.until, promise=20.0)
    first, last = ([float(n) for n in point.split(",")] for point in drawn.line.split())
    assert first[0] < 5
    assert last[0] > WIDTH - 5
    assert first[1] > last[1], "more is higher"
    assert drawn.promise_y is not None
    assert last[1] < drawn.promise_y < first[1] < HEIGHT
    assert [bad for _, _, bad in drawn.dots] == [False, True]
    assert chart([], WEEK.since, WEEK.until).line == ""


def test_a_chart_of_something_that_shrank_stays_within_its_height() -> None:
    drawn = chart([(hour(1), 0.0), (hour(2), -50.0)], WEEK.since, WEEK.until, steps=True)
    assert all(0 <= float(point.split(",")[1]) <= HEIGHT for point in drawn.line.split())


def test_thinning_keeps_the_ends_and_the_extremes() -> None:
    points = [(hour(n / 10), float(n == 777) - float(n == 333)) for n in range(1680)]
    kept = thinned(points)
    assert len(kept) < 300
    assert {points[0], points[-1], points[777], points[333]} <= set(kept)


def test_slices_count_every_moment_once_and_bars_stand_on_the_floor() -> None:
    counts = per_slice([hour(0), hour(1), hour(167.9), hour(168)], WEEK.since, WEEK.until, 7)
    assert counts == [2, 0, 0, 0, 0, 0, 2]
    assert all(y + height == pytest.approx(HEIGHT, abs=0.11) for _, y, _, height in bars(counts))
