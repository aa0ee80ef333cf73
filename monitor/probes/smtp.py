"""Does a mail server greet, take EHLO, and offer TLS? It is told goodbye before any mail."""

import time

from config.said import Said
from monitor.probes.address import Unreachable
from monitor.probes.conversation import Conversation
from monitor.probes.starttls import read_replies
from monitor.result import Finding, Measurement, Reading, Status


class SmtpProbe:
    """Speaks the beginning of SMTP (RFC 5321). ``starttls``: the server must offer it."""

    def __init__(self, host: str, port: int, timeout_seconds: float, *, starttls: bool = False) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._starttls = starttls

    def measure(self) -> Measurement:
        """Return ``response_time`` in seconds, from the connection to the answer to EHLO; CRITICAL when it refuses."""
        began = time.monotonic()
        try:
            with Conversation(self._host, self._port, began + self._timeout_seconds) as talk:
                code, greeting = read_replies(talk)
                if code != 220:
                    raise Unreachable(f"{talk.where} greets with {code} {greeting[-1]}")
                talk.send(b"EHLO [127.0.0.1]\r\n")
                code, offers = read_replies(talk)
                took = Reading("response_time", time.monotonic() - began, "seconds")
                talk.send(b"QUIT\r\n")
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        if code != 250:
            message = Said(
                "%(where)s refuses EHLO: %(code)s %(answer)s", where=talk.where, code=code, answer=offers[-1]
            )
            return Measurement([took], Finding(Status.CRITICAL, message))
        if self._starttls and not any(offer.upper().split()[:1] == ["STARTTLS"] for offer in offers):
            return Measurement([took], Finding(Status.CRITICAL, Said("%(where)s offers no STARTTLS", where=talk.where)))
        return Measurement([took])
