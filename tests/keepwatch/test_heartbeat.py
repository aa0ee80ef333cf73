import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from config.settings import HeartbeatSettings
from keepwatch.heartbeat import Heartbeat, Pulse

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Steady:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def ping_server():
    """A ping service on loopback; ``seen`` holds the paths asked for, ``status`` what it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.seen.append(self.path)
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def heartbeat(server):
    url = SecretStr(f"http://127.0.0.1:{server.server_port}/secret-uuid")
    return Heartbeat(HeartbeatSettings(url=url), lambda: NOW)


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def idle(beat):
    """The thread that sends is done."""
    wait_for(lambda: not beat._busy.locked())


def test_a_beat_is_sent_in_its_rhythm_while_all_loops_advance(ping_server):
    steady = Steady()
    pulse, beat = Pulse(("evaluation", "scheduler"), steady), heartbeat(ping_server)
    for _ in range(121):
        pulse.beat("evaluation")
        pulse.beat("scheduler")
        beat.tick(pulse, steady.now)
        idle(beat)
        steady.now += 1
    assert ping_server.seen == ["/secret-uuid"] * 3
    assert beat.last_success_at == NOW


def test_one_loop_that_stands_still_withholds_the_beat_and_is_named(ping_server, caplog):
    steady = Steady()
    pulse, beat = Pulse(("evaluation", "scheduler"), steady), heartbeat(ping_server)
    steady.now = 90.0
    pulse.beat("evaluation")
    beat.tick(pulse, steady.now)
    idle(beat)
    assert ping_server.seen == []
    assert caplog.records[0].stalled == "scheduler for 1m 30s"


def test_a_refused_beat_is_logged_without_its_secret_address(ping_server, caplog):
    ping_server.status = 500
    beat = heartbeat(ping_server)
    beat.tick(Pulse(()), 0.0)
    wait_for(lambda: caplog.records)
    idle(beat)
    assert beat.last_success_at is None
    assert "secret-uuid" not in "".join(str(vars(record)) for record in caplog.records)
