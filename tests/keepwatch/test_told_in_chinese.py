"""The life of an alert, told in Chinese: real judging, real store, real Apprise, a real web server."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.checks import Bound
from config.said import Said, packed, unpacked
from config.threshold import Threshold
from config.units import format_duration
from keepwatch.languages import language
from keepwatch.web.human import span
from keepwatch.web.page import PageRenderer
from monitor.check import Check, run_check
from monitor.notify import AppriseNotifier
from monitor.result import Measurement, ProbeError, Reading, Result
from monitor.store import MonitorStore
from tests.keepwatch import web_samples as samples
from tests.monitor.conftest import World, make_channel, make_policy
from tests.monitor.test_notify import Webhook, webhook  # noqa: F401 - a fixture

CHINESE = language("zh-CN")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Disk:
    """A disk that is as full as it is told to be; broken for None."""

    def __init__(self) -> None:
        self.used: float | None = 0.5

    def measure(self) -> Measurement:
        if self.used is None:
            raise ProbeError("looking at /srv: Input/output error")
        return Measurement([Reading("used", self.used, "ratio"), Reading("free_bytes", 3 * 2**30, "bytes")])


def measured(disk: Disk, now: datetime) -> list[Result]:
    bound = Bound(**{"raise": Threshold.parse("> 90%")})
    return run_check(Check("disk", "disk", disk, "/srv", critical=(bound,)), {}, lambda: now)


@pytest.fixture
def told(tmp_path: Path, webhook: Webhook) -> World:  # noqa: F811
    channel = make_channel(repeat=timedelta(hours=1))
    made = World(tmp_path / "monitor.db", [make_policy(runbook="disk-full")], [channel], START)
    made.surround(say=CHINESE, plan=lambda _check, _entity: Said("without owner"))
    made.delivery.notifiers = {"ops": AppriseNotifier(webhook.url)}
    yield made
    made.stop()


def see(world: World, disk: Disk, used: float | None, times: int = 1) -> None:
    disk.used = used
    for _ in range(times):
        world.engine.take(measured(disk, world.now), world.now)
        world.tell()
        world.now += timedelta(seconds=10)


def test_an_alert_is_told_in_chinese_from_firing_to_its_end_and_after_a_restart(told: World, webhook: Webhook) -> None:  # noqa: F811
    disk = Disk()
    see(told, disk, 0.95, times=2)
    [fired] = webhook.received
    assert fired["title"] == "[严重] erp-1: disk"
    lines = fired["message"].splitlines()
    assert lines[0] == "disk 严重：/srv 已用 95 %，严重阈值 > 90%，剩余 3 GiB"
    assert "操作手册：disk-full" in lines
    assert "应急预案：没有负责人" in lines
    assert any(line.startswith("确认：keepwatch ack ") for line in lines)

    told.now += timedelta(hours=2)
    see(told, disk, 0.95)
    assert webhook.received[1]["title"] == "[严重] erp-1: disk（仍在持续）"

    told.stop()
    told.now += timedelta(seconds=30)
    told.start()
    told.delivery.notifiers = {"ops": AppriseNotifier(webhook.url)}
    see(told, disk, 0.5, times=3)
    over = webhook.received[-1]
    assert over["title"] == "[已解除] erp-1: disk"
    assert over["message"].splitlines()[0] == "disk 已结束，历时 2 小时 1 分：/srv 已用 50 %，剩余 3 GiB"


def test_what_an_exception_said_stays_as_it_is_within_chinese(told: World) -> None:
    disk = Disk()
    see(told, disk, 0.95, times=2)
    see(told, disk, None)
    [alert] = [one for one in told.store.alerts() if one.name == "disk"]
    said = CHINESE(alert.message)
    assert "数据已陈旧：looking at /srv: Input/output error" in said
    assert alert.message.startswith("/srv is 95 % full, critical at > 90%, 3 GiB free; data stale since")


def test_what_is_on_record_can_be_said_in_either_language(told: World, tmp_path: Path) -> None:
    see(told, Disk(), 0.95, times=2)
    with closing(MonitorStore(tmp_path / "monitor.db")) as store:
        [alert] = store.alerts()
        reasons = [entry.reason for entry in store.log()]
    assert str(alert.message) == "/srv is 95 % full, critical at > 90%, 3 GiB free"
    assert {CHINESE(reason) for reason in reasons} == {"/srv 已用 95 %，严重阈值 > 90%，剩余 3 GiB"}


def test_a_record_of_an_earlier_version_is_read_and_said_as_it_was_written(told: World, tmp_path: Path) -> None:
    see(told, Disk(), 0.95, times=2)
    with closing(sqlite3.connect(tmp_path / "monitor.db", isolation_level=None)) as database:
        database.execute("UPDATE alerts SET said = NULL")
    [alert] = told.store.alerts()
    assert CHINESE.value(alert.message) == "/srv is 95 % full, critical at > 90%, 3 GiB free"


def test_a_digest_of_many_is_chinese_too(tmp_path: Path) -> None:
    names = [f"disk {number}" for number in range(5)]
    world = World(tmp_path / "monitor.db", [make_policy(name) for name in names], [make_channel()], START)
    world.surround(say=CHINESE)
    for result in [replace(one, check=name) for name in names for one in measured(_full(), START)]:
        world.engine.take([result], START)
    world.tell()
    [message] = world.phones["ops"].received
    world.stop()
    assert message.title == "[严重] erp-1: 5 个严重"
    assert message.body.startswith("严重 disk 0：/srv 已用 95 %")
    assert message.body.endswith("查看全部：keepwatch alerts")


def _full() -> Disk:
    disk = Disk()
    disk.used = 0.95
    return disk


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0.25, "250 毫秒", "0 秒"), (42, "42 秒", "42 秒"), (7500, "2 小时 5 分", "2 小时"),
        (90_061, "1 天 1 小时", "25 小时"), (70 * 86_400, "70 天", "2 个月"),
    ],
)  # fmt: skip
def test_durations_have_chinese_units(seconds: float, exact: str, rough: str) -> None:
    assert CHINESE(format_duration(seconds)) == exact
    assert CHINESE(span(seconds)) == rough


def test_the_page_names_kinds_of_runs_and_durations_in_chinese() -> None:
    html = PageRenderer(lambda: samples.NOW).page(replace(samples.healthy(), language="zh-CN")).decode()
    assert "增量" in html
    assert "分钟" in html
    for english in ("incremental<", ">full<", " ago<", " min<"):
        assert english not in html


def test_what_a_text_was_made_of_survives_being_kept() -> None:
    text = Said("%(message)s: %(note)s", message=Said("up for %(value)s", value=format_duration(90)), note="it's 100%")
    kept = packed(text)
    assert json.loads(kept)[0] == "%(message)s: %(note)s"
    assert CHINESE(unpacked(str(text), kept)) == "已运行 1 分 30 秒：it's 100%"
    assert packed("plain") is None
    assert unpacked("plain", None) == "plain"
