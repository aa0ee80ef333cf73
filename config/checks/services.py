"""Settings of checks of what runs here or answers over the network."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from config.checks.base import WEB_ADDRESS, CheckBase, Pattern, Port, Readings
from config.expansion import Expandable, SecretText
from config.model import AbsolutePath


class ProcessCheck(CheckBase):
    """One program's processes. Main reading `count`; also `cpu` (cores), `memory_bytes`, `open_files`, `oldest`
    (seconds).

    Critical when there is none, unless thresholds are given.
    """

    type: Literal["process"]
    readings: ClassVar[Readings] = {
        "count": "count",
        "cpu": "number",
        "memory_bytes": "bytes",
        "open_files": "count",
        "oldest": "seconds",
    }
    command: str = Field(min_length=1, examples=["nginx"])
    """Name of the program, or a regular expression searched in its command line when `match` is `regex`."""
    match: Literal["name", "regex"] = "name"
    """How `command` is compared."""


class TcpCheck(CheckBase):
    """A TCP connection. Main reading `connect_time` (seconds); also `response_time` (seconds) where something is sent
    or expected.

    Critical when it is refused or times out, or the answer is not what is expected.
    """

    type: Literal["tcp"]
    readings: ClassVar[Readings] = {"connect_time": "seconds", "response_time": "seconds"}
    host: str = Field("127.0.0.1", min_length=1)
    """Name or address."""
    port: Port = Field(examples=[5432])
    """Port."""
    send: SecretText | None = Field(None, examples=["PING\\r\\n"])
    """Text sent once connected; write what cannot be typed as `\\r`, `\\n` or `\\x00`."""
    expect: Pattern | None = Field(None, examples=["^220 "])
    """Regular expression that the answer must match."""


class UdpCheck(CheckBase):
    """A UDP service that answers. Main reading `response_time` (seconds).

    Critical when no answer comes in time, or one that is not expected.
    """

    type: Literal["udp"]
    readings: ClassVar[Readings] = {"response_time": "seconds"}
    host: str = Field("127.0.0.1", min_length=1)
    """Name or address."""
    port: Port = Field(examples=[514])
    """Port."""
    send: SecretText = Field(examples=["\\xff\\xff\\xff\\xffgetinfo"])
    """What is sent; write what cannot be typed as `\\r`, `\\n` or `\\x00`."""
    expect: Pattern | None = Field(None, examples=["infoResponse"])
    """Regular expression that the answer must match."""


class HttpCheck(CheckBase):
    """An HTTP request. Main reading `response_time` (seconds); also `status_code`, `certificate_expires_in` (seconds).

    Critical when there is no answer, the status is not expected, or the body or a header is not what is expected.
    """

    type: Literal["http"]
    readings: ClassVar[Readings] = {
        "response_time": "seconds",
        "status_code": "count",
        "certificate_expires_in": "seconds",
    }
    url: Expandable = Field(pattern=WEB_ADDRESS, examples=["https://www.example.com/health"])
    """Address."""
    method: Literal["GET", "HEAD", "POST"] = "GET"
    """Method."""
    headers: dict[str, SecretText] = Field({}, examples=[{"Authorization": "Bearer ${HEALTH_TOKEN}"}])
    """Headers sent; write secrets in them as ${VARIABLE}."""
    body: SecretText | None = Field(None, examples=["ping"])
    """Body sent."""
    expect_status: list[int] = [200]
    """Accepted status codes."""
    contains: str | None = Field(None, examples=["ready"])
    """Text that must be in the body."""
    matches: Pattern | None = Field(None, examples=["version [0-9]+"])
    """Regular expression that must match somewhere in the body."""
    expect_json: dict[str, str | int | float | bool] = Field(
        {}, examples=[{"status": "ok", "queues[0].length": "< 100"}]
    )
    """What must stand in a JSON body: path to value, or to a comparison: `< 100`, `>= 3`, `!= failed`, `~ ^v2`."""
    expect_headers: dict[str, Pattern] = Field({}, examples=[{"Content-Type": "^application/json"}])
    """Headers of the answer, and the regular expressions that they must match."""
    verify_tls: bool = True
    """Whether the certificate must be valid."""


class TlsCheck(CheckBase):
    """The certificates that a server shows. Main reading `expires_in` (seconds, negative when it has); also
    `chain_expires_in` (the first of all that it sends), `handshake_time` (seconds).

    Critical when there is no TLS, or the chain does not hold: expired, self-signed, for another name, incomplete. Its
    readings are given all the same.
    """

    type: Literal["tls"]
    readings: ClassVar[Readings] = {
        "expires_in": "seconds",
        "chain_expires_in": "seconds",
        "handshake_time": "seconds",
    }
    defaults: ClassVar[Mapping[str, object]] = {"every": "1h", "warning": "< 30d", "critical": "< 7d"}
    host: str = Field("127.0.0.1", min_length=1, examples=["mail.example.com"])
    """Name or address."""
    port: Port = 443
    """Port."""
    starttls: Literal["smtp", "imap", "pop3", "ftp", "ldap", "postgres", "mysql"] | None = Field(
        None, examples=["smtp"]
    )
    """Protocol in which TLS is asked for, where it does not begin at once."""
    server_name: str | None = Field(None, examples=["www.example.com"])
    """Name asked for and held against the certificate; `host` when left out."""
    ca_file: AbsolutePath | None = Field(None, examples=["/etc/ssl/office-ca.pem"])
    """Authorities to trust instead of the system's."""
    verify: bool = True
    """Whether the chain must hold; its end is watched in any case."""


