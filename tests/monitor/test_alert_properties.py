"""Alerts under any sequence of results, restarts, suppressors and failures: what must hold, whatever happens.

Every example runs the real engine, store, outbox and delivery; only time and the channel's far end are made up.
"""

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.notify import MaintenanceSettings, NotifySettings
from monitor.alerting import NO_DATA, Policy, State
from monitor.announcer import Surroundings
from monitor.clock_steps import ClockSteps
from monitor.engine import AlertEngine
from monitor.maintenance import maintenance_of
from monitor.matching import Matcher
from monitor.memory import Memories
from monitor.notify import Delivery, Notification, NotifyError
from monitor.result import Reading, Result, Status
from monitor.store import MonitorStore, MonitorStoreError, NoSuchAlert
from monitor.suppress import LoadWindow

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
CHECKS = ("a", "b")
IN_MEMORY = Path("/dev/shm")  # waiting for a disk a thousand times would prove nothing here

JUDGED = [Status.OK, Status.WARNING, Status.CRITICAL]

# Steps by how often they come; drawn from lists, since repeating a strategy would not make it any more likely.
TAKES = [("take", check, status) for check in CHECKS for status in JUDGED]
SEES = [("see", check, status) for check in CHECKS for status in [*JUDGED, *JUDGED, *JUDGED, *JUDGED, *Status]]
TIME = [("wait", time) for time in (SECOND, 10 * SECOND, 10 * SECOND, 40 * SECOND, 11 * MINUTE)]
DAEMON = [("tick",), ("tick",), ("deliver",), ("deliver",), *[("restart",)] * 6]
SUPPRESSORS = [
    ("silence", "a", HOUR),
    ("silence", "b", 10 * SECOND),
    *(("acknowledge", check) for check in CHECKS),
    *(("accept", check) for check in CHECKS),
    ("end silences",),
    ("end silences",),
    ("job",),
    ("job",),
]
STEPS = [HOUR, -HOUR, 5 * MINUTE, -5 * MINUTE, 7 * HOUR, -7 * HOUR]
CLOCK = [("clock", by) for by in STEPS]
REBOOTS = [("reboot", by) for by in (HOUR, -HOUR, timedelta(days=-900))]
RELATIVE = [one for one in SUPPRESSORS if one[0] in ("acknowledge", "accept", "job")]
CHANNEL_TROUBLE = [("channel", mood) for mood in ("fine", "fine", "refuses", "loses the answer")]
STORE_TROUBLE = [("store", "fails"), ("store", "works"), ("store", "works")]
policies = st.builds(
    lambda wait, keep, samples: {
        check: Policy(check, check, 10 * SECOND, wait, wait, keep, *samples) for check in CHECKS
    },
    st.sampled_from([timedelta(0), 10 * SECOND]),
    st.sampled_from([timedelta(0), 20 * SECOND]),
    st.sampled_from([(1, 1), (2, 2), (2, 3)]),
)
connected = policies.map(
    lambda rules: {
        "a": dataclasses.replace(rules["a"], waits_for_load=True),
        "b": dataclasses.replace(rules["b"], depends_on=("a",)),
    }
)
maintenance = st.sampled_from([None, "12:02-12:20", "12:00-12:01"])
channels = st.builds(
    lambda wait, interval, quiet, most: NotifySettings(
        name="ops", url="json://x", group_wait=wait, group_interval=interval, repeat=timedelta(days=365),
        quiet_hours=quiet, at_most=most,
    ),
    st.sampled_from([timedelta(0), 10 * SECOND]),
    st.sampled_from([timedelta(0), 30 * SECOND]),
    st.sampled_from([None, None, "12:01-12:15", {"warning": "12:00-12:10", "critical": "12:05-12:30"}]),
    st.sampled_from([None, None, "2 per 5m"]),
)  # fmt: skip
BOSS = NotifySettings(
    name="boss", url="json://x", group_wait=timedelta(0), group_interval=timedelta(0), repeat=timedelta(days=365),
    escalate_after="5m", fallback="spare", fallback_after="5m",
)  # fmt: skip
SPARE = NotifySettings(
    name="spare", url="json://x", group_wait=timedelta(0), group_interval=timedelta(0), repeat=timedelta(days=365),
    severities=[],
)  # fmt: skip


