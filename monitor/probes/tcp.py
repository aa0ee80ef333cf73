"""Does something accept TCP connections there, how fast, and does it say what it should?"""

import re
import time

from config.said import Said
from monitor.probes.address import Unreachable
from monitor.probes.conversation import MOST_BYTES, Conversation, shown
from monitor.result import Finding, Measurement, Reading, Status


class TcpProbe:
    """Connects and hangs up without a word, unless something is to be sent or expected."""

    def __init__(
        self, host: str, port: int, timeout_seconds: float, *, send: bytes = b"", expect: str | None = None
    ) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._send = send
        self._expect = re.compile(expect.encode()) if expect else None

    def measure(self) -> Measurement:
        """Return ``connect_time`` in seconds, the look-up of the name left out, and ``response_time`` where there was
        something to say; CRITICAL when nobody accepts or the answer is another one.
        """
        try:
            with Conversation(self._host, self._port, time.monotonic() + self._timeout_seconds) as talk:
                readings = [Reading("connect_time", talk.connect_seconds, "seconds")]
                began = time.monotonic()
                if self._send:
                    talk.send(self._send)
                if self._expect:
                    fault = self._wait_for_answer(talk)
                    readings.append(Reading("response_time", time.monotonic() - began, "seconds"))
                    return Measurement(readings, Finding(Status.CRITICAL, fault) if fault else None)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        return Measurement(readings)

    def _wait_for_answer(self, talk: Conversation) -> str | None:
        assert self._expect
        heard = b""
        while not self._expect.search(heard):
            try:
                heard += talk.read_some()
            except Unreachable as reason:
                if not heard:
                    raise
                return Said(
                    "%(where)s answered %(answer)s, expected %(expected)s (%(reason)s)",
                    where=talk.where, answer=shown(heard), expected=repr(self._expect.pattern.decode()),
                    reason=str(reason),
                )  # fmt: skip
            if len(heard) > MOST_BYTES:
                return Said(
                    "%(where)s answered %(answer)s, expected %(expected)s",
                    where=talk.where, answer=shown(heard), expected=repr(self._expect.pattern.decode()),
                )
        return None
