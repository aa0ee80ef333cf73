"""Web addresses: real servers on loopback that answer well, badly, slowly, for ever or with a bad certificate."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from monitor.probes import http_exchange
from monitor.probes.http import HttpProbe, shown
from monitor.probes.http_exchange import BODY_LIMIT_BYTES, Request
from monitor.result import Measurement, Status

Respond = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers each path as told and remembers what was asked."""

    daemon_threads = True

    def __init__(self, respond: dict[str, Respond]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.server.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))  # type: ignore[attr-defined]
                respond[self.path.partition("?")[0]](self)

            do_GET = do_POST = do_HEAD = answer  # noqa: N815 - http.server's names

            def log_message(self, *about: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def handle_error(self, *about: Any) -> None: ...


def answer(status: int = 200, body: bytes = b"all is well", **headers: str) -> Respond:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return respond


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b".")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(respond: dict[str, Respond] | Respond, certificate: Path | None = None) -> Server:
        server = Server(respond if isinstance(respond, dict) else {"/": respond})
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.scheme = "https"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def say() -> Iterator[Callable[[bytes], str]]:
    """A server that sends given bytes to whoever connects, whatever is asked, and hangs up."""
    listeners = []

    def start(raw: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def speak() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(raw)

        threading.Thread(target=speak, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Make a certificate one that this machine trusts."""

    def trust(certificate: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        http_exchange._tls.cache_clear()

    yield trust
    http_exchange._tls.cache_clear()


def ask(url: str, timeout: float = 10.0, method: str = "GET", **about: Any) -> Measurement:
    headers, body = about.pop("headers", {}), about.pop("body", None)
    request = Request(method, url, headers, body)
    return HttpProbe(request, timeout_seconds=timeout, clock=lambda: datetime.now(UTC), **about).measure()


def fault(measured: Measurement) -> str:
    assert measured.finding is not None, "it was taken for fine"
    assert measured.finding.status is Status.CRITICAL
    return measured.finding.message


def test_a_good_answer_gives_its_time_and_status(serve: Any, values: Any) -> None:
    measured = ask(serve(answer()).url)
    assert measured.finding is None
    assert list(values(measured)) == ["response_time", "status_code"]
    assert values(measured)["status_code"] == 200
    assert 0 < values(measured)["response_time"] < 5


def test_an_error_status_is_critical_and_still_measured(serve: Any, values: Any) -> None:
    server = serve(answer(500))
    measured = ask(server.url)
    assert fault(measured) == f"{server.url} answered 500, expected 200"
    assert values(measured)["status_code"] == 500


def test_another_status_may_be_expected(serve: Any) -> None:
    assert ask(serve(answer(404)).url, expect_status=[404, 410]).finding is None


def test_a_missing_text_is_critical(serve: Any) -> None:
    server = serve(answer(body=b"maintenance"))
    assert ask(server.url, contains="tenance").finding is None
    assert "lacks the text 'all is well'" in fault(ask(server.url, contains="all is well"))


def test_a_text_is_read_in_the_answers_own_encoding(serve: Any) -> None:
    latin = serve(answer(body="café".encode("latin-1"), Content_Type="text/html; charset=ISO-8859-1"))
    assert ask(latin.url, contains="café").finding is None
    unheard_of = serve(answer(body="café".encode(), Content_Type="text/html; charset=klingon"))
    assert ask(unheard_of.url, contains="café").finding is None


def test_a_body_beyond_the_cap_is_not_read_and_said_to_be_cut(serve: Any) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65_536)

    assert f"first {BODY_LIMIT_BYTES} bytes" in fault(ask(serve(endless).url, contains="needle"))


def test_a_server_that_answers_a_byte_at_a_time_ends_at_the_deadline(serve: Any) -> None:
    began = time.monotonic()
    assert "in time" in fault(ask(serve(drip).url, timeout=0.5))
    assert time.monotonic() - began < 3


def test_headers_that_never_end_stop_at_the_deadline(serve: Any) -> None:
    def headers_for_ever(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        drip(handler)

    assert "in time" in fault(ask(serve(headers_for_ever).url, timeout=0.4))


def test_a_server_that_says_nothing_ends_at_the_deadline(serve: Any) -> None:
    release = threading.Event()
    assert "in time" in fault(ask(serve(lambda _: release.wait(5)).url, timeout=0.4))
    release.set()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "does not answer in HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "does not answer in HTTP: IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(200)), "HTTPException"),
        (b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n", "LineTooLong"),
    ],
)
def test_what_is_no_http_is_critical(say: Any, raw: bytes, reason: str) -> None:
    assert reason in fault(ask(say(raw)))


def test_a_refused_connection_is_critical() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "connection refused" in fault(ask(f"http://127.0.0.1:{port}/"))


def test_method_headers_and_body_are_sent(serve: Any) -> None:
    server = serve({"/submit": answer()})
    ask(f"{server.url}/submit?q=a b", method="POST", headers={"X-Token": "t", "user-agent": "me"}, body="päyload")
    method, path, headers, body = server.asked[0]
    assert (method, path, body) == ("POST", "/submit?q=a%20b", "päyload".encode())
    assert (headers["X-Token"], headers["user-agent"], headers["Host"]) == ("t", "me", server.url.partition("//")[2])
    assert "User-Agent" not in headers


def test_head_reads_no_body(serve: Any) -> None:
    assert ask(serve(answer()).url, method="HEAD").finding is None


def test_a_user_in_the_address_is_sent_and_never_shown(serve: Any) -> None:
    server = serve(answer(401))
    message = fault(ask(server.url.replace("//", "//me:s%40cret@") + "/?token=abc"))
    assert server.asked[0][2]["Authorization"] == "Basic bWU6c0BjcmV0"
    assert "cret" not in message
    assert "abc" not in message
    assert shown("https://a:b@host:1/x?y#z") == "https://host:1/x"


def test_redirects_are_followed_unless_expected(serve: Any, values: Any) -> None:
    server = serve({"/": answer(302, Location="/login?next=1"), "/login": answer()})
    assert values(ask(server.url))["status_code"] == 200
    assert values(ask(server.url, expect_status=[302]))["status_code"] == 302


def test_a_redirected_post_becomes_a_get_or_stays_one_as_its_status_says(serve: Any) -> None:
    server = serve({"/see": answer(303, Location="/end"), "/keep": answer(307, Location="/end"), "/end": answer()})
    ask(f"{server.url}/see", method="POST", body="x")
    ask(f"{server.url}/keep", method="POST", body="x")
    assert [row[0] for row in server.asked] == ["POST", "GET", "POST", "POST"]


def test_a_circle_of_redirects_is_critical(serve: Any) -> None:
    assert "redirects more than 5 times" in fault(ask(serve(answer(301, Location="/")).url))


@pytest.mark.parametrize("target", ["ftp://example.com/", "http://[half/", "http://127.0.0.1:99999/"])
def test_a_redirect_to_no_web_address_is_critical(serve: Any, target: str) -> None:
    assert "not a web address" in fault(ask(serve(answer(302, Location=target)).url))


def test_credentials_do_not_follow_to_another_server(serve: Any) -> None:
    other = serve(answer())
    server = serve({"/": answer(302, Location=f"{other.url}/"), "/in": answer(302, Location="/end"), "/end": answer()})
    ask(server.url, headers={"Authorization": "Bearer secret", "X-Plain": "1"})
    assert "Authorization" not in other.asked[0][2]
    assert other.asked[0][2]["X-Plain"] == "1"
    ask(f"{server.url}/in", headers={"Authorization": "Bearer secret"})
    assert server.asked[-1][2]["Authorization"] == "Bearer secret"


def test_a_redirect_out_of_encryption_is_critical(serve: Any, certificate_file: Any) -> None:
    plain = serve(answer())
    server = serve(answer(302, Location=plain.url), certificate_file(30))
    assert "not encrypted" in fault(ask(server.url, verify_tls=False))
    assert plain.asked == []


def test_a_trusted_certificate_tells_how_long_it_lasts(
    serve: Any, certificate_file: Any, trusted: Any, values: Any
) -> None:
    trusted(certificate_file(20))
    measured = ask(serve(answer(), certificate_file(20)).url)
    assert measured.finding is None
    assert values(measured)["certificate_expires_in"] == pytest.approx(20 * 86_400, abs=300)


def test_an_expired_certificate_is_critical_and_its_age_measured(
    serve: Any, certificate_file: Any, trusted: Any, values: Any
) -> None:
    trusted(certificate_file(-3))
    measured = ask(serve(answer(), certificate_file(-3)).url)
    assert "certificate has expired" in fault(measured)
    assert values(measured)["certificate_expires_in"] == pytest.approx(-3 * 86_400, abs=300)


def test_a_self_signed_certificate_is_critical_unless_it_need_not_hold(
    serve: Any, certificate_file: Any, values: Any
) -> None:
    server = serve(answer(), certificate_file(30))
    assert "self-signed certificate" in fault(ask(server.url)).replace("self signed", "self-signed")
    measured = ask(server.url, verify_tls=False)
    assert measured.finding is None
    assert values(measured)["certificate_expires_in"] == pytest.approx(30 * 86_400, abs=300)


def test_an_authority_installed_meanwhile_is_known_at_the_next_run(
    serve: Any, certificate_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certificate_file(30)
    server = serve(answer(), certificate)
    fault(ask(server.url))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert ask(server.url).finding is None
    http_exchange._tls.cache_clear()


def test_a_server_without_tls_is_critical(serve: Any) -> None:
    assert "TLS with https://127.0.0.1 failed" in fault(ask(serve(answer()).url.replace("http:", "https:")))


def test_a_tls_handshake_that_hangs_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert "in time" in fault(ask(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.4))
        assert time.monotonic() - began < 3


def test_an_address_that_is_none_is_critical() -> None:
    assert "not one of http or https" in fault(ask("http://127.0.0.1:99999/"))
