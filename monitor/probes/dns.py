"""What a DNS server answers, by dnspython: the same question to the same server each time, no cache in between."""

import time
from collections.abc import Collection
from typing import Any

from config.said import Said
from monitor.probes.address import Unreachable, look_up
from monitor.result import Finding, Measurement, ProbeError, Reading, Status


class DnsProbe:
    """Asks ``server`` (the system's first one when None) for records of ``name``; ``expect`` are all its answers."""

    def __init__(
        self, name: str, kind: str, server: str | None, port: int, expect: Collection[str], timeout_seconds: float
    ) -> None:
        self._name = name
        self._kind = kind
        self._server = server
        self._port = port
        self._expect = expect
        self._timeout_seconds = timeout_seconds

    def measure(self) -> Measurement:
        """Return ``response_time``, ``answers`` and ``ttl``; CRITICAL when the answer is none or another one.

        Raises ProbeError when dnspython is missing or the system names no server.
        """
        try:
            import dns.exception
            import dns.rcode
        except ImportError as error:
            raise ProbeError(
                "asking for DNS records: dnspython is not installed", hint="pip install 'keepwatch[services]'"
            ) from error
        began = time.perf_counter()
        try:
            response = self._ask()
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        except (dns.exception.Timeout, OSError) as error:
            silent = isinstance(error, dns.exception.Timeout)
            return self._bad([], Said("does not answer in time") if silent else str(error))
        except dns.exception.DNSException as error:
            return self._bad([], Said("answers nonsense (%(name)s)", name=type(error).__name__))
        took = Reading("response_time", time.perf_counter() - began, "seconds")
        records = [rrset for rrset in response.answer if rrset.rdtype.name == self._kind]
        answers = [_normal(record.to_text()) for rrset in records for record in rrset]
        readings = [took, Reading("answers", len(answers), "count")]
        if records:
            readings.append(Reading("ttl", min(rrset.ttl for rrset in records), "seconds"))
        if response.rcode() != dns.rcode.NOERROR:
            return self._bad(readings, Said("answers %(value)s", value=dns.rcode.to_text(response.rcode())))
        if not answers:
            return self._bad(readings, Said("knows none"))
        expected = sorted(_normal(text) for text in self._expect)
        if expected and expected != sorted(answers):
            message = Said(
                "answers %(answers)s, expected %(expected)s",
                answers=", ".join(sorted(answers)), expected=", ".join(expected),
            )
            return self._bad(readings, message)
        return Measurement(readings)

    def _ask(self) -> Any:
        import dns.message
        import dns.query
        import dns.resolver

        deadline = time.monotonic() + self._timeout_seconds
        try:
            server = self._server or str(dns.resolver.Resolver().nameservers[0])
            question = dns.message.make_query(self._name, self._kind)
        except (dns.exception.DNSException, IndexError) as error:
            raise ProbeError(f"asking for {self._kind} of {self._name}: {error or 'no server is known'}") from error
        address = look_up(server, self._port, deadline)[0][4][0]
        left = max(0.01, deadline - time.monotonic())
        response, _ = dns.query.udp_with_fallback(question, address, left, self._port)
        return response

    def _bad(self, readings: list[Reading], what: str) -> Measurement:
        asked = Said(
            "asked for %(kind)s of %(name)s, %(server)s %(what)s",
            kind=self._kind, name=self._name, server=self._server or Said("the system’s DNS server"), what=what,
        )
        return Measurement(readings, Finding(Status.CRITICAL, asked))


def _normal(text: str) -> str:
    """Return a record as it compares: names without their last dot, in lower case; texts as they are."""
    return text.strip('"') if text.startswith('"') else text.rstrip(".").lower()
