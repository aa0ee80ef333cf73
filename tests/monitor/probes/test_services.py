"""Services on the network: real servers where there are any, a scripted other end for what only ill ones say."""

import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from monitor.probes.assertions import header_faults, json_faults
from monitor.probes.conversation import unescaped
from monitor.probes.dns import DnsProbe
from monitor.probes.icmp import IcmpProbe
from monitor.probes.ntp import NtpProbe
from monitor.probes.smtp import SmtpProbe
from monitor.probes.ssh import SshProbe
from monitor.probes.tcp import TcpProbe
from monitor.probes.tls import TlsProbe, TlsTarget
from monitor.probes.udp import UdpProbe
from monitor.result import Measurement, Probe, Status
from tests.servers.postgres import postgres
from tests.servers.private import free_port, private_folder
from tests.servers.scripted import datagrams, saying, scripted, silent
from tests.servers.small import self_signed, sshd, unbound

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Values = Callable[[Measurement], dict[str, float]]


def clock() -> datetime:
    return datetime.now(UTC)


def fault(probe: Probe) -> str:
    """The message of a measurement that must be critical."""
    finding = probe.measure().finding
    assert finding is not None
    assert finding.status is Status.CRITICAL
    return finding.message


def is_well(measured: Measurement) -> bool:
    return measured.finding is None and bool(measured.readings)


SILENT_TCP: list[Callable[[int], Probe]] = [
    lambda port: TcpProbe("127.0.0.1", port, 0.3, expect="hello"),
    lambda port: TlsProbe(TlsTarget("127.0.0.1", port), 0.3, clock),
    lambda port: TlsProbe(TlsTarget("127.0.0.1", port, starttls="smtp"), 0.3, clock),
    lambda port: SmtpProbe("127.0.0.1", port, 0.3),
    lambda port: SshProbe("127.0.0.1", port, None, 0.3),
]
SILENT_UDP: list[Callable[[int], Probe]] = [
    lambda port: UdpProbe("127.0.0.1", port, b"x", None, 0.3),
    lambda port: DnsProbe("a.test", "A", "127.0.0.1", port, (), 0.3),
    lambda port: NtpProbe("127.0.0.1", port, 0.3, clock),
]


@pytest.mark.parametrize("probe", SILENT_TCP)
def test_a_silent_server_is_critical_by_the_timeout(probe: Callable[[int], Probe]) -> None:
    with silent() as port:
        began = time.monotonic()
        assert "in time" in fault(probe(port))
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("probe", SILENT_UDP)
def test_a_silent_datagram_server_is_critical_by_the_timeout(probe: Callable[[int], Probe]) -> None:
    with silent(socket.SOCK_DGRAM) as port:
        began = time.monotonic()
        assert "not answer" in fault(probe(port))
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("probe", SILENT_TCP)
def test_a_closed_port_is_critical(probe: Callable[[int], Probe]) -> None:
    assert "connection refused" in fault(probe(free_port()))


def test_what_a_tcp_service_says_is_held_against_what_it_should(values: Values) -> None:
    with scripted(saying(b"hello, ", b"world\r\n")) as port:
        measured = TcpProbe("127.0.0.1", port, 5, send=unescaped(r"who\r\n"), expect="hello, wor").measure()
        assert is_well(measured)
        assert list(values(measured)) == ["connect_time", "response_time"]
        assert "answered 'hello, world\\r\\n', expected 'bye'" in fault(
            TcpProbe("127.0.0.1", port, 0.5, send=b"x", expect="bye")
        )
    with scripted(lambda _: None) as port:
        assert fault(TcpProbe("127.0.0.1", port, 5, expect="x")) == f"127.0.0.1:{port} hung up without a word"


def test_a_flood_that_never_matches_ends() -> None:
    with scripted(lambda connection: connection.sendall(b"x" * (1 << 20))) as port:
        assert "answered 'xxx" in fault(TcpProbe("127.0.0.1", port, 5, expect="y"))


def test_a_udp_service_answers_what_it_should() -> None:
    with datagrams(lambda data: data.upper()) as port:
        assert is_well(UdpProbe("127.0.0.1", port, unescaped(r"\xffping"), "PING", 5).measure())
        assert "answered 'PING', expected 'pong'" in fault(UdpProbe("127.0.0.1", port, b"ping", "pong", 5))
    assert "connection refused" in fault(UdpProbe("127.0.0.1", free_port(socket.SOCK_DGRAM), b"x", None, 5))


