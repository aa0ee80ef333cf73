"""What one part of the settings says of another: repositories of jobs, dependencies and readings of checks, names.

Works on the document as written rather than on validated settings, so that these problems are reported together with
all others; whatever has the wrong shape is passed over here, for the models report it.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

from config.checks import TYPES, readings_of
from config.documents import Document
from config.exporting import LOOPBACK, host_of
from config.positions import Path as Keys
from config.problems import Problem
from config.threshold import Threshold
from config.wording import shown, suggestion

Table = dict[str, Any]

_S3_URL = re.compile(r"s3:(?://|https?://)?(?P<host>[^/\s]+)/(?P<bucket>[^/\s]+)(?:/[^\s?#]*)?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_S3_ONLY = (
    "access_key_id_file", "secret_access_key_file", "profile", "region", "storage_class", "server_side_encryption",
    "server_side_encryption_key_id", "object_lock", "extend",
)  # fmt: skip
"""What no folder can do; keys with a default are left alone, so that settings load again as they are shown."""

_FITS: dict[str, set[str]] = {
    "ratio": {"ratio", "number"},
    "bytes": {"bytes", "bytes_per_second"},
    "seconds": {"seconds"},
}
"""Which units of readings a bound of each kind can be compared with; a plain number fits all."""


def reference_problems(document: Document) -> Iterator[Problem]:
    """Yield every reference that leads nowhere, every name given twice and every dependency that runs in a circle."""
    yield from _web(document)
    yield from _repositories(document)
    yield from _jobs(document)
    for section in ("checks", "notify", "maintenance"):
        yield from _names(document, section)
    yield from _fallbacks(document)
    yield from _dependencies(document)
    for keys, check in _items(document, "checks"):
        yield from _thresholds(document, keys, check)


def _web(document: Document) -> Iterator[Problem]:
    web = _table(document.data, "web")
    listen = web.get("listen")
    if isinstance(listen, str) and ":" in listen and host_of(listen) not in LOOPBACK and "web_config_file" not in web:
        problem = "is no loopback address, so it needs a web_config_file with TLS and users (docs/web.md)"
        yield document.problem(("web", "listen"), problem, shown(listen))
    if isinstance(listen, str) and ":" in listen and host_of(listen) not in LOOPBACK:
        for keys, check in _items(document, "checks"):
            if check.get("type") == "heartbeat" and "token" not in check:
                problem = "a heartbeat needs a token where others can reach the page: its address is all it asks for"
                yield document.problem((*keys, "name"), problem)


def _repositories(document: Document) -> Iterator[Problem]:
    for name, repository in _named(document, "repositories"):
        url = repository.get("url")
        if not isinstance(url, str) or url.startswith("${"):
            continue
        # Nothing of a URL is shown: the ways restic writes them put passwords into some.
        if url.startswith("s3:"):
            misfit = None if "${" in url else s3_misfit(url)
            if misfit:
                yield document.problem(("repositories", name, "url"), misfit)
        elif not url.removeprefix("local:").startswith(("/", "${")):
            problem = "must be an absolute path, or s3:https://host/bucket/prefix"
            yield document.problem(("repositories", name, "url"), problem)
        else:
            for key in _S3_ONLY:
                if key in repository:
                    yield document.problem(("repositories", name, key), "is for repositories on S3 only")


def s3_misfit(url: str) -> str | None:
    """Say what is wrong with an ``s3:`` URL; None when nothing is. Shows nothing of it."""
    match = _S3_URL.fullmatch(url)
    if match is None:
        return "must name a host and a bucket, as s3:https://host/bucket/prefix does"
    if "@" in match["host"]:
        return "must not have a user or password in it; use access_key_id_file and secret_access_key_file"
    if not _BUCKET.fullmatch(match["bucket"]):
        return "must name a bucket of 3 to 63 lower-case letters, digits, dots and dashes after the host"
    return None


def _jobs(document: Document) -> Iterator[Problem]:
    known = _table(document.data, "repositories")
    for name, job in _named(document, "jobs"):
        names = job.get("repositories")
        mine = [entry for entry in names if isinstance(entry, str)] if isinstance(names, list) else []
        for index, entry in enumerate(mine):
            keys: Keys = ("jobs", name, "repositories", index)
            if entry not in known:
                yield document.problem(keys, f"no repository is named '{entry}'{suggestion(entry, known)}")
            if entry in mine[:index]:
                yield document.problem(keys, f"repository '{entry}' is named twice")
        drilled = _table(job, "drill").get("repository")
        if isinstance(drilled, str) and drilled not in mine:
            problem = f"the job does not write to a repository named '{drilled}'{suggestion(drilled, mine)}"
            yield document.problem(("jobs", name, "drill", "repository"), problem)


def _names(document: Document, section: str) -> Iterator[Problem]:
    first: dict[str, Keys] = {}
    for keys, item in _items(document, section):
        name = item.get("name")
        if isinstance(name, str) and first.setdefault(name, keys) != keys:
            place = document.place((*first[name], "name"))
            yield document.problem((*keys, "name"), f"the name is already taken at {place}", shown(name))


def _dependencies(document: Document) -> Iterator[Problem]:
    parents: dict[str, dict[str, Keys]] = {}
    for keys, check in _items(document, "checks"):
        names = check.get("depends_on")
        if isinstance(check.get("name"), str) and isinstance(names, list):
            parents[check["name"]] = dict(_parents((*keys, "depends_on"), names))
        elif isinstance(check.get("name"), str):
            parents[check["name"]] = {}
    for links in parents.values():
        for parent, keys in links.items():
            if parent not in parents:
                yield document.problem(keys, f"no check is named '{parent}'{suggestion(parent, parents)}")
    for circle in _circles({name: [p for p in links if p in parents] for name, links in parents.items()}):
        keys = parents[circle[0]][circle[1]]
        yield document.problem(keys, f"checks depend on each other in a circle: {' -> '.join(circle)}")


def _parents(keys: Keys, names: list[Any]) -> Iterator[tuple[str, Keys]]:
    """Yield the checks of a `depends_on`, those of redundancy groups included, with where each stands."""
    for index, name in enumerate(names):
        if isinstance(name, str):
            yield name, (*keys, index)
        elif isinstance(name, list):
            yield from _parents((*keys, index), name)


def _fallbacks(document: Document) -> Iterator[Problem]:
    """Yield fallback channels that do not exist; one cannot stand in for itself."""
    known = {channel["name"] for _, channel in _items(document, "notify") if isinstance(channel.get("name"), str)}
    for keys, channel in _items(document, "notify"):
        written = channel.get("fallback")
        others = {name for name in known if name != channel.get("name")}
        for name in written if isinstance(written, list) else [written]:
            if isinstance(name, str) and name not in others:
                problem = f"no other channel is named '{name}'{suggestion(name, others)}"
                yield document.problem((*keys, "fallback"), problem)


def _circles(parents: dict[str, list[str]]) -> Iterator[list[str]]:
    """Yield each circle found by walking up from every check, once, as a path that ends where it begins."""
    done: set[str] = set()
    for start in parents:
        path: list[str] = []
        ahead: list[tuple[str, Literal["enter", "leave"]]] = [(start, "enter")]
        while ahead:
            name, step = ahead.pop()
            if step == "leave":
                path.pop()
                done.add(name)
            elif name in path:
                yield [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                ahead.append((name, "leave"))
                ahead.extend((parent, "enter") for parent in reversed(parents[name]))


def _thresholds(document: Document, keys: Keys, check: Table) -> Iterator[Problem]:
    if not isinstance(check.get("type"), str) or check["type"] not in TYPES:
        return
    readings = readings_of(check["type"])
    if not readings:
        return
    for key_of_rows in ("warning", "critical", "forecast"):
        written = check.get(key_of_rows)
        rows: list[tuple[Keys, Any]] = [((*keys, key_of_rows), written)]
        if isinstance(written, list):
            rows = [((*keys, key_of_rows, index), row) for index, row in enumerate(written)]
        for at, row in rows:
            bound = row if isinstance(row, dict) else {"raise": row}
            reading = bound.get("reading", next(iter(readings)))
            if not isinstance(reading, str):
                continue
            if reading not in readings:
                problem = f"a {check['type']} check has no such reading{suggestion(reading, readings)}"
                yield document.problem((*at, "reading"), problem, shown(reading))
                continue
            for key in ("raise", "clear", "reaches"):
                text = bound.get(key)
                misfit = _misfit(f"== {text}" if key == "reaches" else text, reading, readings[reading])
                if misfit:
                    place = (*at, key) if isinstance(row, dict) else at
                    yield document.problem(place, misfit, shown(bound[key]))


def _misfit(text: object, reading: str, unit: str) -> str | None:
    try:
        threshold = Threshold.parse(text)
    except ValueError:
        return None
    if unit not in _FITS.get(threshold.kind, {unit}):
        return f"{reading} is measured in {unit.replace('_', ' ')}, not in {threshold.kind}"
    if unit == "ratio" and threshold.kind == "number" and threshold.bound >= 10:
        return f"{reading} is a ratio, where 1 is everything; write {threshold.op} {threshold.bound:g}%"
    return None


def _table(data: Table, key: str) -> Table:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _named(document: Document, section: str) -> Iterator[tuple[str, Table]]:
    yield from ((name, item) for name, item in _table(document.data, section).items() if isinstance(item, dict))


def _items(document: Document, section: str) -> Iterator[tuple[Keys, Table]]:
    items = document.data.get(section)
    for index, item in enumerate(items if isinstance(items, list) else []):
        if isinstance(item, dict):
            yield (section, index), item
