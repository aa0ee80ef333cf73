"""Did the operator's own job report in time? From what it reported and when it was to run, as a function of values."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.said import Said
from config.units import format_duration
from monitor.inbox import Heartbeat
from monitor.result import Finding, Measurement, Reading, Status


@dataclass(frozen=True, slots=True)
class Expectation:
    """When a job is to report. ``next_after`` returns the moment after a given one at which it has to begin."""

    next_after: Callable[[datetime], datetime]
    grace: timedelta
    run_limit: timedelta | None


class HeartbeatProbe:
    """Looks up what ``read`` returns and holds it against the expectation."""

    def __init__(
        self, read: Callable[[datetime], Heartbeat], expectation: Expectation, clock: Callable[[], datetime]
    ) -> None:
        self._read = read
        self._expectation = expectation
        self._clock = clock

    def measure(self) -> Measurement:
        """Return ``age``, ``late``, ``run_time`` and ``exit_code``; CRITICAL when late, too long at it, or failed."""
        now = self._clock()
        return held_against(self._read(now), self._expectation, now)


def held_against(job: Heartbeat, expected: Expectation, now: datetime) -> Measurement:
    """Measure one job at ``now``."""
    running_since = job.started_at if job.started_at and (not job.ended_at or job.started_at > job.ended_at) else None
    # A job that says when it begins is late by its beginning; for another one, an end is the only sign.
    last_sign = job.started_at or job.ended_at or job.first_expected_at
    late = max(timedelta(0), now - expected.next_after(last_sign))
    readings = [
        Reading("age", (now - (job.succeeded_at or job.first_expected_at)).total_seconds(), "seconds"),
        Reading("late", late.total_seconds(), "seconds"),
    ]
    run_seconds = (now - running_since).total_seconds() if running_since else job.run_seconds
    if run_seconds is not None:
        readings.append(Reading("run_time", run_seconds, "seconds"))
    if job.ended_at:
        readings.append(Reading("exit_code", job.exit_code, "count"))
    return Measurement(readings, _finding(job, expected, running_since, late, now))


def _finding(
    job: Heartbeat, expected: Expectation, running_since: datetime | None, late: timedelta, now: datetime
) -> Finding:
    said = f": {job.log.strip().splitlines()[-1]}" if job.log.strip() else ""
    if running_since and expected.run_limit and now - running_since > expected.run_limit:
        took, limit = format_duration(now - running_since), format_duration(expected.run_limit)
        message = Said("has been running for %(took)s, and may take %(limit)s", took=took, limit=limit)
        return Finding(Status.CRITICAL, message)
    if late > expected.grace:
        last = Said("it never reported")
        if job.ended_at:
            last = Said("the last report was %(time)s ago", time=format_duration(now - job.ended_at))
        return Finding(Status.CRITICAL, Said("is %(time)s late: %(last)s", time=format_duration(late), last=last))
    if job.exit_code:
        return Finding(Status.CRITICAL, Said("failed with exit code %(code)s%(said)s", code=job.exit_code, said=said))
    if running_since:
        return Finding(Status.OK, Said("has been running for %(time)s", time=format_duration(now - running_since)))
    if job.succeeded_at:
        return Finding(Status.OK, Said("succeeded %(time)s ago", time=format_duration(now - job.succeeded_at)))
    return Finding(Status.OK, Said("waits for its first report"))
