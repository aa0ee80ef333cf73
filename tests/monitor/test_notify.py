"""Delivery against failing channels, and the real Apprise child against a real web server on loopback."""

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from monitor.matching import Matcher
from monitor.notify import AppriseNotifier, Delivery, Notification, NotifyError, scrub
from monitor.outbox import Outbox
from monitor.result import Status

OK, WARNING, CRITICAL, UNKNOWN, ABSENT = Status
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ROOT = Path(__file__).resolve().parents[2]
LOST = NotifyError("connection refused", permanent=False)


class Webhook(ThreadingHTTPServer):
    """Takes what json:// posts; answers with ``status``, or not at all while ``hangs``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WebhookHandler)
        self.received: list[dict[str, str]] = []
        self.status, self.hangs, self.released = 200, False, threading.Event()

    @property
    def url(self) -> str:
        return f"json://user:s3cret-word@127.0.0.1:{self.server_address[1]}/path-with-token"


class WebhookHandler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.hangs:
            self.server.released.wait(60)
        self.server.received.append(body)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def note(title: str = "[CRITICAL] erp-1: disk") -> Notification:
    return Notification(title, "disk is critical: used 96 % (> 95 %)", CRITICAL, "0123456789abcdef")


def test_a_message_reaches_a_web_server_through_the_real_child(webhook) -> None:
    AppriseNotifier(webhook.url).send(note())
    [received] = webhook.received
    assert received["title"] == "[CRITICAL] erp-1: disk"
    assert received["message"].startswith("disk is critical: used 96 % (> 95 %)")
    assert "0123456789abcdef" in received["message"], "whoever gets it twice can see that it is the same"
    assert received["type"] == "failure"


def test_characters_of_any_language_arrive_as_they_were(webhook) -> None:
    AppriseNotifier(webhook.url).send(note("[警告] 磁盘 “/srv” <b>&amp;</b>"))
    assert webhook.received[0]["title"] == "[警告] 磁盘 “/srv” <b>&amp;</b>"


@pytest.mark.parametrize(("status", "permanent"), [(500, False), (404, False), (429, False), (413, True), (400, True)])
def test_what_the_server_answers_decides_whether_to_try_again(webhook, status, permanent) -> None:
    webhook.status = status
    with pytest.raises(NotifyError, match=str(status)) as caught:
        AppriseNotifier(webhook.url).send(note())
    assert caught.value.permanent is permanent


def test_a_server_that_never_answers_ends_with_the_child_killed(webhook) -> None:
    webhook.hangs = True
    began = time.monotonic()
    with pytest.raises(NotifyError, match="no answer within 3 s") as caught:
        AppriseNotifier(webhook.url, timeout_seconds=3).send(note())
    assert time.monotonic() - began < 10
    assert not caught.value.permanent


def test_an_address_that_nobody_understands_is_a_permanent_error_that_does_not_show_it() -> None:
    with pytest.raises(NotifyError, match="does not understand the address") as caught:
        AppriseNotifier("nonsense://user:s3cret-word@example.com").send(note())
    assert caught.value.permanent
    assert "s3cret" not in str(caught.value)


def test_a_server_that_is_not_there_is_tried_again_and_the_error_hides_the_address(webhook) -> None:
    webhook.server_close()
    with pytest.raises(NotifyError) as caught:
        AppriseNotifier(webhook.url).send(note())
    assert not caught.value.permanent
    assert not any(part in str(caught.value) for part in ("s3cret", "token", "user:"))


def test_no_part_of_an_address_survives_scrubbing() -> None:
    url = "tgram://123456:AAbb%40cc/-100200?format=text"
    said = "POST https://api.telegram.org/bot123456:AAbb@cc/send to -100200 failed; tgram://123456:AAbb%40cc/-100200"
    clean = scrub(said, url)
    assert not any(secret in clean for secret in ("123456", "AAbb", "100200"))
    assert "failed" in clean


def test_apprise_is_never_loaded_by_the_daemon() -> None:
    code = "import sys, monitor.notify, monitor.engine, monitor.apprise_sender; print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_message_goes_all_the_way_from_a_result_to_the_web_server(world, webhook) -> None:
    w = world()
    w.delivery.notifiers = {"ops": AppriseNotifier(webhook.url)}
    w.see(CRITICAL, CRITICAL, OK)
    assert [one["title"] for one in webhook.received] == ["[CRITICAL] erp-1: disk", "[RESOLVED] erp-1: disk"]
    assert webhook.received[1]["type"] == "success"


def test_one_channel_that_never_answers_holds_no_other_up(world, channel, webhook) -> None:
    w = world(channels=[channel("dead"), channel("ops")])
    webhook.hangs = True
    w.delivery.notifiers = {"dead": AppriseNotifier(webhook.url, timeout_seconds=5), "ops": w.phones["ops"]}
    w.engine.take([_bad(w)], w.now)
    w.engine.tick(w.now)
    began = time.monotonic()
    assert w.delivery.run_due(w.now) == 2
    assert time.monotonic() - began < 1, "the loop does not wait for channels"
    deadline = time.monotonic() + 4
    while not w.titles() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert w.titles() == ["[CRITICAL] erp-1: disk"]
    assert w.delivery.run_due(w.now) == 0, "a channel is sent to by one thread only"
    assert w.delivery.settle(20)


CRASH = """
import os, signal, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from config.notify import NotifySettings
from monitor.alerting import Policy
from monitor.engine import AlertEngine
from monitor.notify import Delivery
from monitor.result import Result, Status
from monitor.store import MonitorStore

