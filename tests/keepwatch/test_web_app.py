"""The addresses of the web server, over real HTTP."""

import http.client
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from config.checks import TYPES
from keepwatch.view import View
from keepwatch.web import app
from keepwatch.web.page import GROUPS
from keepwatch.web.server import WebServer
from monitor.result import Status
from tests.keepwatch import web_samples as samples

PAGES = (
    "/",
    "/fragment",
    "/metrics",
    "/-/healthy",
    "/-/ready",
    "/api/v1/view",
    "/api/v1/checks",
    "/api/v1/alerts",
    "/api/v1/jobs",
    "/api/v1/runs",
    "/api/v1/drills",
    "/api/v1/snapshots",
    "/static/page.css",
    "/static/page.js",
)


@contextmanager
def serving(view: Callable[[], View], **options: Any) -> Iterator[httpx.Client]:
    server = WebServer(app.create_app(view, options.pop("clock", lambda: samples.NOW), **options), "127.0.0.1", 0)
    server.start()
    try:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            yield client
    finally:
        server.stop()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    view = samples.bad_day()
    with serving(lambda: view) as client:
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_every_address_answers_get_and_head_and_nothing_else(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        refused = client.request(method, path)
        assert refused.status_code == 405
        assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", [*PAGES, "/nowhere"])
def test_every_answer_carries_the_security_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' data:")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:9750", "127.0.0.1:80", "[::1]:9750"])
def test_loopback_names_are_served(client: httpx.Client, host: str) -> None:
    assert client.get("/-/healthy", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9750",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost:x",
        "[::1",
        "0.0.0.0",
    ],
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/view", "/static/page.js"])
def test_a_foreign_name_for_this_address_is_refused(client: httpx.Client, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert "erp-1" not in answer.text
    assert answer.headers.get("x-frame-options", "DENY") == "DENY"


def test_a_request_without_a_host_is_refused(client: httpx.Client) -> None:
    raw = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=10)
    raw.putrequest("GET", "/", skip_host=True)
    raw.endheaders()
    assert raw.getresponse().status in (400, 421)
    raw.close()


def test_metrics_are_served_in_prometheus_text_format_and_promtool_agrees(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    done = subprocess.run(["promtool", "check", "metrics"], input=answer.content, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_it_is_ready_once_every_check_has_run() -> None:
    views = [samples.first_second()]
    with serving(lambda: views[-1]) as client:
        waiting = client.get("/-/ready")
        assert waiting.status_code == 503
        assert waiting.text == "not ready: 6 of 6 checks did not run yet: cpu, load, memory, swap, processes, ...\n"
        assert client.get("/-/healthy").status_code == 200
        views.append(samples.healthy())
        assert client.get("/-/ready").status_code == 200


def test_it_is_not_ready_while_the_daemon_says_so() -> None:
    reasons: list[str | None] = ["monitor.db is not open yet"]
    with serving(samples.healthy, not_ready=lambda: reasons[-1]) as client:
        assert (client.get("/-/ready").status_code, client.get("/-/ready").text) == (
            503,
            "not ready: monitor.db is not open yet\n",
        )
        reasons.append(None)
        assert client.get("/-/ready").status_code == 200


def test_the_whole_view_is_json(client: httpx.Client) -> None:
    view = client.get("/api/v1/view").json()
    assert view["host"] == "erp-1"
    assert view["made_at"] == "2026-03-03T13:32:05Z"
    assert view["checks"][0]["status"] == "ok"
    assert view["checks"][0]["readings"][0] == {"name": "used", "value": 0.124, "unit": "ratio", "entity": ""}
    assert view["jobs"][0]["duties"][0]["max_age_seconds"] == 7200
    assert view["silences"][0] == {
        "id": 3,
        "matchers": "check=invoice service",
        "author": "weber",
        "comment": "deploying 4.2",
        "ends_at": "2026-03-03T14:20:05Z",
    }
    assert view["notifications"][0] == {"channel": "ops", "sent": 12, "failed": 1}
    assert view["suppressed"][0] == {"reason": "silence 3", "count": 1}
    assert set(view) == set(View.__dataclass_fields__)


@pytest.mark.parametrize("name", ["checks", "alerts", "jobs", "runs", "drills", "snapshots"])
def test_a_part_of_the_view_has_an_address_of_its_own(client: httpx.Client, name: str) -> None:
    part = client.get(f"/api/v1/{name}").json()
    assert set(part) == {"host", "made_at", name}
    assert part[name] == client.get("/api/v1/view").json()[name]
    assert len(part[name]) == len(getattr(samples.bad_day(), name))


def test_json_has_null_for_what_is_no_number_and_a_question_mark_for_what_is_no_text() -> None:
    good = samples.healthy()
    odd = replace(good.checks[0], entity="caf\udce9", trend=(float("nan"), float("inf"), 1.0))
    with serving(lambda: replace(good, checks=(odd,))) as client:
        found = json.loads(client.get("/api/v1/checks").content)["checks"][0]
        assert (found["entity"], found["trend"]) == ("caf?", [None, None, 1.0])
        assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    "path", ["/nowhere", "/api/v1/secrets", "/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/page.py"]
)
def test_what_is_not_there_is_a_page_without_a_traceback(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "Traceback" not in answer.text
    assert "import" not in answer.text


def test_errors_come_in_the_form_that_was_asked_for(client: httpx.Client) -> None:
    assert client.get("/nowhere", headers={"Accept": "text/html"}).headers["content-type"].startswith("text/html")
    assert client.get("/nowhere", headers={"Accept": "*/*"}).text == "404 There is no such page.\n"
    assert client.get("/api/v1/nowhere").json() == {"error": "There is no such page.", "status": 404}


def test_a_bug_is_a_500_without_a_traceback_and_the_log_has_it(caplog: pytest.LogCaptureFixture) -> None:
    def view() -> View:
        raise RuntimeError("planted secret")

    with serving(view, page=None) as client:
        answer = client.get("/", headers={"Accept": "text/html"})
        assert answer.status_code == 500
        assert "planted" not in answer.text
        assert answer.headers["x-frame-options"] == "DENY"
        assert client.get("/api/v1/view").json()["status"] == 500
        assert client.get("/-/healthy").status_code == 200
    assert "planted secret" in caplog.text


def test_an_unchanged_fragment_is_not_sent_again() -> None:
    views = [samples.healthy()]
    with serving(lambda: views[-1]) as client:
        first = client.get("/fragment")
        again = client.get("/fragment", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        views.append(samples.bad_day())
        assert client.get("/fragment", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


def test_relative_times_go_on_though_the_view_stays() -> None:
    moments: list[datetime] = [samples.NOW]
    view = samples.healthy()
    with serving(lambda: view, clock=lambda: moments[-1]) as client:
        assert ">18 min ago</time>" in client.get("/fragment").text
        moments.append(samples.NOW + timedelta(minutes=1))
        assert ">19 min ago</time>" in client.get("/fragment").text


def test_the_page_asks_nobody_else_for_anything(client: httpx.Client) -> None:
    page = client.get("/").text
    links = re.findall(r'(?:src|href|action|data)="([^"]*)"', page)
    assert [link for link in links if link.startswith(("http:", "https:", "//"))] == [
        "https://wiki.example.com/invoice"
    ]
    style = client.get("/static/page.css").text
    assert "url(" not in style
    assert "@import" not in style


def test_text_from_outside_is_escaped(client: httpx.Client) -> None:
    page = client.get("/").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert page.count("<script") == 1
    assert 'href="javascript:' not in page
    assert not re.search(r"<[^>]+ (style|on\w+)=", page)


def test_commands_to_copy_are_safe_in_a_shell(client: httpx.Client) -> None:
    commands = re.findall(r"<code>(keepwatch (?:ack|silence) [^<]*)</code>", client.get("/").text)
    assert "keepwatch ack 7f31" in commands
    for command in commands:
        words = subprocess.run(
            ["sh", "-c", f"keepwatch() {{ printf '%s\\n' \"$@\"; }}; {unescape(command)}"],
            capture_output=True,
            text=True,
        )
        assert words.stderr == ""
        assert words.stdout.splitlines()[0] in ("ack", "silence")


def unescape(text: str) -> str:
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&#39;", "'"), ("&#34;", '"'), ("&amp;", "&")):
        text = text.replace(entity, sign)
    return text


def test_without_scripts_the_page_still_renews_itself(client: httpx.Client) -> None:
    assert '<noscript><meta http-equiv="refresh"' in client.get("/").text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            samples.first_second,
            ["Starting", "No drill has ended yet", "No snapshot yet", "No run yet", "none yet; the first backup"],
        ),
        (
            samples.nothing_set_up,
            ["no jobs", "[[checks]]", "[jobs.NAME]", "[repositories.NAME]", "Nothing is pending or firing"],
        ),
        (
            samples.bad_day,
            ["FAILED", "INCONCLUSIVE", "partial", "overdue", "to be sent: 4", "deploying 4.2", "were refused"],
        ),
        (
            samples.healthy,
            ["PASSED", "succeeded", "63 %", "73.2 GiB", "nvme0n1", "proven", "2026-03-03 14:14:05 CET", "0.1.0"],
        ),
    ],
)
def test_the_page_says(make: Callable[[], View], words: list[str]) -> None:
    view = make()
    with serving(lambda: view) as client:
        page = client.get("/").text
    assert [word for word in words if word not in page] == []


def test_a_loop_that_stopped_is_told_at_the_top() -> None:
    with serving(lambda: replace(samples.healthy(), made_at=samples.ago(minutes=7))) as client:
        page = client.get("/").text
    assert "its loop has stopped" in page
    assert "no news" in page


def test_every_type_of_check_has_its_group_on_the_page() -> None:
    assert sorted(type_ for types in GROUPS.values() for type_ in types) == sorted(TYPES)


def test_checks_with_nothing_to_measure_are_folded_away(client: httpx.Client) -> None:
    shown, _, folded = client.get("/").text.partition("nothing to measure on this machine: 1")
    absent = next(check for check in samples.bad_day().checks if check.status is Status.ABSENT)
    assert f'data-key="{absent.check}/{absent.entity}"' in folded
    assert f'data-key="{absent.check}/{absent.entity}"' not in shown