BODY = '{"status": "ok", "up": true, "queues": [{"length": 7, "name": "in voice"}], "rate": 0.5}'


@pytest.mark.parametrize(
    "expected",
    [
        {"status": "ok"}, {"up": True}, {"queues[0].length": "< 100"}, {"queues[0].length": 7}, {"queues.length": 1},
        {"rate": ">= 0.5"}, {"status": "!= failed"}, {"queues[0].name": "~ ^in"}, {"status": "== ok"},
    ],
)  # fmt: skip
def test_json_that_is_as_expected_has_no_fault(expected: dict[str, Any]) -> None:
    assert json_faults(BODY, expected) == []


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"status": "down"}, "status is ok, expected down"),
        ({"up": 1}, "up is true, expected 1"),
        ({"queues[0].length": "< 5"}, "queues[0].length is 7, expected < 5"),
        ({"queues[1].length": 7}, "there is no queues[1]"),
        ({"nothing.here": 7}, "there is no nothing"),
        ({"status": "> 3"}, "status is ok, expected > 3"),
        ({"up": "> 0"}, "up is true, expected > 0"),
        ({"a..b": 1}, "there is no a"),
    ],
)
def test_json_that_is_not_as_expected_is_told(expected: dict[str, Any], said: str) -> None:
    assert json_faults(BODY, expected) == [said]


def test_a_body_that_is_no_json_is_told() -> None:
    assert "is no JSON" in json_faults("<html>", {"a": 1})[0]
    assert "is no JSON" in json_faults("[" * 100_000, {"a": 1})[0]


def test_headers_are_held_against_patterns() -> None:
    headers = {"content-type": "text/html"}
    assert header_faults(headers, {"Content-Type": "^text/"}) == []
    assert header_faults(headers, {"Content-Type": "json", "X-Node": "."}) == [
        "the header Content-Type is text/html, expected 'json'", "the header X-Node is missing",
    ]  # fmt: skip


