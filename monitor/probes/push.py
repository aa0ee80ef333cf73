"""Readings that somebody else has measured and pushed: passed on as long as they are fresh."""

from collections.abc import Callable
from datetime import datetime, timedelta

from config.said import Said
from config.units import format_duration
from monitor.inbox import Pushed
from monitor.result import Finding, Measurement, ProbeError, Status


class PushProbe:
    """Passes on what ``read`` returns, for ``max_age``."""

    def __init__(self, read: Callable[[], Pushed | None], max_age: timedelta, clock: Callable[[], datetime]) -> None:
        self._read = read
        self._max_age = max_age
        self._clock = clock

    def measure(self) -> Measurement:
        """Return the readings with their sender's verdict. Raises ProbeError when they are too old or never came."""
        pushed = self._read()
        if pushed is None:
            raise ProbeError("nothing was pushed yet", hint="see that the sender has the right address and token")
        age = self._clock() - pushed.at
        if age > self._max_age:
            raise ProbeError(f"nothing was pushed for {format_duration(age)}", hint="see whether the sender still runs")
        message = Said("the sender says %(status)s", status=Said(pushed.status.label))
        said = Finding(pushed.status, pushed.message or message)
        speaks = pushed.message or pushed.status is not Status.OK
        return Measurement(pushed.readings, said if speaks else None)