CAMPAIGN: dict[str, Callable[[], None]] = {}


def generated(*strategies: st.SearchStrategy) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Hold for sixty generated examples, and in the campaign for many more."""

    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        given_examples = settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        CAMPAIGN[test.__name__] = given_examples(given(*strategies)(test))
        return settings(given_examples, max_examples=60)(given(*strategies)(test))

    return decorate


@dataclass
class Operator:
    """Believes what the messages say; one for each channel."""

    mood: str = "fine"
    received: list[Notification] = field(default_factory=list)

    def send(self, notification: Notification) -> None:
        if self.mood != "refuses":
            self.received.append(notification)
        if self.mood != "fine":
            raise NotifyError("no answer", permanent=False)

    def news(self) -> list[tuple[str, str]]:
        """Alert and what was said of it: ``warning``, ``critical``, ``... beyond the 1``, ``flapping`` or ``over``."""
        told = []
        for notification in self.received:
            for line in notification.body.splitlines():
                if beyond := re.match(r"it is (beyond the \S+) that", line):
                    told[-1] = (told[-1][0], f"{told[-1][1]} {beyond[1]}")
                elif match := re.match(r"((?:CheckNoData / )?[ab]) is (warning|critical|flapping|over)\b", line):
                    worst = " critical" if "flapping (critical" in line else ""
                    told.append((match[1], match[2] + worst))
        return told

    def belief(self) -> dict[str, str]:
        return {alert: state.split()[0] for alert, state in dict(self.news()).items() if state != "over"}


class Run:
    """Plays a script. ``skipping`` kinds of steps, so that two runs differ in nothing but those."""

    def __init__(
        self, path: Path, rules: dict[str, Policy], channel: NotifySettings, skipping: Sequence[str] = (),
        window: str | None = None,
    ) -> None:  # fmt: skip
        self.path, self.rules, self.skipping = path, rules, skipping
        self.channels = [channel, BOSS, SPARE]
        self.now, self.failing = START, False
        self.up_for, self.boots = timedelta(0), 0
        self.memories = Memories()
        self.phones = {name: Operator() for name in ("ops", "boss", "spare")}
        self.operator = self.phones["ops"]
        self.last: dict[str, Status] = {}
        self.jobs: list[LoadWindow] = []
        planned = [MaintenanceSettings(name="work", window=window, matchers=["check=a"])] if window else []
        self.surroundings = Surroundings("h", UTC, maintenance_of(planned, UTC))
        self.start()

    def start(self) -> None:
        self.clock_steps = ClockSteps(self.memories, f"boot {self.boots}", lambda: self.up_for.total_seconds())
        self.store = MonitorStore(self.path)
        self.engine = AlertEngine(
            self.store, self.rules, self.channels, host="h", now=self.now, startup_grace=timedelta(0),
            surroundings=self.surroundings, clock_set_by=self._step(),
        )  # fmt: skip
        self.delivery = Delivery(self.store, self.phones)

    def play(self, script: Sequence[tuple]) -> None:
        for kind, *arguments in script:
            if kind not in self.skipping:
                with contextlib.suppress(MonitorStoreError):
                    getattr(self, "do_" + kind.replace(" ", "_"))(*arguments)

    def do_take(self, check: str, status: Status) -> None:
        readings = (Reading("x", float(status), "count"),) if status <= Status.CRITICAL else ()
        if status <= Status.CRITICAL:
            self.last[check] = status
        self.look_at_clock()
        self.engine.take([Result(check, "", status, status.label, self.now, 0.0, readings)], self.now)

    def do_see(self, check: str, status: Status) -> None:
        """What the daemon's loop does, all of it."""
        self.do_wait(5 * SECOND)
        self.do_take(check, status)
        self.do_tick()
        self.do_deliver()

    def do_wait(self, time: timedelta) -> None:
        self.now += time
        self.up_for += time

    def look_at_clock(self) -> None:
        if by := self._step():
            self.engine.clock_stepped(by, self.now)

    def _step(self) -> timedelta:
        by = self.clock_steps.step(self.now) or timedelta(0)
        self.jobs = [job.shifted(by) for job in self.jobs]
        return by

    def do_tick(self) -> None:
        self.look_at_clock()
        self.engine.tick(self.now, self.jobs)

    def do_job(self) -> None:
        """A backup begins, or ends; the loop that notes it has looked at the clock before."""
        self.look_at_clock()
        if self.jobs and self.jobs[-1].closed_at is None:
            self.jobs[-1] = dataclasses.replace(self.jobs[-1], closed_at=self.now)
        else:
            self.jobs.append(LoadWindow("backup", self.now))

    def do_clock(self, by: timedelta) -> None:
        """Somebody sets it, and the daemon finds out when it looks next, be it one that is started then."""
        self.now += by

    def do_reboot(self, by: timedelta) -> None:
        """The machine comes back with another idea of the time, and nothing that could tell."""
        self.look_at_clock()
        self.now += by
        self.up_for, self.jobs = timedelta(0), []
        self.boots += 1
        self.do_restart()

    def do_accept(self, check: str) -> None:
        with contextlib.suppress(NoSuchAlert, ValueError):
            self.store.acknowledge(check, "eve", "", self.now, as_baseline=True)

    def do_deliver(self) -> None:
        try:
            self.delivery.run_due(self.now)
        finally:
            assert self.delivery.settle(20)

    def do_restart(self) -> None:
        if self.failing or self.engine.store_problem:  # nobody promises to keep what only memory knows
            self.do_store("works")
            self.do_tick()
            self.do_deliver()
        self.store.close()
        self.start()

    def do_silence(self, check: str, time: timedelta) -> None:
        self.store.add_silence([Matcher("check", "=", check)], "ann", "", self.now, self.now + time)

    def do_end_silences(self) -> None:
        for silence in self.store.silences(self.now):
            self.store.expire_silence(silence.id, self.now)

    def do_acknowledge(self, check: str) -> None:
        with contextlib.suppress(NoSuchAlert):
            self.store.acknowledge(check, "bob", "", self.now)

    def do_channel(self, mood: str) -> None:
        for phone in self.phones.values():
            phone.mood = mood

    def do_store(self, state: str) -> None:
        self.failing = state == "fails"
        self.store.database._connection.execute(f"PRAGMA query_only = {'ON' if self.failing else 'OFF'}")

    def heal(self) -> None:
        """Everything works again, all suppressors end, and time passes until nothing is owed any more."""
        self.do_store("works")
        self.do_channel("fine")
        self.do_end_silences()
        if self.jobs and self.jobs[-1].closed_at is None:
            self.do_job()
        self.settle()
        for alert in self.store.alerts():  # all that fire: what was accepted holds for later episodes, too
            with contextlib.suppress(NoSuchAlert):
                self.store.unacknowledge(alert.id, self.now)
        for _ in range(8):
            self.do_wait(11 * MINUTE)
            self.do_tick()
            self.do_deliver()

    def settle(self) -> None:
        """Each check stays as it is until nothing flaps."""
        for _ in range(20):
            for check, status in self.last.items():
                self.do_take(check, status)
            self.do_wait(10 * SECOND)

    def firing(self) -> dict[str, str]:
        return {s.alert.title: s.alert.severity.label for s in self.engine.alerts() if s.alert.is_firing}

    def story(self) -> list[tuple]:
        return [(e.at, e.name, e.check, e.change, e.state, e.severity) for e in self.store.log(limit=10_000)]


