"""Connections: refused, silent, one of several addresses, and names that do not resolve."""

import errno
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from monitor.probes import address
from monitor.probes.address import Unreachable, connect
from monitor.probes.tcp import TcpProbe
from monitor.result import ProbeError, Status


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops further attempts, like a black-holed address."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        held = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            held.append(client)
        yield port
        for client in held:
            client.close()


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    rows = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", pair) for pair in addresses]
    monkeypatch.setattr(address.socket, "getaddrinfo", lambda *_about, **_more: rows)


def test_an_open_port_gives_its_connection_time(listener: int, values: Any) -> None:
    measured = TcpProbe("127.0.0.1", listener, 10).measure()
    assert measured.finding is None
    assert 0 < values(measured)["connect_time"] < 5


def test_a_refused_connection_is_critical_with_address_and_reason(refused_port: int) -> None:
    finding = TcpProbe("127.0.0.1", refused_port, 10).measure().finding
    assert finding is not None
    assert finding.status is Status.CRITICAL
    assert finding.message == f"cannot connect to 127.0.0.1:{refused_port}: connection refused"


def test_a_silent_address_is_critical_at_the_deadline(silent_port: int) -> None:
    began = time.monotonic()
    finding = TcpProbe("127.0.0.1", silent_port, 0.4).measure().finding
    assert finding is not None
    assert (finding.status, "no answer in time" in finding.message) == (Status.CRITICAL, True)
    assert time.monotonic() - began < 3


def test_the_next_address_is_tried_when_one_refuses(
    listener: int, refused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, ("127.0.0.1", refused_port), ("127.0.0.1", listener))
    connection, _ = connect("both.example", 1, soon())
    assert connection.getpeername()[1] == listener
    connection.close()


def test_a_silent_address_leaves_time_for_the_next(
    listener: int, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves_to(monkeypatch, ("127.0.0.1", silent_port), ("127.0.0.1", listener))
    connection, _ = connect("both.example", 1, soon(1.0))
    assert connection.getpeername()[1] == listener
    connection.close()


def test_a_name_that_does_not_exist_is_critical(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*about: Any, **more: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(address.socket, "getaddrinfo", unknown)
    with pytest.raises(Unreachable, match=r"cannot look up nowhere\.example: Name or service not known"):
        connect("nowhere.example", 80, soon())


def test_a_resolver_that_fails_says_nothing_about_the_other_side(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*about: Any, **more: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(address.socket, "getaddrinfo", failing)
    with pytest.raises(ProbeError, match="Temporary failure"):
        connect("some.example", 80, soon())


def test_a_resolver_that_hangs_holds_one_thread_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    asked: list[Any] = []

    def hanging(*about: Any, **more: Any) -> Any:
        asked.append(about)
        release.wait(30)
        return []

    monkeypatch.setattr(address.socket, "getaddrinfo", hanging)
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(ProbeError, match="resolver did not answer"):
            connect("slow.example", 80, soon(0.2))
        assert time.monotonic() - began < 3
    assert len(asked) == 1
    release.set()
    deadline = soon()
    while address._lookups:
        assert time.monotonic() < deadline


def test_a_name_that_is_none_is_critical() -> None:
    with pytest.raises(Unreachable, match="not a host name"):
        connect("a" * 70 + ".example", 80, soon())


def test_a_fault_of_this_machine_is_not_blamed_on_the_other(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*about: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(address.socket, "socket", exhausted)
    with pytest.raises(ProbeError, match="Too many open files"):
        connect("127.0.0.1", listener, soon())