def tls_server(certificate: Path) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def act(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    return act


def test_a_certificate_that_holds_is_told_with_its_days(certificate_file: Any, values: Values) -> None:
    certificate = certificate_file(20)
    with scripted(tls_server(certificate)) as port:
        measured = TlsProbe(TlsTarget("127.0.0.1", port, ca_file=str(certificate)), 5, clock).measure()
    assert is_well(measured)
    assert values(measured)["expires_in"] == pytest.approx(20 * 86_400, abs=60)
    assert values(measured)["chain_expires_in"] == values(measured)["expires_in"]


@pytest.mark.parametrize(("days", "said"), [(20, "self-signed certificate"), (-3, "self-signed")])
def test_a_self_signed_certificate_is_critical_and_its_dates_are_told(
    days: float, said: str, certificate_file: Any, values: Values
) -> None:
    with scripted(tls_server(certificate_file(days))) as port:
        measured = TlsProbe(TlsTarget("127.0.0.1", port), 5, clock).measure()
    assert measured.finding is not None
    assert said in measured.finding.message
    assert values(measured)["expires_in"] == pytest.approx(days * 86_400, abs=60)


def test_an_expired_certificate_and_one_for_another_name_are_critical(certificate_file: Any) -> None:
    expired = certificate_file(-3)
    with scripted(tls_server(expired)) as port:
        target = TlsTarget("127.0.0.1", port, ca_file=str(expired))
        assert "certificate has expired" in fault(TlsProbe(target, 5, clock))
        unverified = TlsTarget("127.0.0.1", port, verify=False)
        assert is_well(TlsProbe(unverified, 5, clock).measure())
    good = certificate_file(20)
    with scripted(tls_server(good)) as port:
        other = TlsTarget("127.0.0.1", port, server_name="www.example.com", ca_file=str(good))
        assert "Hostname mismatch" in fault(TlsProbe(other, 5, clock))


def test_a_server_without_tls_is_critical() -> None:
    with scripted(saying(b"SSH-2.0-x\r\n")) as port:
        assert "does not speak TLS" in fault(TlsProbe(TlsTarget("127.0.0.1", port), 5, clock))


GREETINGS = {
    "imap": (b"* OK ready\r\n", b"a OK go ahead\r\n"),
    "pop3": (b"+OK ready\r\n", b"+OK go ahead\r\n"),
    "ftp": (b"220 ready\r\n", b"234 go ahead\r\n"),
    "ldap": (b"", bytes.fromhex("300c02010178070a010004000400")),
}


@pytest.mark.parametrize("protocol", GREETINGS)
def test_tls_begins_after_a_word_in_the_protocol(protocol: str, certificate_file: Any) -> None:
    certificate = certificate_file(20)
    speak_tls = tls_server(certificate)

    def act(connection: socket.socket) -> None:
        greeting, consent = GREETINGS[protocol]
        connection.sendall(greeting)
        assert connection.recv(1000)
        connection.sendall(consent)
        speak_tls(connection)

    with scripted(act) as port:
        target = TlsTarget("127.0.0.1", port, starttls=protocol, ca_file=str(certificate))
        assert is_well(TlsProbe(target, 5, clock).measure())


@pytest.mark.parametrize(
    ("protocol", "answers"),
    [
        ("imap", (b"* OK ready\r\n", b"a BAD unknown\r\n")),
        ("smtp", (b"554 no\r\n",)),
        ("ldap", (b"", bytes.fromhex("300c02010178070a010204000400"))),
        ("postgres", (b"", b"N")),
        ("mysql", (b"\x4a\0\0\0\x0a" + b"5.5.5\0" + bytes(68),)),
    ],
)
def test_a_server_that_refuses_tls_is_critical(protocol: str, answers: tuple[bytes, ...]) -> None:
    with scripted(saying(*answers)) as port:
        said = fault(TlsProbe(TlsTarget("127.0.0.1", port, starttls=protocol), 5, clock))
        assert "refuses TLS" in said or "offers no TLS" in said or "refuses StartTLS" in said


def test_tls_of_a_real_postgresql_begins_after_its_request() -> None:
    with private_folder("tls") as folder:
        certificate, key = self_signed(folder)
        with postgres(folder, {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}) as server:
            target = TlsTarget("127.0.0.1", server.port, starttls="postgres", ca_file=str(certificate))
            assert is_well(TlsProbe(target, 5, clock).measure())


@pytest.fixture
def mail_server(certificate_file: Any) -> Iterator[tuple[int, Path]]:
    certificate = certificate_file(20)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    controller = Controller(Sink(), hostname="127.0.0.1", port=free_port(), tls_context=context)
    controller.start()
    yield controller.port, certificate
    controller.stop()


def test_a_mail_server_greets_and_shows_its_certificate(mail_server: tuple[int, Path]) -> None:
    port, certificate = mail_server
    assert is_well(SmtpProbe("127.0.0.1", port, 5, starttls=True).measure())
    target = TlsTarget("127.0.0.1", port, starttls="smtp", ca_file=str(certificate))
    assert is_well(TlsProbe(target, 5, clock).measure())


def test_a_mail_server_that_refuses_is_critical() -> None:
    with scripted(saying(b"554 5.7.1 go away\r\n")) as port:
        assert fault(SmtpProbe("127.0.0.1", port, 5)).endswith("greets with 554 5.7.1 go away")
    with scripted(saying(b"220 ready\r\n", b"250-me\r\n250 SIZE 1\r\n")) as port:
        assert fault(SmtpProbe("127.0.0.1", port, 5, starttls=True)).endswith("offers no STARTTLS")
    with scripted(saying(b"220 ready\r\n", b"502 what?\r\n")) as port:
        assert fault(SmtpProbe("127.0.0.1", port, 5)).endswith("refuses EHLO: 502 what?")
    with scripted(saying(b"SSH-2.0-x\r\n")) as port:
        assert "does not speak the protocol" in fault(SmtpProbe("127.0.0.1", port, 5))


def test_an_ssh_servers_key_is_known_by_its_fingerprint() -> None:
    with private_folder("ssh") as folder, sshd(folder) as (port, fingerprints):
        assert is_well(SshProbe("127.0.0.1", port, None, 5).measure())
        for fingerprint in fingerprints.values():
            assert is_well(SshProbe("127.0.0.1", port, fingerprint, 5).measure())
        said = fault(SshProbe("127.0.0.1", port, "SHA256:somebody", 5))
        assert all(fingerprint in said for fingerprint in fingerprints.values())
    with scripted(saying(b"220 mail\r\n" * 60)) as other:
        assert "does not speak SSH: it says '220 mail'" in fault(SshProbe("127.0.0.1", other, None, 5))


def test_a_dns_server_gives_what_is_expected(values: Values) -> None:
    records = ("www.office.test. 300 IN A 192.0.2.10", "www.office.test. 300 IN A 192.0.2.11",
               "office.test. 60 IN MX 10 mail.office.test.", 'office.test. IN TXT "v=spf1 -all"')  # fmt: skip
    with private_folder("dns") as folder, unbound(folder, *records) as port:

        def asked(name: str, kind: str = "A", *expect: str) -> DnsProbe:
            return DnsProbe(name, kind, "127.0.0.1", port, expect, 5)

        found = values(asked("www.office.test").measure())
        assert (found["answers"], found["ttl"]) == (2, 300)
        assert is_well(asked("WWW.office.test", "A", "192.0.2.11", "192.0.2.10").measure())
        assert is_well(asked("office.test", "MX", "10 mail.OFFICE.test").measure())
        assert is_well(asked("office.test", "TXT", "v=spf1 -all").measure())
        assert fault(asked("www.office.test", "A", "192.0.2.10")) == (
            "asked for A of www.office.test, 127.0.0.1 answers 192.0.2.10, 192.0.2.11, expected 192.0.2.10"
        )
        assert fault(asked("gone.office.test")).endswith("answers NXDOMAIN")
        assert fault(asked("office.test", "SRV")).endswith("knows none")
    with datagrams(lambda _: b"nonsense") as port:
        assert fault(DnsProbe("a.test", "A", "127.0.0.1", port, (), 0.5))


@pytest.mark.parametrize("kinds", [(socket.SOCK_DGRAM, socket.SOCK_RAW), (socket.SOCK_RAW,), ()])
def test_an_echo_comes_back_whichever_way_it_was_sent(kinds: Any, values: Values) -> None:
    probe = IcmpProbe("127.0.0.1", 2, 5, kinds)
    measured = values(probe.measure())
    assert measured["loss"] == 0
    assert 0 < measured["round_trip"] < 1


def test_an_address_that_sends_no_echo_is_critical() -> None:
    # of class E, which nobody has
    probe = IcmpProbe("240.0.0.1", 2, 0.6)
    began = time.monotonic()
    said = fault(probe)
    assert "240.0.0.1" in said
    assert time.monotonic() - began < 4


def ntp_answer(*, ahead: float = 0.0, stratum: int = 2, leap: int = 0, name: bytes = b"\x7f\0\0\1") -> Any:
    def answer(request: bytes) -> bytes:
        now = (datetime.now(UTC) - datetime(1900, 1, 1, tzinfo=UTC)).total_seconds() + ahead
        stamp = struct.pack("!II", int(now) & 0xFFFFFFFF, int(now % 1 * 2**32))
        head = struct.pack("!BBbbII", leap << 6 | 4 << 3 | 4, stratum, 6, -20, 0, 655) + name
        return head + bytes(8) + request[40:48] + stamp + stamp

    return answer


def test_a_time_server_tells_how_far_off_this_clock_is(values: Values) -> None:
    with datagrams(ntp_answer(ahead=-2.5)) as port:
        measured = NtpProbe("127.0.0.1", port, 5, clock).measure()
    assert is_well(measured)
    found = values(measured)
    assert found["offset"] == pytest.approx(2.5, abs=0.2)
    assert (found["stratum"], found["root_dispersion"]) == (2, pytest.approx(0.01, abs=0.001))


def test_the_offset_is_right_beyond_the_year_2036(values: Values) -> None:
    later = timedelta(days=365 * 12)
    with datagrams(ntp_answer(ahead=later.total_seconds())) as port:
        measured = NtpProbe("127.0.0.1", port, 5, lambda: datetime.now(UTC) + later).measure()
    assert values(measured)["offset"] < 0.5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ntp_answer(leap=3), "its own clock is not set"),
        (ntp_answer(stratum=16), "its own clock is not set"),
        (ntp_answer(stratum=0, name=b"RATE"), "sends us away: RATE"),
        (lambda _: b"hello", "something else than NTP"),
        (lambda _: ntp_answer()(os.urandom(48)), "something else than NTP"),
    ],
)
def test_a_time_server_without_time_is_critical(answer: Any, said: str) -> None:
    with datagrams(answer) as port:
        assert said in fault(NtpProbe("127.0.0.1", port, 5, clock))
