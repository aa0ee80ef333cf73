"""Small servers of Debian for a test, one function each: they start in a moment and need no more than a file."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers.private import accepts, free_port, hand_over, path_of, run, running


@contextlib.contextmanager
def memcached(folder: Path) -> Iterator[int]:
    """Have memcached with 8 MiB; gives its port."""
    port = free_port()
    with running([path_of("memcached"), "-l", "127.0.0.1", "-p", port, "-U", 0, "-m", 8], folder, accepts(port)):
        yield port


@contextlib.contextmanager
def mosquitto(folder: Path, *, password: str | None = None) -> Iterator[int]:
    """Have mosquitto, open to all or to ``keeper`` with ``password``; gives its port."""
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "sys_interval 1", f"allow_anonymous {str(password is None).lower()}"]
    if password:
        users = folder / "users"
        run([path_of("mosquitto_passwd"), "-b", "-c", users, "keeper", password], folder)
        lines.append(f"password_file {users}")
    settings = _written(folder, "mosquitto.conf", lines)
    with running([path_of("mosquitto"), "-c", settings], folder, accepts(port)):
        yield port


@contextlib.contextmanager
def nats(folder: Path, *, token: str | None = None) -> Iterator[tuple[int, int]]:
    """Have NATS; gives its port and that of its monitoring."""
    port, monitoring = free_port(), free_port()
    secret = ["--auth", token] if token else []
    command = [path_of("nats-server"), "-a", "127.0.0.1", "-p", port, "-m", monitoring, *secret]
    with running(command, folder, lambda: accepts(port)() and accepts(monitoring)()):
        yield port, monitoring


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Have an SSH server; gives its port, and the fingerprint of its key of each kind."""
    port = free_port()
    lines = [f"ListenAddress 127.0.0.1:{port}", f"PidFile {folder}/pid", "UsePAM no"]
    fingerprints = {}
    for kind in ("ed25519", "ecdsa", "rsa"):
        key = folder / f"key_{kind}"
        run([path_of("ssh-keygen"), "-q", "-t", kind, "-N", "", "-f", key], folder)
        fingerprints[kind] = run([path_of("ssh-keygen"), "-lf", key], folder).stdout.split()[1]
        lines.append(f"HostKey {key}")
    settings = _written(folder, "sshd_config", lines)
    with running([path_of("sshd"), "-D", "-e", "-f", settings], folder, accepts(port)):
        yield port, fingerprints


@contextlib.contextmanager
def unbound(folder: Path, *records: str) -> Iterator[int]:
    """Have a DNS server that knows ``records`` (lines of a zone file) of the zone ``office.test``; gives its port."""
    port = free_port(socket.SOCK_DGRAM)
    lines = [
        "server:", f"interface: 127.0.0.1@{port}", 'chroot: ""', 'username: ""', 'pidfile: ""', "do-daemonize: no",
        'module-config: "iterator"', "use-syslog: no", f"directory: {folder}", 'local-zone: "office.test." static',
        "do-not-query-localhost: no", *(f"local-data: '{record}'" for record in records),
        "remote-control:", "control-enable: no",
    ]  # fmt: skip
    settings = _written(folder, "unbound.conf", lines)
    with running([path_of("unbound"), "-d", "-c", settings], folder, accepts(port)):
        yield port


def self_signed(folder: Path, *, days: int = 30) -> tuple[Path, Path]:
    """Write a certificate for localhost and its key, both the server's, and return their paths."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", str(days),
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    for path in (certificate, key):
        path.chmod(0o600)
        hand_over(path)
    return certificate, key


def _written(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    hand_over(path)
    return path
