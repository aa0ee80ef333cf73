"""A small living invoice office, watched and backed up by keepwatch: `make demo`.

It issues invoices, keeps a ledger and an archive, reports to a tax authority, and has bad luck on a timetable. Every
part is real: files, a database, processes and ports on loopback; only the customers are invented.
    keepwatch  http://127.0.0.1:9751/      the office's desk  http://127.0.0.1:9752/
Everything lies below --directory and is kept; Ctrl-C ends everything.
"""

import argparse
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import faults
from faults import Fault, Timetable
from ledger import Books
from services import Desk, Gateway, Portal

HERE = Path(__file__).resolve().parent
PAST_INVOICES = 400
STOP_SECONDS = 60.0
EXERCISE_AFTER = 45.0


def say(text: str) -> None:
    """One line on the terminal."""
    sys.stdout.write(f"{datetime.now().astimezone():%H:%M:%S}  {text}\n")
    sys.stdout.flush()


class Importer:
    """The importer's process, which can be let die and started again."""

    def __init__(self, office: Path) -> None:
        self.command = [sys.executable, str(HERE / "importer.py"), str(office)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, start_new_session=True)

    def die(self) -> None:
        """Let it die without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
            self._process = None


class Office:
    """Everything below one directory and on four ports from ``port`` on: keepwatch, desk, gateway, portal."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.keepwatch_url = f"http://127.0.0.1:{port}/"
        self.listen = f"127.0.0.1:{port}"
        self.portal_port = port + 3
        self.office = directory / "office"
        self.in_tray = self.office / "in-tray"
        self.in_tray.mkdir(parents=True, exist_ok=True)
        self.books = Books(self.office)
        self.gateway = Gateway(port + 2)
        self.portal = Portal(self.portal_port, self.books)
        self.importer = Importer(self.office)
        self.timetable = Timetable(self._faults())
        self.desk = Desk(port + 1, self.books, self.timetable.going_on, self.keepwatch_url)
        self._stop = threading.Event()

    def open(self) -> None:
        """Start services and people. Raises OSError when a port is taken."""
        for service in (self.gateway.service, self.portal.service, self.desk.service):
            service.open()
        self.books.fill(PAST_INVOICES, datetime.now(UTC))
        self.importer.start()
        for work, pause in ((self._clerk, 2.0), (self._scanner, 4.0), (self._sync, 3.0)):
            threading.Thread(target=self._again_and_again, args=(work, pause), daemon=True).start()

    def close(self) -> None:
        """Send everybody home."""
        self._stop.set()
        self.importer.die()
        for service in (self.gateway.service, self.portal.service, self.desk.service):
            service.close()

    def write_settings(self) -> Path:
        """Write keepwatch.toml, and the repository's password at the first time. Returns the file."""
        password = self.directory / "repository.password"
        if not password.exists():
            descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        values: dict[str, object] = {
            "state": self.directory / "state", "listen": self.listen, "repository": self.directory / "repository",
            "offsite": self.directory / "offsite", "plans": HERE / "plans", "password": password,
            "archive": self.books.archive, "ledger": self.books.ledger, "past_invoices": PAST_INVOICES,
            "portal": self.portal_port,
            "inbox": self.desk.url.replace("http:", "json:") + "/inbox", "gateway": f"{self.gateway.url}/health",
            "importer": _as_regex(" ".join(self.importer.command[1:])),
        } | {f"check_{what}": _line(HERE / "check_office.py", what, self.office)
             for what in ("sync", "documents", "permissions", "quota")}  # fmt: skip
        text = (HERE / "keepwatch.toml.in").read_text(encoding="utf-8")
        for name, value in values.items():
            shown = value if isinstance(value, int) else str(value)
            text = text.replace(f"@{name}@", json.dumps(shown, ensure_ascii=False))
        file = self.directory / "keepwatch.toml"
        file.write_text(text, encoding="utf-8")
        return file

    def _faults(self) -> list[Fault]:
        archive, gateway, portal = self.books.archive, self.gateway, self.portal
        return [
            Fault("the tax authority takes no invoices", "tax authority sync", 15, 75,
                  gateway.stalled.set, gateway.stalled.clear),
            Fault("a document has vanished", "documents complete", 30, 70,
                  lambda: faults.hide(self._document(-20)), lambda: faults.bring_back(archive)),
            Fault("the customers' portal is closed", "customer portal", 85, 120,
                  portal.service.close, portal.service.open),
            Fault("the tax gateway is out of order", "tax gateway", 110, 150, gateway.ill.set, gateway.ill.clear),
            Fault("the importer has died", "importer", 145, 185, self.importer.die, self.importer.start),
            Fault("a document cannot be read any more", "document permissions", 170, 225,
                  lambda: faults.lock_out(self._document(-30)), lambda: faults.let_in(archive)),
            Fault("the in-tray is stuffed", "in-tray quota", 210, 250,
                  lambda: faults.stuff(self.in_tray), lambda: faults.clear_out(self.in_tray)),
        ]  # fmt: skip

    def _document(self, index: int) -> Path:
        return self.books.documents()[index][1]

    def _again_and_again(self, work: Callable[[], None], pause: float) -> None:
        while not self._stop.wait(pause):
            work()

    def _clerk(self) -> None:
        self.books.issue(datetime.now(UTC))

    def _scanner(self) -> None:
        now = datetime.now(UTC)
        (self.in_tray / f"{now:%Y%m%d-%H%M%S}.scan").write_bytes(secrets.token_bytes(40_000))

    def _sync(self) -> None:
        """Send what the tax authority does not know yet; what it refuses is sent again next time."""
        waiting = self.books.unsynced(100)
        request = urllib.request.Request(f"{self.gateway.url}/invoices", json.dumps(waiting).encode())  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=2):  # noqa: S310 - our own loopback address
                self.books.synced([number for number, _ in waiting], datetime.now(UTC))
        except (urllib.error.URLError, OSError):
            return


