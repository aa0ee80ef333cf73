"""The web server: bound before anything starts, a thread of its own, gone when told."""

import asyncio
import http.client
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from keepwatch.errors import KeepwatchError
from keepwatch.web.server import ListenError, WebServer

ROOT = Path(__file__).resolve().parents[2]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


def test_it_answers_on_a_free_port_until_it_is_stopped() -> None:
    server = WebServer(hello, "127.0.0.1", 0)
    server.start()
    assert httpx.get(server.url).text == "hello"
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_a_port_in_use_is_an_error_at_construction_with_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"listening on 127\.0\.0\.1:{port}: Address already in use") as caught:
            WebServer(hello, "127.0.0.1", port)
    assert isinstance(caught.value, KeepwatchError)
    assert f"sport = :{port}" in str(caught.value.hint)


def test_the_port_is_taken_from_construction_on_before_the_start() -> None:
    first = WebServer(hello, "127.0.0.1", 0)
    with pytest.raises(ListenError):
        WebServer(hello, "127.0.0.1", first.port)
    first.stop()


@pytest.mark.parametrize("host", ["no-such-name.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_an_error_with_a_hint(host: str) -> None:
    with pytest.raises(ListenError, match=f"listening on {host}") as caught:
        WebServer(hello, host, 0)
    assert "[web] listen" in str(caught.value.hint)


def test_requests_that_come_before_the_start_are_answered_after_it() -> None:
    server = WebServer(hello, "127.0.0.1", 0)
    early = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    early.request("GET", "/")
    server.start()
    assert early.getresponse().read() == b"hello"
    early.close()
    server.stop()


def test_localhost_is_every_loopback_address_that_this_machine_has() -> None:
    server = WebServer(hello, "localhost", 0)
    server.start()
    names = {address[0] for *_, address in socket.getaddrinfo("localhost", server.port, type=socket.SOCK_STREAM)}
    assert "127.0.0.1" in names
    for name in names:
        with suppress(OSError) if ":" in str(name) else nullcontext():  # where IPv6 is but a name
            socket.create_connection((str(name), server.port), timeout=5).close()
    assert httpx.get(f"http://127.0.0.1:{server.port}/").text == "hello"
    server.stop()


def test_it_stops_soon_though_a_browser_keeps_its_connection_open() -> None:
    server = WebServer(hello, "127.0.0.1", 0)
    server.start()
    with httpx.Client() as browser:
        browser.get(server.url)
        started = time.monotonic()
        server.stop(5)
        assert time.monotonic() - started < 3
    WebServer(hello, "127.0.0.1", server.port).stop()


def test_stopping_what_was_never_started_frees_the_port() -> None:
    server = WebServer(hello, "127.0.0.1", 0)
    server.stop()
    WebServer(hello, "127.0.0.1", server.port).stop()


def test_a_stop_right_after_the_start_is_not_lost() -> None:
    for _ in range(5):
        server = WebServer(hello, "127.0.0.1", 0)
        server.start()
        server.stop(5)
        assert not any(thread.name == "web" for thread in threading.enumerate())


def test_signals_stay_with_the_daemon() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    server = WebServer(hello, "127.0.0.1", 0)
    server.start()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    server.stop()


def test_it_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    server = WebServer(hello, "127.0.0.1", 0)
    server.start()
    httpx.get(server.url)
    server.stop()
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_no_answer_waits_for_an_acknowledgement() -> None:
    server = WebServer(hello, "127.0.0.1", 0)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    took = []
    for _ in range(21):
        started = time.perf_counter()
        connection.request("GET", "/")
        connection.getresponse().read()
        took.append(time.perf_counter() - started)
    connection.close()
    server.stop()
    assert statistics.median(took) < 0.03, "Nagle's algorithm and delayed acknowledgements make it 40 ms"


def test_an_idle_server_does_not_wake_up() -> None:
    server = WebServer(hello, "127.0.0.1", 0)
    server.start()
    httpx.get(server.url)
    task = next(Path("/proc/self/task").joinpath(str(t.native_id)) for t in threading.enumerate() if t.name == "web")

    def switches() -> int:
        status = dict(line.split(":", 1) for line in task.joinpath("status").read_text().splitlines())
        return int(status["voluntary_ctxt_switches"])

    time.sleep(0.2)
    before = switches()
    time.sleep(1.0)
    assert switches() - before < 5
    server.stop()


def loaded_by(code: str) -> tuple[float, set[str]]:
    """Run ``code`` in a fresh interpreter: its memory (PSS, MiB) and what it has imported."""
    script = (
        f"{code}\nimport sys\n"
        "print(next(line.split()[1] for line in open('/proc/self/smaps_rollup') if line.startswith('Pss:')))\n"
        "print('\\n'.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    kibibytes, *modules = done.stdout.split()
    return int(kibibytes) / 1024, {name.partition(".")[0] for name in modules}


def test_page_and_metrics_are_cheap_to_have() -> None:
    bare, _ = loaded_by("import asyncio, logging")
    whole, modules = loaded_by(
        "from tests.keepwatch import web_samples as s\nfrom keepwatch.metrics import MetricsPage\n"
        "from keepwatch.web.app import create_app\nfrom keepwatch.web.server import WebServer\n"
        "from keepwatch.web.page import PageRenderer\nview = s.bad_day()\n"
        "server = WebServer(create_app(lambda: view, lambda: s.NOW), '127.0.0.1', 0)\nserver.start()\n"
        "PageRenderer(lambda: s.NOW).page(view)\nMetricsPage(lambda: view).render()"
    )
    heavy = {
        "uvloop",
        "httptools",
        "websockets",
        "watchfiles",
        "boto3",
        "cryptography",
        "zstandard",
        "apprise",
        "rich",
        "typer",
    }
    assert modules & heavy == set()
    assert whole - bare < 40, f"{whole:.1f} MiB with page, metrics and server; {bare:.1f} MiB for Python with asyncio"


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"],
    ids=["silent", "half a line", "half the headers", "half a body"],
)
def test_a_client_that_does_not_finish_its_request_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    async def asks_for_the_body(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    monkeypatch.setattr("keepwatch.web.server._REQUEST_SECONDS", 0.1)
    server = WebServer(asks_for_the_body, "127.0.0.1", 0)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(begun)
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""
    server.stop()


def test_who_has_asked_may_wait_for_the_answer_and_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.4)
        await hello(scope, receive, send)

    monkeypatch.setattr("keepwatch.web.server._REQUEST_SECONDS", 0.2)
    server = WebServer(slow, "127.0.0.1", 0)
    server.start()
    with httpx.Client() as client:
        first, second = client.get(server.url), client.get(server.url)
    assert (first.text, second.text) == ("hello", "hello")
    server.stop()