@contextlib.contextmanager
def runs(*skipping: Sequence[str], rules: dict[str, Policy], channel: NotifySettings, window: str | None = None):
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as directory:
        made = [
            Run(Path(directory) / f"{number}.db", rules, channel, skip, window) for number, skip in enumerate(skipping)
        ]
        try:
            yield made
        finally:
            for run in made:
                run.store.close()


def scripts(*extra: list[tuple]) -> st.SearchStrategy[list[tuple]]:
    """Long enough that things happen."""
    steps = [*TAKES, *SEES, *TIME, *DAEMON, *(step for steps in extra for step in steps)]
    return st.lists(st.sampled_from(steps), min_size=10, max_size=60)


everything = scripts(SUPPRESSORS, CHANNEL_TROUBLE, STORE_TROUBLE, CLOCK, REBOOTS)


@generated(everything, connected, channels, maintenance)
def test_in_the_end_everybody_believes_what_is_so(script, rules, channel, window) -> None:
    """No firing is lost, and every told problem gets its recovery, whatever restarted, failed or was muted between."""
    with runs((), rules=rules, channel=channel, window=window) as [run]:
        run.play(script)
        run.heal()
        worse = {("critical", "warning")}  # easing is not told, so the operator may still think it is worse
        truth = run.firing()
        if truth.get("a") == "critical":
            # what depends on a may have been told before, or not: both is right
            truth = {alert: state for alert, state in truth.items() if not alert.endswith("b")}
        for name in ("ops", "boss"):
            belief = run.phones[name].belief()
            belief = {alert: state for alert, state in belief.items() if alert in truth or not alert.endswith("b")}
            assert belief.keys() == truth.keys(), name
            assert all(believed == truth[a] or (believed, truth[a]) in worse for a, believed in belief.items()), name
        assert run.phones["spare"].belief().keys() <= run.firing().keys(), "what it was told instead ends for it, too"


