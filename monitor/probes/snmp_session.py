"""Asking a device over SNMP, versions 2c and 3, by pysnmp: single values, and columns of tables.

pysnmp takes tens of megabytes and half a second to load, so this is for a child process
(:mod:`monitor.probes.in_child`). No MIB is read: whoever asks knows the numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from monitor.result import ProbeError

_RETRIES = 1
_REPETITIONS = 25
_MOST_ROWS = 5000
_HINT = "are address, community or user right, and may this machine ask it? Wrong communities are met with silence"


@dataclass(frozen=True, slots=True)
class SnmpUser:
    """A user of version 3. Empty passwords: not proven, not encrypted."""

    name: str
    authentication: str = "SHA256"
    authentication_password: str = field(default="", repr=False)
    privacy: str = "AES"
    privacy_password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SnmpAddress:
    """A device and how it is asked: by ``community`` in version 2c, as ``user`` in version 3."""

    host: str
    port: int
    timeout_seconds: float
    community: str = field(default="", repr=False)
    user: SnmpUser | None = None


class SilenceError(ProbeError):
    """The device is silent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device told. Numbers are ints, text is bytes; what it does not have is left out."""

    values: dict[str, int | bytes]
    """Object identifier -> value."""
    columns: dict[str, dict[str, int | bytes]]
    """Column -> index of the row -> value."""


def ask(address: SnmpAddress, values: Sequence[str] = (), columns: Sequence[str] = ()) -> Answer:
    """Fetch values, and whole columns. Raises SilenceError, and ProbeError when the device or the library refuses."""
    import asyncio

    try:
        import pysnmp.hlapi.v3arch.asyncio as hlapi
    except ImportError as error:
        raise ProbeError(
            "asking over SNMP: pysnmp is not installed", hint="install it: pip install 'keepwatch[snmp]'"
        ) from error
    try:
        return asyncio.run(asyncio.wait_for(_ask(hlapi, address, values, columns), address.timeout_seconds))
    except TimeoutError as error:
        raise SilenceError(f"{_where(address)} did not answer in {address.timeout_seconds:g} s", hint=_HINT) from error


async def _ask(hlapi: Any, address: SnmpAddress, values: Sequence[str], columns: Sequence[str]) -> Answer:
    engine = hlapi.SnmpEngine()
    try:
        try:
            patience = address.timeout_seconds / (_RETRIES + 2)
            target = await hlapi.UdpTransportTarget.create(
                (address.host, address.port), timeout=patience, retries=_RETRIES
            )
        except (OSError, hlapi.error.PySnmpError) as error:
            raise ProbeError(f"asking {_where(address)}: {error}") from error
        how = (engine, _credentials(hlapi, address), target, hlapi.ContextData())
        answer = Answer({}, {})
        if values:
            objects = [hlapi.ObjectType(hlapi.ObjectIdentity(oid)) for oid in values]
            answer.values.update(_rows(address, await hlapi.get_cmd(*how, *objects, lookupMib=False)))
        for column in columns:
            answer.columns[column] = await _walk(hlapi, how, address, column)
        return answer
    finally:
        engine.close_dispatcher()


async def _walk(hlapi: Any, how: Sequence[Any], address: SnmpAddress, column: str) -> dict[str, int | bytes]:
    rows: dict[str, int | bytes] = {}
    start = hlapi.ObjectType(hlapi.ObjectIdentity(column))
    walk = hlapi.bulk_walk_cmd(*how, 0, _REPETITIONS, start, lookupMib=False, lexicographicMode=False)
    async for found in walk:
        rows |= {oid.removeprefix(f"{column}."): value for oid, value in _rows(address, found).items()}
        if len(rows) > _MOST_ROWS:
            raise ProbeError(f"asking {_where(address)}: more than {_MOST_ROWS} rows below {column}")
    return rows


def _rows(address: SnmpAddress, found: Any) -> dict[str, int | bytes]:
    indication, status, index, bindings = found
    if indication is not None:
        kind = SilenceError if type(indication).__name__ == "RequestTimedOut" else ProbeError
        raise kind(f"asking {_where(address)}: {indication}", hint=_HINT)
    if int(status):
        raise ProbeError(f"asking {_where(address)}: it refuses object {index}: {status.prettyPrint()}")
    return {str(oid): read for oid, value in bindings if (read := _value(value)) is not None}


def _value(value: Any) -> int | bytes | None:
    if type(value).__name__ in ("NoSuchObject", "NoSuchInstance", "EndOfMibView", "Null"):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return bytes(value) if hasattr(value, "asOctets") else str(value).encode()


def _credentials(hlapi: Any, address: SnmpAddress) -> Any:
    user = address.user
    if user is None:
        return hlapi.CommunityData(address.community, mpModel=1)
    proofs = {
        "MD5": hlapi.USM_AUTH_HMAC96_MD5,
        "SHA": hlapi.USM_AUTH_HMAC96_SHA,
        "SHA256": hlapi.USM_AUTH_HMAC192_SHA256,
        "SHA512": hlapi.USM_AUTH_HMAC384_SHA512,
    }
    ciphers = {
        "DES": hlapi.USM_PRIV_CBC56_DES,
        "AES": hlapi.USM_PRIV_CFB128_AES,
        "AES256": hlapi.USM_PRIV_CFB256_AES,
    }
    return hlapi.UsmUserData(
        user.name,
        user.authentication_password or None,
        user.privacy_password or None,
        authProtocol=proofs[user.authentication] if user.authentication_password else None,
        privProtocol=ciphers[user.privacy] if user.privacy_password else None,
    )


def _where(address: SnmpAddress) -> str:
    return f"{address.host}:{address.port} over SNMP"
