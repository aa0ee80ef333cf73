"""The first words of databases, caches and brokers: do they speak their protocol, without anybody logging in?

One function a protocol. Each takes an open conversation and returns when the other side has proved itself; it raises
:class:`Unreachable` when it speaks something else, or says itself that it cannot serve. That it asks who is there is
an answer, not a fault.
"""

import struct
import time
from collections.abc import Callable

from monitor.probes.address import Unreachable
from monitor.probes.conversation import Conversation, shown
from monitor.result import Finding, Measurement, Reading, Status

_POSTGRES_VERSION = 196_608
_POSTGRES_BAD = {"57P03": "is not ready", "53300": "has no connection left", "57P01": "is shutting down"}
"""SQLSTATE -> what it means; any other refusal (no such user, no entry in pg_hba.conf) comes from a healthy server."""


class Handshake:
    """The probe of a service that nobody logs in to: one of the functions below, as ``speak``."""

    def __init__(self, speak: Callable[[Conversation], object], host: str, port: int, timeout_seconds: float) -> None:
        self._speak = speak
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds

    def measure(self) -> Measurement:
        """Return ``response_time`` in seconds; CRITICAL when it does not speak, or cannot serve."""
        began = time.monotonic()
        try:
            with Conversation(self._host, self._port, began + self._timeout_seconds) as talk:
                self._speak(talk)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        return Measurement([Reading("response_time", time.monotonic() - began, "seconds")])


def postgres(talk: Conversation) -> None:
    """PostgreSQL, Frontend/Backend Protocol 3.0: a start-up message, answered by a request to log in or an error."""
    body = struct.pack("!i", _POSTGRES_VERSION) + b"user\0keepwatch\0database\0postgres\0\0"
    talk.send(struct.pack("!i", len(body) + 4) + body)
    kind = talk.read(1)
    if kind not in (b"R", b"E", b"v"):
        raise Unreachable(f"{talk.where} does not speak PostgreSQL: it says {shown(kind)}")
    (length,) = struct.unpack("!i", talk.read(4))
    answer = talk.read(max(0, length - 4))
    if kind == b"E":
        fields = {field[:1]: field[1:].decode("utf-8", "replace") for field in answer.split(b"\0") if field}
        if meaning := _POSTGRES_BAD.get(fields.get(b"C", "")):
            raise Unreachable(f"{talk.where} {meaning}: {fields.get(b'M', '')}")


def mysql(talk: Conversation) -> None:
    """MySQL, Protocol::Handshake version 10, which the server begins; it may also begin with an error packet."""
    header = talk.read(4)
    packet = talk.read(int.from_bytes(header[:3], "little"))
    if packet[:1] == b"\xff":
        raise Unreachable(f"{talk.where} refuses: {packet[3:].decode('utf-8', 'replace')}")
    if packet[:1] != b"\x0a" or b"\0" not in packet:
        raise Unreachable(f"{talk.where} does not speak MySQL: it says {shown(header + packet)}")


def memcached(talk: Conversation) -> None:
    """memcached, text protocol: its version."""
    talk.send(b"version\r\n")
    line = talk.read_line()
    if not line.startswith((b"VERSION ", b"ERROR", b"CLIENT_ERROR unauthenticated")):
        raise Unreachable(f"{talk.where} does not speak memcached: it says {shown(line)}")


def amqp(talk: Conversation) -> None:
    """AMQP 0-9-1, 4.2.2: a protocol header, answered by Connection.Start (class 10, method 10) in a method frame."""
    talk.send(b"AMQP\x00\x00\x09\x01")
    frame = talk.read(7)
    if frame[:4] == b"AMQP":
        raise Unreachable(f"{talk.where} speaks another version of AMQP: {shown(frame)}")
    kind, channel, length = struct.unpack("!BHI", frame)
    payload = talk.read(length + 1) if kind == 1 and channel == 0 else b""
    if payload[:4] != struct.pack("!HH", 10, 10):
        raise Unreachable(f"{talk.where} does not speak AMQP: it says {shown(frame + payload)}")


def nats(talk: Conversation, token: str | None) -> None:
    """NATS client protocol: its INFO, then CONNECT and PING. That it wants a token is a fault only with one."""
    line = talk.read_line()
    if not line.startswith(b"INFO "):
        raise Unreachable(f"{talk.where} does not speak NATS: it says {shown(line)}")
    if token is None and b'"auth_required":true' in line:
        return
    secret = b', "auth_token": "' + token.encode() + b'"' if token else b""
    talk.send(b'CONNECT {"verbose": false, "name": "keepwatch"' + secret + b"}\r\nPING\r\n")
    line = talk.read_line()
    if line != b"PONG":
        raise Unreachable(f"{talk.where} refuses: {shown(line)}")


_MQTT_REFUSALS = {
    1: "our protocol version", 2: "our name", 3: "everybody at the moment", 4: "user or password", 5: "the user",
}  # fmt: skip
_MQTT_ASKS_WHO = (4, 5)


def mqtt(talk: Conversation, username: str | None, password: str | None) -> bool:
    """MQTT 3.1.1, 3.1 and 3.2: CONNECT and CONNACK. Returns whether it let us in."""
    flags = 2 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    payload = b"".join(_mqtt_text(text) for text in ("keepwatch", username, password) if text is not None)
    body = _mqtt_text("MQTT") + bytes([4, flags, 0, 60]) + payload
    talk.send(b"\x10" + mqtt_length(len(body)) + body)
    answer = talk.read(4)
    if answer[:2] != b"\x20\x02":
        raise Unreachable(f"{talk.where} does not speak MQTT: it says {shown(answer)}")
    code = answer[3]
    if code and not (username is None and code in _MQTT_ASKS_WHO):
        raise Unreachable(f"{talk.where} refuses {_MQTT_REFUSALS.get(code, f'us with code {code}')}")
    return code == 0


def mqtt_length(length: int) -> bytes:
    """Write a remaining length, MQTT 3.1.1, 2.2.3: seven bits a byte, the lowest first."""
    written = bytearray()
    while True:
        length, digit = divmod(length, 128)
        written.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(written)


def _mqtt_text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data
