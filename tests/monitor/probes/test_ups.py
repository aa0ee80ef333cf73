"""Uninterruptible power supplies: Debian's upsd with a supply that does not exist, and one that answers nonsense."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from config.selection import Selection
from monitor.probes.ups import UpsProbe
from monitor.result import NoData, ProbeError
from tests.servers.private import accepts, free_port, path_of, private_folder, running

ON_LINE = (
    "ups.status: OL\nbattery.charge: 100\nups.load: 23\nbattery.runtime: 1800\ninput.voltage: 231.4\n"
    "ups.temperature: 31.5\n"
)
FAILING = "ups.status: OB LB RB DISCHRG\nbattery.charge: 9\nups.load: 91\nbattery.runtime: 95\n"


class Nut:
    """upsd with one supply, ``rack``, that says what is written into a file."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def probe(self, **about: Any) -> UpsProbe:
        return UpsProbe("127.0.0.1", self.port, 5, **about)

    def says(self, text: str) -> None:
        new = self.folder / "rack.new"
        new.write_text(text)
        new.chmod(0o644)
        new.rename(self.folder / "rack.dev")


@pytest.fixture(scope="module")
def nut() -> Iterator[Nut]:
    port = free_port()
    with private_folder("nut") as folder, ExitStack() as servers:
        one = Nut(folder, port)
        one.says(ON_LINE)
        user = "nobody" if os.geteuid() == 0 else Path(f"/proc/{os.getpid()}").owner()
        (folder / "ups.conf").write_text("[rack]\ndriver = dummy-ups\nport = rack.dev\nmode = dummy-once\n")
        (folder / "upsd.conf").write_text(f"LISTEN 127.0.0.1 {port}\nSTATEPATH {folder}\n")
        (folder / "upsd.users").write_text("")
        (folder / "nut.conf").write_text("MODE=standalone\n")
        variables = {"NUT_CONFPATH": str(folder), "NUT_STATEPATH": str(folder), "NUT_ALTPIDPATH": str(folder)}
        # /usr/sbin/upsd is a script that goes by /etc/nut/nut.conf
        driver, upsd = (path_of(name, "/lib/nut", "/usr/lib/nut") for name in ("dummy-ups", "upsd"))
        for name in ("ups.conf", "upsd.conf", "upsd.users", "nut.conf"):
            (folder / name).chmod(0o644)
        command = [driver, "-a", "rack", "-F", "-u", user]
        ready = lambda: any(folder.glob("dummy-ups-rack*"))  # noqa: E731 - its socket
        servers.enter_context(running(command, folder, ready, variables=variables))
        servers.enter_context(running([upsd, "-F", "-u", user], folder, accepts(port), variables=variables))
        yield one


def until(probe: UpsProbe, met: Callable[[dict[str, float]], bool], values: Any) -> dict[str, float]:
    """Measure until it is so: upsd hears of changes when its driver next looks."""
    deadline = time.monotonic() + 20
    while True:
        found: dict[str, float] = values(probe.measure())
        if met(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def test_a_supply_on_the_mains_then_on_battery_as_a_real_upsd_tells_it(nut: Nut, values: Any) -> None:
    found = until(nut.probe(), lambda found: found.get("rack/charge") == 1, values)
    assert found == {
        "rack/on_battery": 0, "rack/low_battery": 0, "rack/replace_battery": 0, "rack/overloaded": 0,
        "rack/charge": 1, "rack/load": pytest.approx(0.23), "rack/time_left": 1800, "rack/input_volts": 231.4,
        "rack/celsius": 31.5,
    }  # fmt: skip
    nut.says(FAILING)
    found = until(nut.probe(), lambda found: found["rack/on_battery"] == 1 and found["rack/time_left"] == 95, values)
    assert (found["rack/on_battery"], found["rack/low_battery"], found["rack/replace_battery"]) == (1, 1, 1)
    assert (found["rack/charge"], found["rack/load"]) == (0.09, 0.91)


def test_a_named_supply_that_upsd_does_not_know_is_missing(nut: Nut) -> None:
    measured = nut.probe(selection=Selection(["rack", "cellar"])).measure()
    assert measured.missing == ["cellar"]
    with pytest.raises(NoData):
        nut.probe(selection=Selection(exclude=["*"])).measure()


def test_without_upsd_nobody_knows(values: Any) -> None:
    with pytest.raises(ProbeError, match="connection refused") as failed:
        UpsProbe("127.0.0.1", free_port(), 5).measure()
    assert "nut-server" in failed.value.hint


@pytest.fixture
def scripted() -> Iterator[Callable[[dict[bytes, bytes]], UpsProbe]]:
    """A server that answers requests from a table, and hangs up on others."""
    with ExitStack() as stack:

        def serve(answers: dict[bytes, bytes], timeout: float = 5) -> UpsProbe:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def answer() -> None:
                with suppress(OSError), listener.accept()[0] as connection:
                    while line := connection.recv(1000):
                        if line not in answers:
                            return
                        connection.sendall(answers[line])

            threading.Thread(target=answer, daemon=True).start()
            return UpsProbe("127.0.0.1", listener.getsockname()[1], timeout)

        yield serve


LIST = b'BEGIN LIST UPS\nUPS rack "the \\"big\\" one"\nEND LIST UPS\n'


def test_a_supply_that_upsd_has_lost_is_unknown_with_its_reason(scripted: Any, values: Any) -> None:
    measured = scripted({b"LIST UPS\n": LIST, b"LIST VAR rack\n": b"ERR DATA-STALE\n"}).measure()
    assert math.isnan(values(measured)["rack/on_battery"])
    assert "DATA-STALE" in measured.notes["rack"]


def test_a_supply_without_a_status_is_unknown_and_not_on_the_mains(scripted: Any, values: Any) -> None:
    rows = b'BEGIN LIST VAR rack\nVAR rack battery.charge "n/a"\nEND LIST VAR rack\n'
    found = values(scripted({b"LIST UPS\n": LIST, b"LIST VAR rack\n": rows}).measure())
    assert math.isnan(found["rack/on_battery"])
    assert "rack/charge" not in found


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\n", "answered"),
        (b'BEGIN LIST UPS\nUPS "open\nEND LIST UPS\n', "cannot read"),
        (b"BEGIN LIST UPS\n" + b"x" * 300_000, "too long"),
        (b"BEGIN LIST", "no answer in time"),
    ],
)
def test_what_is_no_upsd_is_an_error(scripted: Any, answer: bytes, words: str) -> None:
    with pytest.raises(ProbeError, match=words):
        scripted({b"LIST UPS\n": answer}, 0.5).measure()


def test_a_server_that_hangs_up_is_an_error(scripted: Any) -> None:
    with pytest.raises(ProbeError, match="hung up"):
        scripted({}).measure()