class DnsCheck(CheckBase):
    """A DNS look-up. Main reading `response_time` (seconds); also `answers`, `ttl` (seconds, the lowest).

    Critical when the server does not answer, refuses, has no such record, or says something else than expected.
    """

    type: Literal["dns"]
    readings: ClassVar[Readings] = {"response_time": "seconds", "answers": "count", "ttl": "seconds"}
    record: str = Field(min_length=1, examples=["www.example.com"])
    """Name that is looked up."""
    kind: Literal["A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] = "A"
    """Kind of record."""
    server: str | None = Field(None, examples=["192.0.2.53"])
    """Address of the server that is asked; the system's when left out."""
    port: Port = 53
    """Its port."""
    expect: list[str] = Field([], examples=[["192.0.2.10"]])
    """Answers that must be given, all of them and no other, as zone files write them."""


class IcmpCheck(CheckBase):
    """Echoes (ping). Main reading `loss` (ratio); also `round_trip` (seconds, the median), `jitter` (seconds, between
    the fastest and the slowest).

    Critical when no echo comes back.
    """

    type: Literal["icmp"]
    readings: ClassVar[Readings] = {"loss": "ratio", "round_trip": "seconds", "jitter": "seconds"}
    defaults: ClassVar[Mapping[str, object]] = {"warning": "> 50%"}
    host: str = Field(min_length=1, examples=["192.0.2.1"])
    """Name or address."""
    count: int = Field(3, ge=1, le=20)
    """How many echoes are asked for, a fifth of a second apart."""


class SmtpCheck(CheckBase):
    """A mail server that greets and takes EHLO. Main reading `response_time` (seconds).

    Critical when it does not, or refuses TLS where it is asked for. No mail is sent.
    """

    type: Literal["smtp"]
    readings: ClassVar[Readings] = {"response_time": "seconds"}
    host: str = Field("127.0.0.1", min_length=1, examples=["mail.example.com"])
    """Name or address."""
    port: Port = 25
    """Port."""
    starttls: bool = False
    """Whether it must offer STARTTLS; a `tls` check looks at the certificate."""


class SshCheck(CheckBase):
    """An SSH server: its banner and its host key. Main reading `response_time` (seconds).

    Critical when it does not speak SSH, or shows another key than expected.
    """

    type: Literal["ssh"]
    readings: ClassVar[Readings] = {"response_time": "seconds"}
    host: str = Field("127.0.0.1", min_length=1, examples=["erp-2.example.com"])
    """Name or address."""
    port: Port = 22
    """Port."""
    fingerprint: str | None = Field(None, examples=["SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKZIDTMczCvj3tD2s"])
    """Fingerprint of its Ed25519, ECDSA or RSA host key, as `ssh-keygen -lf` prints it; not looked at when left out."""


class NtpCheck(CheckBase):
    """A time server against this machine's clock. Main reading `offset` (seconds, without sign); also `stratum`,
    `round_trip` (seconds), `root_dispersion` (seconds).

    Critical when it does not answer, or says that it has no time itself.
    """

    type: Literal["ntp"]
    readings: ClassVar[Readings] = {
        "offset": "seconds",
        "stratum": "count",
        "round_trip": "seconds",
        "root_dispersion": "seconds",
    }
    defaults: ClassVar[Mapping[str, object]] = {"every": "5m", "for": "10m", "warning": "> 50ms"}
    host: str = Field(min_length=1, examples=["pool.ntp.org"])
    """Name or address."""
    port: Port = 123
    """Port."""
