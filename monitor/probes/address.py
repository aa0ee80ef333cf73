"""Connections with one deadline for everything: looking the name up, and trying each of its addresses.

The system's resolver cannot be interrupted, so a look-up runs in a thread of its own and is left behind when time is
up; whoever asks for the same name meanwhile joins it, so there is at most one such thread a name.
"""

import errno
import os
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

from monitor.result import ProbeError

_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
"""Reasons that lie with this machine and say nothing about the other one."""
_Address = tuple[int, int, int, str, Any]

_lookups: dict[tuple[str, int], Future[list[_Address]]] = {}
_lookups_lock = threading.Lock()


class Unreachable(Exception):  # noqa: N818 - a finding about the other side, not an error of ours
    """Nobody answers there; the message says where and why."""


def connect(host: str, port: int, deadline: float) -> tuple[socket.socket, float]:
    """Return a connected TCP socket, and how many seconds the connection took without the look-up.

    ``deadline`` is on the monotonic clock. Every address of the name is tried in the system's order of preference.
    Raises Unreachable when none accepts, ProbeError when the fault is on this side.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    addresses = look_up(host, port, deadline)
    reason = "it has no address"
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        began = time.perf_counter()
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno in _OURS:
                raise ProbeError(f"connecting to {where}: {error.strerror}") from error
            reason = _words(error)
            continue
        try:
            # Each address that is left gets its fair share, so that a silent first one does not hide the others.
            connection.settimeout(remaining / (len(addresses) - tried))
            connection.connect(address)
        except OSError as error:
            connection.close()
            if error.errno in _OURS:
                raise ProbeError(f"connecting to {where}: {error.strerror}") from error
            reason = _words(error)
        except BaseException:
            connection.close()
            raise
        else:
            return connection, time.perf_counter() - began
    raise Unreachable(f"cannot connect to {where}: {reason}")


def look_up(host: str, port: int, deadline: float) -> list[_Address]:
    """Return a name's addresses as ``socket.getaddrinfo`` gives them for TCP, in the system's order of preference.

    Raises Unreachable when there is no such name, ProbeError when the resolver is silent until the deadline.
    """
    key = (host, port)
    with _lookups_lock:
        pending = _lookups.get(key)
        if pending is None:
            pending = _lookups[key] = Future()
            threading.Thread(target=_resolve, args=(key, pending), name="look-up", daemon=True).start()
    try:
        return pending.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError as error:
        raise ProbeError(f"looking up {host}: the resolver did not answer in time") from error
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise ProbeError(f"looking up {host}: {error.strerror}", hint="is this machine's DNS server up?") from error
        raise Unreachable(f"cannot look up {host}: {error.strerror}") from error
    except UnicodeError as error:
        raise Unreachable(f"cannot look up {host}: not a host name") from error


def _resolve(key: tuple[str, int], pending: Future[list[_Address]]) -> None:
    addresses: list[_Address] = []
    failure: OSError | UnicodeError | None = None
    try:
        addresses = list(socket.getaddrinfo(*key, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        failure = error
    with _lookups_lock:
        del _lookups[key]
    if failure:
        pending.set_exception(failure)
    else:
        pending.set_result(addresses)


def _words(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (os.strerror(error.errno) if error.errno else str(error)).lower()