@generated(scripts(SUPPRESSORS, CLOCK), connected, channels, maintenance)
def test_nothing_is_told_twice_over_a_channel_that_works(script, rules, channel, window) -> None:
    with runs((), rules=rules, channel=channel, window=window) as [run]:
        run.play(script)
        run.heal()
        assert run.phones["spare"].received == [], "nobody failed"
        for name in ("ops", "boss"):
            last: dict[str, str] = {}
            for alert, state in run.phones[name].news():
                before = last.get(alert, "over")
                if " beyond " in state:
                    assert before != state
                    last[alert] = state
                    continue
                worse = (before, state) == ("flapping", "flapping critical")
                assert worse or (before.split()[0], state.split()[0]) in {
                    ("over", "warning"), ("over", "critical"), ("warning", "critical"), ("warning", "over"),
                    ("critical", "over"), ("over", "flapping"), ("warning", "flapping"), ("critical", "flapping"),
                    ("flapping", "warning"), ("flapping", "critical"), ("flapping", "over"),
                }, f"{name}: {alert} was told {state} after {before}"  # fmt: skip
                last[alert] = state


@generated(scripts(SUPPRESSORS, CHANNEL_TROUBLE, CLOCK), connected, channels, maintenance)
def test_a_run_with_restarts_equals_one_without(script, rules, channel, window) -> None:
    with runs((), ("restart",), rules=rules, channel=channel, window=window) as [interrupted, calm]:
        for run in (interrupted, calm):
            run.play(script)
            run.heal()
        assert interrupted.story() == calm.story()
        assert [(n.title, n.body.split("\n\n#")[0]) for n in interrupted.operator.received] == [
            (n.title, n.body.split("\n\n#")[0]) for n in calm.operator.received
        ]
        assert interrupted.store.alerts() == calm.store.alerts()


