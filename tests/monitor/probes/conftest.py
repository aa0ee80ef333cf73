"""Edges for probes: time that passes when told, a /proc that holds what is written into it, certificates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from monitor.probes.sampling import Timing
from monitor.result import Measurement


@dataclass
class FakeTime:
    """A monotonic clock that moves when a probe pauses or a test says so."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)
    while_pausing: Callable[[], None] = lambda: None

    @property
    def timing(self) -> Timing:
        return Timing(lambda: self.now, self.pause)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.while_pausing()


@dataclass
class FakeProc:
    """A folder shaped like /proc."""

    path: Path

    def write(self, name: str, text: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def process(
        self, pid: int, name: str, *, state: str = "S", arguments: str = "", cpu_ticks: int = 0, pages: int = 100,
        started_ticks: int = 0, files: int = 0,
    ) -> None:  # fmt: skip
        """A process; the ``stat`` line is one of Linux 6.1 with the given fields put in."""
        numbers = f"1 {pid} {pid} 0 -1 4194560 1200 0 3 0 {cpu_ticks} 0 0 0 20 0 1 0 {started_ticks} 3133440 {pages}"
        rest = "18446744073709551615 1 1 0 0 0 0 0 16781312 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0"
        self.write(f"{pid}/stat", f"{pid} ({name}) {state} {numbers} {rest}\n")
        self.write(f"{pid}/cmdline", "".join(f"{word}\0" for word in arguments.split()))
        (self.path / str(pid) / "fd").mkdir(exist_ok=True)
        for number in range(files):
            self.write(f"{pid}/fd/{number}", "")


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path / "proc")


@pytest.fixture
def psutil_proc(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    """The same, where psutil looks."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc.path))
    return proc


@pytest.fixture
def values() -> Callable[[Measurement], dict[str, float]]:
    """Readings as a dictionary: ``name``, or ``entity/name`` where there are entities."""

    def by_name(measurement: Measurement) -> dict[str, float]:
        return {
            f"{reading.entity}/{reading.name}" if reading.entity else reading.name: reading.value
            for reading in measurement.readings
        }

    return by_name


CAPTURED = Path(__file__).with_name("captured")


@dataclass
class FakeTools:
    """A folder of programs that print what the real ones did. ``path`` goes where a probe takes a $PATH."""

    folder: Path

    @property
    def path(self) -> str:
        return str(self.folder)

    def add(self, name: str, *answers: tuple[str, str] | tuple[str, str, int]) -> None:
        """A program; each answer is a pattern of its arguments, a captured file (or text), and an exit status."""
        cases = []
        for pattern, answer, *status in answers:
            file = CAPTURED / answer
            if not file.is_file():
                file = self.folder / f"{name}.{len(cases)}"
                file.write_text(answer, encoding="utf-8")
            cases.append(f"*'{pattern}'*) /bin/cat '{file}'; exit {status[0] if status else 0};;")
        script = "#!/bin/sh\ncase \"$*\" in\n" + "\n".join(cases) + '\nesac\necho "unexpected: $*" >&2; exit 99\n'
        # Written aside and moved: a program that is being written cannot be started by another thread's child.
        new = self.folder / f"{name}.new"
        new.write_text(script, encoding="utf-8")
        new.chmod(0o755)
        new.rename(self.folder / name)


@pytest.fixture
def tools(tmp_path: Path) -> FakeTools:
    folder = tmp_path / "tools"
    folder.mkdir()
    return FakeTools(folder)


@pytest.fixture
def captured() -> Callable[[str], str]:
    """Read a captured file."""
    return lambda name: (CAPTURED / name).read_text(encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Write files below a folder, such as one shaped like /sys; returns the folder."""

    def write(files: dict[str, str]) -> Path:
        root = tmp_path / "tree"
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        root.mkdir(exist_ok=True)
        return root

    return write


def self_signed(not_before: datetime, not_after: datetime) -> tuple[bytes, bytes]:
    """Return a certificate for localhost and 127.0.0.1, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), not_before, not_after)
    certificate = (
        builder.add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


@pytest.fixture
def certificate_file(tmp_path: Path) -> Callable[[float], Path]:
    """Write a self-signed certificate that has ``days_left`` days, with its key, into one file."""

    def write(days_left: float) -> Path:
        now = datetime.now(UTC)
        path = tmp_path / f"certificate {days_left}.pem"
        path.write_bytes(b"".join(self_signed(now - timedelta(days=90), now + timedelta(days=days_left))))
        return path

    return write
