"""From a breach to the message that somebody reads: real check, real daemon, real Apprise, real webhook."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.end_to_end.conftest import environment, keepwatch


@pytest.fixture
def inbox():
    """A webhook on loopback that keeps what it is sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.messages = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def watching(office, inbox, tmp_path):
    """A daemon that watches a plugin whose verdict is a file, and tells the inbox."""
    (tmp_path / "verdict").write_text("0")
    plugin = tmp_path / "plugin"
    said = 'echo "queue has code $code | queue=$code"'
    plugin.write_text(f"#!/bin/sh\ncode=$(cat {tmp_path}/verdict)\n{said}\nexit $code\n")
    plugin.chmod(0o755)
    return office(
        extra=f"""
[[checks]]
name = "queue"
type = "command"
run = "{plugin}"
every = "1s"
runbook = "queue-full"
[[notify]]
name = "ops"
url = "json://127.0.0.1:{inbox.server_port}/hook"
group_wait = "0s"
group_interval = "1s"
"""
    )


def about(inbox, word):
    return [m for m in inbox.messages if word in m["title"] + m["message"]]


def firing(daemon, check):
    return [a for a in daemon.view()["alerts"] if a["check"] == check and a["state"] == "firing"]


def test_a_breach_is_told_once_when_no_silence_holds_it_and_so_is_its_recovery(office, inbox, tmp_path):
    daemon = watching(office, inbox, tmp_path).start()
    made = keepwatch("silence", "check=queue", "-c", "moving", "--for", "1h", "--config", daemon.config, home=tmp_path)
    assert made.returncode == 0, made.stderr
    (tmp_path / "verdict").write_text("2")
    alert = daemon.until(lambda: firing(daemon, "queue"), "it fires all the same")[0]
    daemon.until(
        lambda: any("moving" in reason for reason in firing(daemon, "queue")[0]["suppressed_by"]), "the page says why"
    )
    daemon.until(lambda: len(firing(daemon, "queue")[0]["suppressed_by"]) == 1, "the grace is over", seconds=60)
    assert not about(inbox, "queue")

    ended = keepwatch("silence", "--expire", "1", "--config", daemon.config, home=tmp_path)
    assert ended.returncode == 0, ended.stderr
    told = daemon.until(lambda: about(inbox, "queue has code 2"), "the message")
    for expected in ("critical", "queue-full", f"keepwatch ack {alert['id']}"):
        assert expected in told[0]["title"] + told[0]["message"], told[0]
    acked = keepwatch("ack", alert["id"][:4], "--author", "ann", "--config", daemon.config, home=tmp_path)
    assert acked.returncode == 0, acked.stderr
    daemon.until(lambda: firing(daemon, "queue")[0]["acknowledged_by"] == "ann", "the page says who has it")

    daemon.stop()
    daemon.start()
    (tmp_path / "verdict").write_text("0")
    daemon.until(lambda: not firing(daemon, "queue"), "it resolves")
    daemon.until(lambda: len(about(inbox, "queue")) > 1, "the recovery")
    first, second = about(inbox, "queue")
    assert first == told[0], "a restart tells nothing twice"
    assert "resolved" in (second["title"] + second["message"]).lower()


def test_systemd_is_told_when_it_is_ready_alive_and_stopping(office, tmp_path, monkeypatch):
    daemon = office()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        monkeypatch.setattr(
            "tests.end_to_end.conftest.environment",
            lambda home: {**environment(home), "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"},
        )
        daemon.start(wait=False)
        first, second = manager.recv(4096).decode(), manager.recv(4096).decode()
        assert first.startswith("READY=1")
        assert second == "WATCHDOG=1"
        assert daemon.stop() == 0
        said = [first, second]
        while "STOPPING=1" not in said:
            said.append(manager.recv(4096).decode())