class Killer:
    def send(self, notification):
        os.kill(os.getpid(), signal.SIGKILL)

now = datetime(2024, 5, 1, 12, tzinfo=UTC)
store = MonitorStore(Path(sys.argv[1]))
ops = NotifySettings(name="ops", url="json://x", group_wait="0s", group_interval="0s")
policy = Policy("disk", "disk", timedelta(seconds=10))
engine = AlertEngine(store, {"disk": policy}, [ops], host="erp-1", now=now, startup_grace=timedelta(0))
engine.take([Result("disk", "", Status.CRITICAL, "bad", now, 0.0)], now)
if sys.argv[2] == "after the transition":
    os.kill(os.getpid(), signal.SIGKILL)
engine.tick(now)
if sys.argv[2] == "after the record":
    os.kill(os.getpid(), signal.SIGKILL)
Delivery(store, {"ops": Killer()}).run_due(now)
signal.pause()
"""


@pytest.mark.parametrize("moment", ["after the transition", "after the record", "while sending"])
def test_a_daemon_that_is_killed_before_the_message_is_out_tells_it_after_the_restart(world, moment) -> None:
    w = world()
    killed = subprocess.run([sys.executable, "-c", CRASH, str(w.path), moment], cwd=ROOT, timeout=60)
    assert killed.returncode == -9
    parcel = Outbox(w.store.database).ledger().parcels.get("ops")
    w.restart(after=10 * SECOND)
    for _ in range(20):
        w.see(CRITICAL)
    assert w.titles() == ["[CRITICAL] erp-1: disk"], "once"
    if parcel is not None:
        assert w.phones["ops"].received[0].key == parcel.key


def test_a_channel_that_fails_is_tried_again_at_growing_distance_and_then_told_once(world) -> None:
    w = world()
    w.phones["ops"].broken = LOST
    attempts, outbox = [], Outbox(w.store.database)
    w.see(CRITICAL, every=SECOND)
    for _ in range(3000):
        before = outbox.ledger().parcels["ops"].attempts
        w.wait(SECOND)
        if outbox.ledger().parcels["ops"].attempts > before:
            attempts.append(w.now)
    distances = [(b - a).total_seconds() for a, b in itertools.pairwise(attempts)]
    # A second is this test's tick; sending took a few microseconds of it.
    assert distances[:3] == [21, 41, 81]
    assert distances[-1] == 601
    failed = outbox.ledger().channels["ops"].failed
    assert failed == len(attempts) + 1
    w.phones["ops"].broken = None
    w.wait(11 * MINUTE)
    w.wait(SECOND)
    assert w.titles() == ["[CRITICAL] erp-1: disk"]
    assert (w.engine.ledger().channels["ops"].sent, w.engine.ledger().channels["ops"].failed) == (1, failed)


def test_nothing_waits_for_the_old_time_where_a_machine_comes_back_with_its_clock_set_back(world, channel) -> None:
    w = world(channels=[channel("ops", fallback="spare", fallback_after="30m"), channel("spare", severities=[]),
                        channel("boss", escalate_after="30m")])  # fmt: skip
    w.phones["ops"].broken = LOST
    w.see(CRITICAL)
    w.restart(after=-timedelta(days=900))
    for _ in range(32):
        w.see(CRITICAL)
        w.wait(MINUTE)
    assert w.titles("boss") == w.titles("spare") == ["[CRITICAL] erp-1: disk"]
    w.phones["ops"].broken = None
    w.wait(11 * MINUTE)
    assert w.titles("ops")[-1] == "[CRITICAL] erp-1: disk"


def test_a_channel_that_comes_back_hears_the_truth_of_that_moment(world, policy) -> None:
    w = world(policy("a"), policy("b"), policy("c"))
    w.phones["ops"].broken = LOST
    w.see(CRITICAL, check="a")
    w.see(WARNING, OK, check="b")
    w.see(WARNING, check="c")
    w.phones["ops"].broken = None
    w.wait(10 * MINUTE)
    assert w.titles() == ["[CRITICAL] erp-1: 1 critical, 1 warning"]


def test_a_message_that_may_have_arrived_is_followed_by_its_recovery(world) -> None:
    w = world()
    w.phones["ops"].broken, w.phones["ops"].loses_the_answer = LOST, True
    w.see(CRITICAL)
    w.see(OK)
    w.phones["ops"].broken, w.phones["ops"].loses_the_answer = None, False
    w.wait(10 * MINUTE)
    assert w.titles() == ["[CRITICAL] erp-1: disk", "[RESOLVED] erp-1: disk"]


def test_a_recovery_that_may_have_arrived_does_not_swallow_the_next_firing(world) -> None:
    w = world()
    w.see(CRITICAL)
    w.phones["ops"].broken, w.phones["ops"].loses_the_answer = LOST, True
    w.see(OK)
    w.phones["ops"].broken, w.phones["ops"].loses_the_answer = None, False
    w.see(CRITICAL)
    w.wait(10 * MINUTE)
    assert w.titles()[2:] == ["[CRITICAL] erp-1: disk"]


def test_a_message_is_withdrawn_when_a_silence_comes_before_it_could_be_sent(world) -> None:
    w = world()
    w.engine.take([_bad(w)], w.now)
    w.engine.tick(w.now)
    w.store.add_silence([Matcher.parse("check=disk")], "ann", "", w.now, w.now + HOUR)
    w.tell()
    assert w.titles() == []
    assert Outbox(w.store.database).ledger().parcels == {}


def test_a_permanent_error_is_given_up_logged_and_counted_and_the_next_news_is_tried(world, caplog) -> None:
    w = world()
    w.phones["ops"].broken = NotifyError("payload too large", permanent=True)
    w.see(CRITICAL, CRITICAL, CRITICAL)
    assert [r.getMessage() for r in caplog.records].count("notification given up") == 1
    assert w.engine.ledger().channels["ops"].failed == 1
    w.phones["ops"].broken = None
    w.see(OK)
    assert w.titles() == ["[RESOLVED] erp-1: disk"]


def test_an_attempt_that_could_not_be_recorded_is_not_made_again(world) -> None:
    w = world()
    phone = w.phones["ops"]

    class FullWhileSending:
        def send(self, notification: Notification) -> None:
            phone.send(notification)
            w.store.database._connection.execute("PRAGMA query_only = ON")

    w.delivery.notifiers = {"ops": FullWhileSending()}
    w.see(CRITICAL, every=HOUR)
    w.see(CRITICAL)
    w.store.database._connection.execute("PRAGMA query_only = OFF")
    w.delivery.notifiers = w.phones
    for _ in range(10):
        w.see(CRITICAL)
    assert w.titles() == ["[CRITICAL] erp-1: disk"]
    assert w.engine.ledger().channels["ops"].sent == 1


def test_counters_of_a_channel_survive_a_restart(world) -> None:
    w = world()
    w.see(CRITICAL, OK)
    w.restart()
    w.tell()
    assert w.engine.ledger().channels["ops"].sent == 2


def test_two_deliveries_never_send_the_same_message_at_once(world) -> None:
    w = world()
    w.engine.take([_bad(w)], w.now)
    w.engine.tick(w.now)
    barrier = threading.Barrier(2, timeout=20)
    others = [Delivery(w.store, w.phones) for _ in range(2)]
    begun: list[int] = []

    def run(delivery: Delivery) -> None:
        barrier.wait()
        begun.append(delivery.run_due(w.now))

    threads = [threading.Thread(target=run, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(other.settle(10) for other in others)
    assert sorted(begun) == [0, 1]
    assert len(w.titles()) == 1


def _bad(w):
    from monitor.result import Result

    return Result("disk", "", CRITICAL, "bad", w.now, 0.0)