def _line(script: Path, *arguments: object) -> str:
    return shlex.join([sys.executable, str(script), *map(str, arguments)])


def _as_regex(text: str) -> str:
    """Escape what a regular expression would read as more than a letter."""
    return "".join(f"\\{letter}" if letter in r"\.^$*+?{}[]|()" else letter for letter in text)


class Exercises:
    """Anna exercises every emergency plan once, one after the other, as soon as there is something to bring back."""

    def __init__(self, program: Path, settings: Path) -> None:
        self._command = [program, "plan", "exercise", "--quiet", "--author", "Anna Weber", "--config", settings]
        self._ahead = sorted(file.stem for file in (HERE / "plans").glob("*.md"))
        self._plan = ""
        self._process: subprocess.Popen[str] | None = None

    def advance(self, seconds: float) -> list[str]:
        """Go on with it, ``seconds`` after the start; return what there is to say."""
        said = []
        if self._process is not None and self._process.poll() is not None:
            words = self._process.communicate()[0].strip().splitlines()
            said.append(f"plan exercise: {words[-1] if words else self._plan}")
            self._process = None
        if self._process is None and self._ahead and seconds >= EXERCISE_AFTER:
            self._plan = self._ahead.pop(0)
            self._process = subprocess.Popen(
                [*self._command, self._plan], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        return said

    def stop(self) -> None:
        """End the one under way."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=STOP_SECONDS)


def run(office: Office, stopping: list[int]) -> int:
    """Open the office, run keepwatch beside it, and let things go wrong until a signal comes."""
    settings = office.write_settings()
    log = office.directory / "keepwatch.log"
    office.open()
    program = Path(sys.executable).with_name("keepwatch")
    exercises = Exercises(program, settings)
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches only this program, which passes it on once.
        keepwatch = subprocess.Popen(
            [program, "run", "--config", settings],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    say(f"keepwatch             {office.keepwatch_url}")
    say(f"the office's desk     {office.desk.url}/")
    say(f"keepwatch's own log   {log}")
    say("first trouble in a quarter of a minute; Ctrl-C ends everything")
    began = time.monotonic()
    try:
        while not stopping and keepwatch.poll() is None:
            seconds = time.monotonic() - began
            for line in [*office.timetable.advance(seconds), *exercises.advance(seconds)]:
                say(line)
            time.sleep(0.2)
        if keepwatch.poll() is not None:
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            sys.stderr.write("\n".join(["keepwatch has ended; its last words:", *tail, ""]))
        exercises.stop()
        return _stop(keepwatch, stopping)
    finally:
        if keepwatch.poll() is None:
            keepwatch.kill()


def _stop(keepwatch: "subprocess.Popen[bytes]", stopping: list[int]) -> int:
    """Pass every signal on, wait, and return keepwatch's exit status."""
    deadline, passed_on = time.monotonic() + STOP_SECONDS, 0
    if keepwatch.poll() is None:
        say("closing")
    while keepwatch.poll() is None and time.monotonic() < deadline:
        for _ in stopping[passed_on:]:
            keepwatch.send_signal(signal.SIGINT)
            passed_on += 1
        time.sleep(0.05)
    return keepwatch.returncode if keepwatch.returncode is not None else 1


def main() -> int:
    """Read the command line and run the office."""
    parser = argparse.ArgumentParser(description="A small living invoice office, watched and backed up by keepwatch.")
    parser.add_argument("--directory", type=Path, default=Path(".demo"), help="where everything is kept")
    parser.add_argument("--port", type=int, default=9751, help="first of four ports")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: stopping.append(received))
    office = Office(arguments.directory.resolve(), arguments.port)
    try:
        return run(office, stopping)
    except OSError as error:
        sys.stderr.write(f"opening the office on ports {arguments.port} to {arguments.port + 3}: {error}\n")
        sys.stderr.write('hint: end what uses them, or take others: make demo ARGS="--port 9800"\n')
        return 1
    finally:
        office.close()


if __name__ == "__main__":
    sys.exit(main())
