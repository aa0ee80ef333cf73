"""Pings and pushed readings over HTTP: taken with a token, stored before they are answered, refused from strangers."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from starlette.types import Message

from config.checks import CheckSettings
from keepwatch.web.access import Access
from keepwatch.web.app import create_app
from keepwatch.web.intake import LONGEST_LOG_BYTES, LONGEST_PUSH_BYTES
from keepwatch.web.server import WebServer
from monitor.inbox import Inbox
from monitor.memory import Memories
from tests.keepwatch import web_samples as samples

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHECKS: list[dict[str, Any]] = [
    {"name": "nightly import", "type": "heartbeat"},
    {"name": "mail", "type": "heartbeat", "token": "s3cret"},
    {"name": "press", "type": "push", "token": "p0sh"},
]


class Desk:
    """A page with an inbox, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inbox = Inbox(Memories(folder))
        self.inbox.expect([TypeAdapter(CheckSettings).validate_python(check) for check in CHECKS], NOW)
        self.app = create_app(samples.bad_day, lambda: NOW, inbox=self.inbox)

    @contextlib.contextmanager
    def open(self) -> Iterator[httpx.Client]:
        server = WebServer(self.app, "127.0.0.1", 0)
        server.start()
        try:
            with httpx.Client(base_url=server.url, trust_env=False) as client:
                yield client
        finally:
            server.stop()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "memories")


@pytest.fixture
def client(desk: Desk) -> Iterator[httpx.Client]:
    with desk.open() as client:
        yield client


def test_a_job_pings_by_name_or_token_and_it_is_kept(desk: Desk, client: httpx.Client) -> None:
    assert client.get("/ping/nightly%20import/start").text == "OK\n"
    assert client.post("/ping/nightly%20import/3", content=b"cannot \xff reach").status_code == 200
    kept = Inbox(Memories(desk.folder)).heartbeat("nightly import", NOW)
    assert (kept.exit_code, kept.started_at, kept.ended_at, kept.succeeded_at) == (3, NOW, NOW, None)
    assert kept.log == "cannot \N{REPLACEMENT CHARACTER} reach"
    assert client.get("/ping/s3cret").status_code == 200
    assert desk.inbox.heartbeat("mail", NOW).succeeded_at == NOW


def test_strangers_are_refused(client: httpx.Client) -> None:
    assert client.get("/ping/mail").status_code == 404
    assert client.get("/ping/nothing/start").status_code == 404
    assert client.get("/ping/s3cret/whatever").status_code == 400
    assert client.delete("/ping/s3cret").status_code == 405
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic p0sh"}):
        assert client.post("/api/v1/push/press", json={"a": 1}, headers=headers).status_code == 404


def test_a_page_of_another_site_cannot_ping_through_a_browser(desk: Desk, client: httpx.Client) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.get("/ping/s3cret", headers=headers).status_code == 403
    assert client.get("/ping/s3cret", headers={"Host": "evil.example"}).status_code == 421
    assert desk.inbox.heartbeat("mail", NOW).succeeded_at is None


def test_readings_are_pushed_with_a_token(desk: Desk, client: httpx.Client) -> None:
    headers = {"Authorization": "Bearer p0sh"}
    answer = client.post("/api/v1/push/press", json={"temperature": 48.5}, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"readings": 1})
    pushed = desk.inbox.pushed("press")
    assert pushed is not None
    assert pushed.readings[0].value == 48.5
    answer = client.post("/api/v1/push/press", content=b"{", headers=headers)
    assert (answer.status_code, "not JSON" in answer.json()["error"]) == (400, True)


def test_bodies_are_capped(desk: Desk, client: httpx.Client) -> None:
    assert client.post("/ping/s3cret", content=b"x" * (LONGEST_LOG_BYTES + 1)).status_code == 413
    headers = {"Authorization": "Bearer p0sh"}
    long = client.post("/api/v1/push/press", content=b" " * (LONGEST_PUSH_BYTES + 1), headers=headers)
    assert long.status_code == 413
    assert desk.inbox.pushed("press") is None


def test_what_cannot_be_stored_is_not_acknowledged(desk: Desk, client: httpx.Client) -> None:
    for path in desk.folder.iterdir():
        path.unlink()
    desk.folder.rmdir()
    desk.folder.write_text("in the way", encoding="utf-8")
    assert client.get("/ping/s3cret").status_code == 503


def test_pings_ask_for_their_token_where_the_page_asks_for_a_password(desk: Desk, tmp_path: Path) -> None:
    users = tmp_path / "web.config.yml"
    users.write_text("basic_auth_users:\n  ann: $2b$10$CwTycUXWue0Thq9StjUM0uJ8/TqLbKlaMmrZx3RJP2lQkHFxYTgaa\n")
    desk.app = create_app(samples.bad_day, lambda: NOW, inbox=desk.inbox, access=Access(users))
    with desk.open() as client:
        assert client.get("/").status_code == 401
        assert client.get("/ping/s3cret").status_code == 200
        assert client.get("/ping/wrong").status_code == 404
        assert client.get("/api/v1/checks").status_code == 401


def test_the_page_itself_is_still_read_only(client: httpx.Client) -> None:
    assert client.get("/-/healthy").status_code == 200
    assert client.post("/-/healthy").status_code == 405


def test_a_sender_that_breaks_off_is_no_bug_of_ours_and_nothing_is_kept(desk: Desk) -> None:
    parts = iter([{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Message] = []

    async def receive() -> Message:
        return next(parts)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/ping/s3cret", "headers": [(b"host", b"localhost")],
             "query_string": b"", "server": ("127.0.0.1", 80), "scheme": "http"}  # fmt: skip
    asyncio.run(desk.app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert desk.inbox.heartbeat("mail", NOW).succeeded_at is None
