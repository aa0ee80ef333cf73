"""The certificates that a server shows: until when they are good, and whether they hold today.

A chain that does not hold is looked at once more without verifying, so that an expired or self-signed one is reported
with its dates instead of as an unreachable server.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from monitor.probes.address import Unreachable
from monitor.probes.certificate import not_after
from monitor.probes.conversation import Conversation
from monitor.probes.starttls import STARTTLS
from monitor.result import Finding, Measurement, ProbeError, Reading, Status


@dataclass(frozen=True, slots=True)
class TlsTarget:
    """Whose certificates are looked at, and what they are held against."""

    host: str
    port: int
    starttls: str | None = None
    """Key of :data:`STARTTLS`."""
    server_name: str | None = None
    ca_file: str | None = None
    verify: bool = True


class _DoesNotHold(Exception):  # noqa: N818 - a finding, with dates to be told beside it
    pass


class TlsProbe:
    """Shakes hands and hangs up. ``clock`` tells the time against which certificates are held."""

    def __init__(self, target: TlsTarget, timeout_seconds: float, clock: Callable[[], datetime]) -> None:
        self._target = target
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    def measure(self) -> Measurement:
        """Return ``expires_in``, ``chain_expires_in`` and ``handshake_time``, all in seconds.

        CRITICAL when there is no TLS or the chain does not hold.
        """
        deadline = time.monotonic() + self._timeout_seconds
        fault = None
        try:
            try:
                chain, seconds = self._shake_hands(deadline, verify=self._target.verify)
            except _DoesNotHold as reason:
                fault = str(reason)
                chain, seconds = self._shake_hands(deadline, verify=False)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, fault or str(reason)))
        left = [(not_after(certificate) - self._clock()).total_seconds() for certificate in chain]
        readings = [
            Reading("expires_in", left[0], "seconds"),
            Reading("chain_expires_in", min(left), "seconds"),
            Reading("handshake_time", seconds, "seconds"),
        ]
        return Measurement(readings, Finding(Status.CRITICAL, fault) if fault else None)

    def _shake_hands(self, deadline: float, *, verify: bool) -> tuple[list[bytes], float]:
        target = self._target
        context = self._context(verify)
        with Conversation(target.host, target.port, deadline) as talk:
            if target.starttls:
                STARTTLS[target.starttls](talk)
            began = time.perf_counter()
            try:
                talk.socket.settimeout(max(0.001, deadline - time.monotonic()))
                with context.wrap_socket(talk.socket, server_hostname=target.server_name or target.host) as secure:
                    return _chain(secure), time.perf_counter() - began
            except ssl.SSLCertVerificationError as error:
                why = error.verify_message.rstrip(".")
                raise _DoesNotHold(f"the certificate of {talk.where} does not hold: {why}") from error
            except TimeoutError as error:
                raise Unreachable(f"{talk.where} does not finish the TLS handshake in time") from error
            except ssl.SSLError as error:
                raise Unreachable(f"{talk.where} does not speak TLS: {error.reason or error}") from error
            except OSError as error:
                said = (error.strerror or str(error)).lower()
                raise Unreachable(f"{talk.where} broke the TLS handshake off: {said}") from error

    def _context(self, verify: bool) -> ssl.SSLContext:
        """Made anew each hour or so: an authority that was installed meanwhile shall count."""
        try:
            context = ssl.create_default_context(cafile=self._target.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ProbeError(f"reading the authorities in {self._target.ca_file}: {error}") from error
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _chain(secure: ssl.SSLSocket) -> list[bytes]:
    """Return the certificates as the server sent them, its own first, in DER form."""
    own = secure.getpeercert(binary_form=True)
    assert own
    if hasattr(secure, "get_unverified_chain"):  # Python 3.13
        return list(secure.get_unverified_chain()) or [own]
    # Until then only the object beneath has the method; its certificates are no bytes yet.
    return [one.public_bytes(_DER) for one in secure._sslobj.get_unverified_chain() or ()] or [own]  # type: ignore[attr-defined]


_DER = 2
"""``_ssl.ENCODING_DER``."""
