"""What the tests of alerts share: a fixed start of time, short ways to write results and policies, one small world."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.notify import NotifySettings
from monitor.alerting import Policy
from monitor.announcer import Surroundings
from monitor.engine import AlertEngine
from monitor.notify import Delivery, Notification, NotifyError
from monitor.result import Reading, Result, Status
from monitor.store import MonitorStore, MonitorStoreError

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@dataclass
class Phone:
    """A channel's other end in memory: keeps what arrives, fails when told to."""

    received: list[Notification] = field(default_factory=list)
    broken: NotifyError | None = None
    loses_the_answer: bool = False
    """The message arrives, and the sender hears nothing of it."""

    def send(self, notification: Notification) -> None:
        if self.broken is not None and not self.loses_the_answer:
            raise self.broken
        self.received.append(notification)
        if self.loses_the_answer:
            raise NotifyError("no answer within 30 s", permanent=False)

    @property
    def titles(self) -> list[str]:
        return [notification.title for notification in self.received]


def make_policy(check: str = "disk", **changes: object) -> Policy:
    return Policy(**{"name": check, "check": check, "every": 10 * SECOND} | changes)  # type: ignore[arg-type]


def make_result(
    status: Status, at: datetime = START, check: str = "disk", entity: str = "", message: str = "", value: float = 0.9
) -> Result:
    words = message or f"used {value:.0%} ({status.label})"
    return Result(check, entity, status, words, at, 0.01, (Reading("used", value, "ratio", entity),))


def make_channel(name: str = "ops", **changes: object) -> NotifySettings:
    quick = {"group_wait": timedelta(0), "group_interval": timedelta(0), "repeat": 4 * HOUR}
    return NotifySettings(**{"name": name, "url": "json://127.0.0.1"} | quick | changes)  # type: ignore[arg-type]


class World:
    """An engine, its store and its channels, with a clock of its own; ``restart`` is a daemon that comes back."""

    def __init__(
        self, path: Path, policies: Sequence[Policy], channels: Sequence[NotifySettings], now: datetime
    ) -> None:
        self.path, self.now = path, now
        self.policies, self.channels = {policy.check: policy for policy in policies}, list(channels)
        self.phones = {channel.name: Phone() for channel in channels}
        self.grace = timedelta(0)
        self.surroundings: Surroundings | None = None
        self.start()

    def start(self) -> None:
        self.store = MonitorStore(self.path, set_aside_corrupt=True)
        self.engine = AlertEngine(
            self.store, self.policies, self.channels, host="erp-1", now=self.now, startup_grace=self.grace,
            surroundings=self.surroundings,
        )  # fmt: skip
        self.delivery = Delivery(self.store, self.phones)

    def stop(self) -> None:
        assert self.delivery.settle(10)
        self.store.close()

    def restart(self, after: timedelta = timedelta(0)) -> None:
        self.stop()
        self.now += after
        self.start()

    def surround(self, **changes: object) -> None:
        """Go by other surroundings from now on."""
        self.surroundings = Surroundings("erp-1", **changes)  # type: ignore[arg-type]
        self.engine.reconfigure(self.policies, self.channels, self.now, self.surroundings)

    def see(
        self, *statuses: Status, check: str = "disk", entity: str = "", every: timedelta = 10 * SECOND,
        value: float = 0.9,
    ) -> None:  # fmt: skip
        """Results one after the other, with a tick and a delivery after each; time passes after each."""
        for status in statuses:
            self.engine.take([make_result(status, self.now, check, entity, value=value)], self.now)
            self.tell()
            self.now += every

    def tell(self, **windows: object) -> None:
        self.engine.tick(self.now, **windows)  # type: ignore[arg-type]
        with contextlib.suppress(MonitorStoreError):
            self.delivery.run_due(self.now)
        assert self.delivery.settle(10)

    def wait(self, time: timedelta) -> None:
        self.now += time
        self.tell()

    def titles(self, channel: str = "ops") -> list[str]:
        return self.phones[channel].titles


@pytest.fixture
def policy() -> Callable[..., Policy]:
    return make_policy


@pytest.fixture
def result() -> Callable[..., Result]:
    return make_result


@pytest.fixture
def channel() -> Callable[..., NotifySettings]:
    return make_channel


@pytest.fixture
def phone() -> Callable[[], Phone]:
    return Phone


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds: ``world(policies..., channels=[...])``."""
    made: list[World] = []

    def make(*policies: Policy, channels: Sequence[NotifySettings] | None = None) -> World:
        path = tmp_path / f"monitor-{len(made)}.db"
        made.append(World(path, policies or [make_policy()], [make_channel()] if channels is None else channels, START))
        return made[-1]

    yield make
    for one in made:
        one.stop()
