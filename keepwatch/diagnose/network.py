"""The first question: can everything be reached that the settings name? Storages, channels, heartbeat, the own page.

A connection is opened and closed again, nothing is sent. Only names of hosts are looked up that are hosts for certain:
many notification URLs carry a token where others have a host, and a token must not travel to a name server.
"""

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from config.settings import Settings
from keepwatch.diagnose.answer import Answer, note, ok, problem, unknown

_SECONDS = 5.0
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_HOSTED = {
    "json": 80, "jsons": 443, "xml": 80, "xmls": 443, "form": 80, "forms": 443, "mailto": 25, "mailtos": 587,
    "ntfy": 80, "ntfys": 443, "gotify": 80, "gotifys": 443, "matrix": 80, "matrixs": 443, "rocket": 80, "rockets": 443,
    "mmost": 8065, "mmosts": 443, "mqtt": 1883, "mqtts": 8883, "syslog": 514,
}  # fmt: skip
"""Schemes of Apprise whose URL names a host where a host belongs, and the port when it names none."""
_SERVICES = {
    "slack": "slack.com", "tgram": "api.telegram.org", "discord": "discord.com", "dingtalk": "oapi.dingtalk.com",
    "wecombot": "qyapi.weixin.qq.com", "feishu": "open.feishu.cn", "pover": "api.pushover.net",
    "msteams": "outlook.office.com", "twilio": "api.twilio.com", "pagerduty": "events.pagerduty.com",
    "sendgrid": "api.sendgrid.com", "mailgun": "api.mailgun.net",
}  # fmt: skip
"""Services whose URL carries tokens only, and where they are reached (as their own documentation says)."""

Connect = Callable[[str, int], None]
"""Opens a connection to a host and port and closes it. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something to reach."""

    subject: str
    host: str
    port: int


def connect(host: str, port: int) -> None:
    """Open a TCP connection within five seconds and close it."""
    socket.create_connection((host, port), _SECONDS).close()


def network(settings: Settings, connect: Connect = connect) -> Iterator[Answer]:
    """Try everything at once, and answer in the order of the settings."""
    found = list(_targets(settings))
    targets = [one for one in found if isinstance(one, Target)]
    with ThreadPoolExecutor(max_workers=16) as pool:
        tried = dict(zip(targets, pool.map(lambda target: _try(target, connect), targets), strict=True))
    for one in found:
        yield tried[one] if isinstance(one, Target) else one
    if proxies := sorted({name for name in os.environ if name.lower() in _PROXIES}):
        yield note("proxy", f"{', '.join(proxies)} set; what goes through it was tried directly here")


def _targets(settings: Settings) -> Iterator[Target | Answer]:
    yield Target("this page", settings.web.host, settings.web.port)
    for name, repository in settings.repositories.items():
        subject = f"repository {name}"
        if repository.is_s3:
            parts = urlsplit(_s3_address(repository.url))
            yield _target(subject, parts, 443)
        elif Path(repository.url.removeprefix("local:")).exists():
            yield ok(subject, "its folder is there")
        else:
            yield problem(subject, f"{repository.url} is not there", "is its disk mounted? The first backup makes it")
    for channel in settings.notify:
        yield _channel(f"channel {channel.name}", channel.url.get_secret_value())
    for index, url in enumerate(settings.alertmanager.urls if settings.alertmanager else []):
        yield _target(f"alertmanager {index + 1}", urlsplit(_text(url)), 80)
    if settings.heartbeat:
        yield _target("heartbeat", urlsplit(settings.heartbeat.url.get_secret_value()), 443)


def _channel(subject: str, url: str) -> Target | Answer:
    parts = urlsplit(url)
    if host := _SERVICES.get(parts.scheme):
        return Target(subject, host, 443)
    if parts.scheme in _HOSTED:
        return _target(subject, parts, _HOSTED[parts.scheme])
    return unknown(subject, f"which host {parts.scheme}:// needs is not known here", "send a test message instead")


def _target(subject: str, parts: SplitResult, port: int) -> Target | Answer:
    try:
        host, given = parts.hostname, parts.port
    except ValueError:
        host, given = None, None
    if not host:
        return problem(subject, "its address names no host", "`keepwatch config check`")
    return Target(subject, host, given or (80 if parts.scheme == "http" else port))


def _try(target: Target, connect: Connect) -> Answer:
    where = f"{target.host}:{target.port}"
    try:
        connect(target.host, target.port)
    except socket.gaierror as error:
        reason = (error.strerror or str(error)).lower()
        return problem(target.subject, f"the name {target.host} is not found: {reason}", "look at its DNS entry")
    except TimeoutError:
        hint = "a firewall drops it, or the host is down"
        return problem(target.subject, f"{where} did not answer within {_SECONDS:g} s", hint)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return problem(target.subject, f"{where} cannot be reached: {reason}", _hint(target))
    return ok(target.subject, f"{where} answers")


def _hint(target: Target) -> str:
    if target.subject == "this page":
        return "the daemon does not run: systemctl status keepwatch"
    return "does the service run there, and does a firewall let it through?"


def _s3_address(url: str) -> str:
    address = url.removeprefix("s3:")
    return address if "://" in address else f"https://{address.lstrip('/')}"


def _text(value: object) -> str:
    secret = getattr(value, "get_secret_value", None)
    return str(secret() if secret else value)
