"""When a certificate expires, read from its DER form.

The standard library tells it only for certificates that it could verify, and those that matter most here (expired,
self-signed) are not; the daemon does without a cryptography library. So: seven steps of DER (X.690), to
``Certificate.tbsCertificate.validity.notAfter`` (RFC 5280, 4.1). It verifies nothing.
"""

from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def not_after(certificate: bytes) -> datetime:
    """Return the end of a DER certificate's validity. Raises ValueError when it is not one."""
    try:
        body = _enter(certificate, _enter(certificate, 0))
        if certificate[body] == _VERSION:
            body = _skip(certificate, body)
        for _ in ("serialNumber", "signature", "issuer"):
            body = _skip(certificate, body)
        moment = _skip(certificate, _enter(certificate, body))
        start, end = _content(certificate, moment)
        text = certificate[start:end].decode("ascii")
        kind = certificate[moment]
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("not a certificate in DER form") from error
    if kind == _UTC_TIME:  # RFC 5280, 4.1.2.5.1: two digits below 50 are this century's
        return _moment(("20" if text[:2] < "50" else "19") + text)
    if kind == _GENERALIZED_TIME:
        return _moment(text)
    raise ValueError("not a certificate in DER form")


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _enter(data: bytes, at: int) -> int:
    if data[at] != _SEQUENCE:
        raise ValueError("not a certificate in DER form")
    return _content(data, at)[0]


def _skip(data: bytes, at: int) -> int:
    return _content(data, at)[1]


def _content(data: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the element at ``at`` starts and ends. X.690, 8.1.3: short and long lengths."""
    length = data[at + 1]
    start = at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[at + 2 : start], "big")
    return start, start + length
