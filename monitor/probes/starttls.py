"""How TLS is asked for within other protocols: one function each, up to the byte after which TLS begins.

Each raises :class:`Unreachable` when the server will not. Nothing is sent but the request itself.
"""

import struct
from collections.abc import Callable, Mapping

from monitor.probes.address import Unreachable
from monitor.probes.conversation import Conversation, shown

_LDAP_START_TLS = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
"""LDAPMessage 1 with an ExtendedRequest, RFC 4511, 4.14.1."""
_LDAP_SUCCESS = bytes.fromhex("0a0100")
_POSTGRES_SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
"""PostgreSQL, Frontend/Backend Protocol, SSLRequest."""
_MYSQL_SSL_REQUEST = struct.pack("<IIB23x", 0x0000_8A00, 1 << 24, 45)
"""SSLRequest with CLIENT_PROTOCOL_41, CLIENT_SSL and CLIENT_SECURE_CONNECTION, and utf8mb4."""
_MYSQL_CLIENT_SSL = 0x0800


def read_replies(talk: Conversation) -> tuple[int, list[str]]:
    """Return the code and the lines of a reply of SMTP or FTP (RFC 5321, 4.2): ``250-first``, ``250 last``."""
    lines = []
    while True:
        line = talk.read_line()
        if not line[:3].isdigit():
            raise Unreachable(f"{talk.where} does not speak the protocol: it says {shown(line)}")
        lines.append(line[4:].decode("utf-8", "replace"))
        if line[3:4] != b"-":
            return int(line[:3]), lines


def _smtp(talk: Conversation) -> None:
    _expect_reply(talk, 220)
    talk.send(b"EHLO [127.0.0.1]\r\n")
    _expect_reply(talk, 250)
    talk.send(b"STARTTLS\r\n")
    _expect_reply(talk, 220)


def _ftp(talk: Conversation) -> None:
    _expect_reply(talk, 220)
    talk.send(b"AUTH TLS\r\n")
    _expect_reply(talk, 234)


def _imap(talk: Conversation) -> None:
    _expect_line(talk, b"* OK")
    talk.send(b"a STARTTLS\r\n")
    _expect_line(talk, b"a OK")


def _pop3(talk: Conversation) -> None:
    _expect_line(talk, b"+OK")
    talk.send(b"STLS\r\n")
    _expect_line(talk, b"+OK")


def _ldap(talk: Conversation) -> None:
    talk.send(_LDAP_START_TLS)
    answer = talk.read_some()
    if not answer.startswith(b"\x30") or _LDAP_SUCCESS not in answer[:20]:
        raise Unreachable(f"{talk.where} refuses StartTLS: {shown(answer)}")


def _postgres(talk: Conversation) -> None:
    talk.send(_POSTGRES_SSL_REQUEST)
    if (answer := talk.read(1)) != b"S":
        raise Unreachable(f"{talk.where} refuses TLS: {shown(answer)}")


def _mysql(talk: Conversation) -> None:
    length = int.from_bytes(talk.read(4)[:3], "little")
    greeting = talk.read(length)
    version_end = greeting.find(b"\0", 1)
    capabilities = int.from_bytes(greeting[version_end + 14 : version_end + 16], "little")
    if greeting[:1] != b"\x0a" or not capabilities & _MYSQL_CLIENT_SSL:
        raise Unreachable(f"{talk.where} offers no TLS")
    talk.send(len(_MYSQL_SSL_REQUEST).to_bytes(3, "little") + b"\x01" + _MYSQL_SSL_REQUEST)


def _expect_reply(talk: Conversation, code: int) -> None:
    got, lines = read_replies(talk)
    if got != code:
        raise Unreachable(f"{talk.where} refuses TLS: {got} {lines[-1]}")


def _expect_line(talk: Conversation, beginning: bytes) -> None:
    line = talk.read_line()
    while line.startswith(b"* ") and not beginning.startswith(b"* "):  # IMAP may tell news in between
        line = talk.read_line()
    if not line.startswith(beginning):
        raise Unreachable(f"{talk.where} refuses TLS: {shown(line)}")


STARTTLS: Mapping[str, Callable[[Conversation], None]] = {
    "smtp": _smtp,
    "imap": _imap,
    "pop3": _pop3,
    "ftp": _ftp,
    "ldap": _ldap,
    "postgres": _postgres,
    "mysql": _mysql,
}
"""Name in the settings -> how it is done."""
