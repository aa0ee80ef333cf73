"""alerts, why, ack, silence and replay as an operator types them, on a monitor.db that an engine wrote."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from config.loading import load
from keepwatch.cli.app import run
from keepwatch.clock import now
from keepwatch.watch import policies_of
from monitor.actions import Actions
from monitor.engine import AlertEngine
from monitor.history import History
from monitor.judge import judge
from monitor.result import Reading, Result, Status
from monitor.store import MonitorStore

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SETTINGS = """
[daemon]
timezone = "UTC"
host = "erp-1"

[[checks]]
name = "root disk"
type = "disk"
warning = { raise = "> 85%", clear = "< 80%" }
critical = "> 95%"
for = "2m"
on_critical = { run = "/usr/local/sbin/clean-tmp" }

[[checks]]
name = "web"
type = "tcp"
port = 80
depends_on = ["root disk"]

[[notify]]
name = "ops"
url = "json://127.0.0.1:1/"

[[notify]]
name = "boss"
url = "json://127.0.0.1:1/"
severities = ["critical"]
escalate_after = "30m"

[[maintenance]]
name = "always"
window = "00:00-24:00"
matchers = ["check=web"]
"""
Capture = pytest.CaptureFixture[str]


class Machine:
    """Two hours of a disk, seen by an engine."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "keepwatch.toml"
        self.config.write_text(SETTINGS)
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.settings = load(self.config, environ={}, state_dir=self.state)
        self.store = MonitorStore(self.state / "monitor.db")
        self.history = History(self.store)
        self.began = now() - 2 * HOUR
        self.engine = AlertEngine(
            self.store, policies_of(self.settings), self.settings.notify, host="erp-1", now=self.began,
            startup_grace=timedelta(0),
        )  # fmt: skip

    def live(self, used) -> None:
        """``used(minute)`` for two hours, up to now."""
        check = self.settings.checks[0]
        standing: dict[str, Status] = {}
        for minute in range(121):
            at = self.began + minute * MINUTE
            reading = Reading("used", used(minute), "ratio")
            verdict = judge([reading], check.warning, check.critical, standing)
            standing = dict(verdict.standing)
            result = Result(
                "root disk", "", verdict.status, f"/ is {used(minute):.0%} full", at, 0.0, (reading,), standing=standing
            )
            self.history.add([result])
            self.engine.take([result, Result("web", "", Status.CRITICAL, "refused", at, 0.0)], at)
            self.engine.tick(at)
        self.history.flush(self.began + 2 * HOUR)
        self.engine.tick(self.began + 2 * HOUR + MINUTE)

    def run(self, *words: str) -> int:
        return run([*words, "--config", str(self.config), "--state-dir", str(self.state)])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.store.close()


def test_why_tells_the_whole_way_from_the_reading_to_each_channel(machine: Machine, capsys: Capture) -> None:
    machine.live(lambda minute: 0.7 if minute < 100 else 0.97)
    assert machine.run("why", "root disk") == 0
    said = capsys.readouterr().out
    for part in (
        "root disk (", "/ is 97% full", "critical: main reading > 95%, until <= 85.5 %", "warning: main reading > 85%",
        "firing as critical since", "results; fires after 2m", "held back\n  by nothing", "channel ops",
        "was told nothing", "owed (firing): it fires, and the channel was not told", "in the outbox since",
        "channel boss", "the channel steps in when nobody has acknowledged it for another 1", "clean-tmp: requested",
        "fired (critical)", "used was 0.97",
    ):  # fmt: skip
        assert part in said, f"{part!r} is not in:\n{said}"


def test_why_tells_what_holds_an_alert_back(machine: Machine, capsys: Capture) -> None:
    machine.live(lambda _: 0.97)
    assert machine.run("why", "web") == 0
    said = capsys.readouterr().out
    assert "depends on root disk, which is critical" in said
    assert "maintenance always" in said
    assert "owed nothing: held back: maintenance always; depends on root disk" in said


def test_why_knows_alerts_that_are_over_and_says_so_of_none(machine: Machine, capsys: Capture) -> None:
    machine.live(lambda minute: 0.97 if minute < 60 else 0.5)
    assert machine.run("why", "root disk", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["alert"]["state"] == "resolved"
    assert any("recovered" in line for section in found["trace"] for line in section["lines"])
    assert machine.run("why", "nothing") == 2
    assert "keepwatch alerts" in capsys.readouterr().err


def test_an_accepted_value_is_shown_and_asked_about(machine: Machine, capsys: Capture) -> None:
    machine.live(lambda _: 0.9)
    assert machine.run("ack", "root disk", "--baseline", "--author", "eve", "-c", "known") == 0
    assert "accepts used up to 0.9" in capsys.readouterr().out
    assert machine.run("alerts") == 0
    assert "eve accepts used at 0.9" in capsys.readouterr().out
    assert machine.run("why", "root disk") == 0
    assert "used accepted by eve up to 0.9: known" in capsys.readouterr().out
    assert machine.run("ack", "web", "--baseline") == 2
    assert "is not about a number" in capsys.readouterr().err


def test_the_audit_tells_what_alerts_had_run(machine: Machine, capsys: Capture) -> None:
    machine.live(lambda _: 0.97)
    machine.engine.take([Result("root disk", "", Status.OK, "", now(), 0.0)], now())
    Actions(machine.store, now()).run_due(now())
    assert machine.run("alerts", "--actions") == 0
    said = capsys.readouterr().out
    assert "/usr/local/sbin/clean-tmp" in said
    assert "dropped" in said


def test_replay_shows_what_todays_rules_would_have_said(machine: Machine, capsys: Capture) -> None:
    machine.live(lambda minute: 0.9 if 20 <= minute < 40 else 0.97 if 60 <= minute < 63 else 0.7)
    machine.config.write_text(SETTINGS.replace('for = "2m"', 'for = "10m"'))
    assert machine.run("replay", "root disk", "--since", "3h", "--json") == 0
    played = json.loads(capsys.readouterr().out)
    assert [(one["change"], one["alert"]["severity"]) for one in played["would"]] == [
        ("fired", "warning"), ("resolved", "warning"),
    ]  # fmt: skip
    assert [one["change"] for one in played["did"]].count("fired") == 2
    assert machine.run("replay", "--since", "3h") == 0
    said = capsys.readouterr()
    assert "today's rules" in said.out
    assert "what was" in said.out
    assert "1 would have fired by today's rules, 3 did" in said.err
    assert "nothing is on record of: web" in said.err
    assert machine.run("replay", "disc") == 2


def test_replay_foresees_what_it_was_not_told_to_foresee_then(machine: Machine, capsys: Capture) -> None:
    machine.live(lambda minute: 0.6 + 0.0015 * minute)
    rule = 'forecast = { reaches = "100%", warning = "24h", over = "1h", agreed_for = "30m" }'
    machine.config.write_text(SETTINGS.replace('for = "2m"', rule))
    assert machine.run("replay", "root disk", "--since", "3h", "--json") == 0
    [fired, *_] = json.loads(capsys.readouterr().out)["would"]
    assert fired["reason"].startswith("used reaches 100% in ")
