"""An SSH server's banner and host key, up to the point where the key is shown (RFC 4253, 7 and 8; RFC 8731).

The server's signature is not verified, which would take a cryptography library: this notices a key that was changed,
not somebody in between who shows the right one. It never logs in.
"""

import base64
import hashlib
import os
import struct
import time
from collections.abc import Sequence

from config.said import Said
from monitor.probes.address import Unreachable
from monitor.probes.conversation import Conversation, shown
from monitor.result import Finding, Measurement, Reading, Status

_BANNER = b"SSH-2.0-keepwatch\r\n"
_DISCONNECT, _IGNORE, _DEBUG, _EXT_INFO, _KEXINIT, _ECDH_INIT, _ECDH_REPLY = 1, 2, 4, 7, 20, 30, 31
_KEY_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512")
_OFFER = (
    "curve25519-sha256,curve25519-sha256@libssh.org", "{key_kind}",
    *("aes128-ctr,aes256-ctr,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com",) * 2,
    *("hmac-sha2-256,hmac-sha2-512,hmac-sha2-256-etm@openssh.com",) * 2, *("none",) * 2, *("",) * 2,
)  # fmt: skip
"""The ten name lists of SSH_MSG_KEXINIT; what comes after the key is never used."""
_POINT = b"\x09" + bytes(31)
"""A public key of curve25519 that is as good as any: what it agrees on is thrown away."""
_MOST_BANNER_LINES = 50


class SshProbe:
    """Reads the banner, and where ``fingerprint`` (``SHA256:...``) is given, each of the server's host keys."""

    def __init__(self, host: str, port: int, fingerprint: str | None, timeout_seconds: float) -> None:
        self._host = host
        self._port = port
        self._fingerprint = fingerprint
        self._timeout_seconds = timeout_seconds

    def measure(self) -> Measurement:
        """Return ``response_time`` in seconds, until the banner; CRITICAL without SSH, or with another key."""
        began = time.monotonic()
        deadline = began + self._timeout_seconds
        try:
            with Conversation(self._host, self._port, deadline) as talk:
                _read_banner(talk)
            took = Reading("response_time", time.monotonic() - began, "seconds")
            fault = self._key_fault(deadline) if self._fingerprint else None
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        return Measurement([took], Finding(Status.CRITICAL, fault) if fault else None)

    def _key_fault(self, deadline: float) -> str | None:
        seen: list[str] = []
        refusal = ""
        for key_kind in _KEY_KINDS:
            try:
                key = self._host_key(key_kind, deadline)
            except Unreachable as reason:
                if time.monotonic() >= deadline:
                    raise
                refusal = str(reason)
                continue
            digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
            if f"SHA256:{digest}" == self._fingerprint:
                return None
            seen.append(f"SHA256:{digest}")
        if not seen:
            raise Unreachable(refusal)
        return Said(
            "%(host)s:%(port)s shows another host key: %(seen)s, expected %(expected)s",
            host=self._host, port=self._port, seen=", ".join(seen), expected=self._fingerprint,
        )

    def _host_key(self, key_kind: str, deadline: float) -> bytes:
        with Conversation(self._host, self._port, deadline) as talk:
            talk.send(_BANNER)
            _read_banner(talk)
            talk.send(_packet(_key_exchange_init(key_kind)))
            talk.send(_packet(bytes([_ECDH_INIT]) + _string(_POINT)))
            while True:
                message = _read_packet(talk)
                if message[0] == _ECDH_REPLY:
                    (length,) = struct.unpack_from("!I", message, 1)
                    return message[5 : 5 + length]
                if message[0] not in (_KEXINIT, _IGNORE, _DEBUG, _EXT_INFO):
                    raise Unreachable(f"{talk.where} ends the key exchange for {key_kind}: {shown(message[9:])}")


def _read_banner(talk: Conversation) -> str:
    """Return the version line; RFC 4253, 4.2 lets other lines come before it."""
    line = b""
    for _ in range(_MOST_BANNER_LINES):
        line = talk.read_line()
        if line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
            return line.decode("ascii", "replace")
    raise Unreachable(f"{talk.where} does not speak SSH: it says {shown(line)}")


def _key_exchange_init(key_kind: str) -> bytes:
    lists: Sequence[str] = [names.format(key_kind=key_kind) for names in _OFFER]
    return bytes([_KEXINIT]) + os.urandom(16) + b"".join(_string(names.encode()) for names in lists) + bytes(5)


def _packet(payload: bytes) -> bytes:
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack("!IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def _read_packet(talk: Conversation) -> bytes:
    length, padding = struct.unpack("!IB", talk.read(5))
    body = talk.read(length - 1) if length > 1 else b""
    payload = body[: len(body) - padding]
    if not payload:
        raise Unreachable(f"{talk.where} sends an empty packet")
    return payload


def _string(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data