@generated(scripts(SUPPRESSORS, CHANNEL_TROUBLE, STORE_TROUBLE), policies, channels)
def test_neither_suppressors_nor_failures_change_what_is_evaluated(script, rules, channel) -> None:
    troubles = ("silence", "acknowledge", "accept", "end silences", "job", "channel", "store", "restart")
    with runs((), troubles, rules=rules, channel=channel) as [troubled, calm]:
        for run in (troubled, calm):
            run.play(script)
            run.heal()
        assert troubled.story() == calm.story()


@generated(scripts(CHANNEL_TROUBLE, STORE_TROUBLE), policies, channels)
def test_what_is_silenced_is_not_told_and_the_rest_is(script, rules, channel) -> None:
    with runs((), rules=rules, channel=channel) as [run]:
        run.do_silence("a", timedelta(days=365))
        run.play(script)
        run.do_store("works")
        run.do_channel("fine")
        run.settle()
        for _ in range(4):
            run.do_wait(11 * MINUTE)
            run.do_tick()
            run.do_deliver()
        assert not [alert for alert, _ in run.operator.news() if alert.endswith("a")]
        assert run.operator.belief().keys() == {alert for alert in run.firing() if not alert.endswith("a")}


@generated(st.lists(st.sampled_from(TAKES), min_size=1, max_size=30), policies, channels)
def test_an_alert_fires_exactly_when_its_rules_say_so(script, rules, channel) -> None:
    """Compared with the rules written down a second time, over the whole past instead of step by step."""
    with runs((), rules=rules, channel=channel) as [run]:
        past: dict[str, list[tuple[datetime, Status]]] = {check: [] for check in CHECKS}
        fires = dict.fromkeys(CHECKS, False)
        for step in script:
            run.play([step])
            _, check, status = step
            past[check].append((run.now, status))
            fires[check] = _should_fire(past[check], rules[check], fires[check], run.now)
            states = {s.alert.check: s.alert.state for s in run.engine.alerts() if s.alert.name != NO_DATA}
            firing = states.get(check) in (State.FIRING, State.RECOVERING)
            assert firing == fires[check]
            run.do_wait(10 * SECOND)


@generated(scripts(RELATIVE, CHANNEL_TROUBLE, CLOCK, CLOCK), connected, channels)
def test_a_clock_that_is_set_changes_neither_what_fires_nor_what_is_told(script, rules, channel) -> None:
    """But for what people meant by the clock on the wall: silences, quiet hours, maintenance."""
    channel = channel.model_copy(update={"quiet_hours": None})
    with runs((), ("clock",), rules=rules, channel=channel) as [jumping, calm]:
        for step in script:
            for run in (jumping, calm):
                run.play([step])
                run.look_at_clock()
            assert jumping.firing() == calm.firing()
        for name, phone in jumping.phones.items():
            assert phone.news() == calm.phones[name].news(), name
        assert [change for _, *change in jumping.story()] == [change for _, *change in calm.story()]


@pytest.mark.campaign
@pytest.mark.parametrize("name", list(CAMPAIGN))
def test_the_same_holds_for_thousands_of_scripts(name) -> None:
    CAMPAIGN[name]()


def _should_fire(past: list[tuple[datetime, Status]], policy: Policy, fired: bool, now: datetime) -> bool:
    def lasting(is_so) -> list[datetime]:
        times = []
        for at, status in reversed(past):
            if not is_so(status):
                break
            times.append(at)
        return times

    good = lasting(lambda status: status is Status.OK)
    enough = policy.of_samples - policy.min_samples + 1
    if fired:
        return not (len(good) >= enough and now - good[-1] >= policy.keep_firing_for)
    if good:
        return False
    streak: list[datetime] = []
    misses = 0
    for at, status in reversed(past):
        misses = misses + 1 if status is Status.OK else 0
        if misses == enough:
            break
        streak += [at] if status > Status.OK else []
    many = [at for at, status in past[-policy.of_samples :] if status > Status.OK and at in streak]
    return len(many) >= policy.min_samples and now - streak[-1] >= policy.warning_for
