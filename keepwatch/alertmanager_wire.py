"""What is sent to an Alertmanager: alerts and silences as its API v2 wants them. Pure functions of values and ``now``.

Labels are identity only, no values and no times, so that an alert stays the same alert from one message to the next;
what changes stands in annotations. A severity is part of the identity: an alert that worsens is another one, and the
milder one is over. API: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor.alerting import Alert
from monitor.engine import Standing
from monitor.matching import Matcher, labels_of
from monitor.suppress import Silence

RESEND = timedelta(minutes=1)
"""An alert that has not changed is sent again so often, and no oftener."""
LASTS = 4 * RESEND
"""How long an Alertmanager believes in an alert that is not sent again: ``endsAt``, as Prometheus sets it."""
TELL_RESOLVED = timedelta(minutes=15)
"""How long the end of an alert is sent: an Alertmanager that was away meanwhile shall hear of it."""

Identity = tuple[tuple[str, str], ...]
"""An alert's labels, sorted by name."""
Document = dict[str, Any]
"""A JSON object of the API."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What an Alertmanager was last sent of one identity."""

    document: Document
    at: datetime
    resolved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: this machine's name and where its page is."""

    host: str
    url: str


def identity_of(alert: Alert, host: str) -> Identity:
    """Return the labels of an alert on the wire: all that silences can match but its number."""
    labels = labels_of(alert, host)
    del labels["id"]
    return tuple(sorted((re.sub(r"\W", "_", name), value) for name, value in labels.items() if value))


def watchdog(sender: Sender, now: datetime, started_at: datetime) -> tuple[Identity, Document]:
    """Return the alert that always fires: when it stops arriving, somebody outside pages."""
    labels = {"alertname": "Watchdog", "host": sender.host, "severity": "none"}
    said = {"summary": f"keepwatch on {sender.host} measures, judges and tells", "runbook": "watchdog"}
    return tuple(sorted(labels.items())), _firing(labels, said, started_at, sender, now)


def firing(standings: Iterable[Standing], severities: Sequence[str], sender: Sender, now: datetime,
           known: Mapping[Identity, Sent]) -> dict[Identity, Document]:  # fmt: skip
    """Return what fires. What is held back here is not begun; but what an Alertmanager knows goes on being sent, since
    it would take silence for the end (a mirrored silence keeps it quiet).
    """
    found: dict[Identity, Document] = {}
    for standing in standings:
        alert = standing.alert
        if not alert.is_firing or alert.severity.label not in severities:
            continue
        identity = identity_of(alert, sender.host)
        held = any(one.kind.value != "flapping" for one in standing.suppressed_by)
        if held and not (identity in known and known[identity].resolved_at is None):
            continue
        said = {"summary": alert.title, "description": alert.message}
        if standing.runbook:
            said["runbook"] = standing.runbook
        found[identity] = _firing(dict(identity), said, alert.fired_at or alert.since, sender, now)
    return found


def due(wanted: Mapping[Identity, Document], known: Mapping[Identity, Sent], now: datetime) -> dict[Identity, Sent]:
    """Return what to send now: the new, the ended, and what was last sent a minute ago; ``known`` is what was sent.

    An ended alert is sent with the moment of its end for a quarter of an hour, and then forgotten (``forgotten``).
    """
    batch: dict[Identity, Sent] = {}
    for identity, document in wanted.items():
        last = known.get(identity)
        if last is None or last.resolved_at is not None or _is_old(last, now):
            batch[identity] = Sent(document, now)
    for identity, last in known.items():
        if identity not in wanted and (last.resolved_at is None or _is_old(last, now)):
            ended = last.resolved_at or now
            batch[identity] = Sent({**last.document, "endsAt": to_wire(ended)}, now, ended)
    return batch


def forgotten(known: Mapping[Identity, Sent], now: datetime) -> list[Identity]:
    """Return what ended long enough ago."""
    return [key for key, sent in known.items() if sent.resolved_at and now - sent.resolved_at > TELL_RESOLVED]


def _is_old(sent: Sent, now: datetime) -> bool:
    return not timedelta(0) <= now - sent.at < RESEND  # a clock that was set back does not make it wait


def _firing(
    labels: dict[str, str], annotations: dict[str, str], since: datetime, sender: Sender, now: datetime
) -> Document:
    return {
        "labels": labels, "annotations": annotations, "startsAt": to_wire(since), "endsAt": to_wire(now + LASTS),
        "generatorURL": sender.url,
    }  # fmt: skip


def to_wire(moment: datetime) -> str:
    """Write a moment as RFC 3339."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Silences -------------------------------------------------------------------------------------------------------------


def mirrored(
    silences: Iterable[Silence], standings: Iterable[Standing], host: str, now: datetime
) -> dict[str, Document]:
    """Return the silences that an Alertmanager should have of ours, by the tag that tells them in its list.

    Ours are for this machine's alerts. An acknowledgement becomes a silence of the one alert, since Alertmanager has no
    other word for it; one without an end is renewed. What is matched by number is told of nobody else.
    """
    found: dict[str, Document] = {}
    for silence in silences:
        if any(matcher.label == "id" for matcher in silence.matchers):
            continue
        matchers = [_matcher(matcher) for matcher in silence.matchers]
        tag = f"keepwatch {host} silence {silence.id}"
        found[tag] = _silence(
            matchers, host, silence.starts_at, silence.expires_at, silence.author, silence.comment, tag
        )
    for standing in standings:
        given, alert = standing.acknowledgement, standing.alert
        if given is None or not alert.is_firing or not given.covers(alert, now):
            continue
        matchers = [_matcher(Matcher(name, "=", value)) for name, value in identity_of(alert, host)]
        tag = f"keepwatch {host} acknowledgement {alert.id}"
        ends = given.expires_at or now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=26)
        found[tag] = _silence(matchers, host, given.acknowledged_at, ends, given.author, given.comment, tag)
    return found


def corrections(
    wanted: Mapping[str, Document], theirs: Sequence[Document], host: str
) -> tuple[list[Document], list[str]]:
    """Compare with what an Alertmanager has: return the silences to post and the ids of those to end.

    Only those that we made (by their tag) are ever touched. One whose end differs by minutes is posted anew under
    its id.
    """
    post: list[Document] = []
    end: list[str] = []
    have: dict[str, Document] = {}
    for one in theirs:
        tag = tag_of(one)
        if tag is not None and tag.startswith(f"keepwatch {host} ") and _state(one) != "expired":
            if tag in have or tag not in wanted:
                end.append(one["id"])
            else:
                have[tag] = one
    for tag, document in wanted.items():
        standing = have.get(tag)
        if standing is None:
            post.append(document)
        elif abs(from_wire(standing["endsAt"]) - from_wire(document["endsAt"])) > timedelta(minutes=90):
            post.append({**document, "id": standing["id"], "startsAt": standing["startsAt"]})
    return post, end


def foreign(theirs: Sequence[Document]) -> list[Silence]:
    """Return the silences that people made in an Alertmanager, as ours; those with a matcher that we cannot read are
    left out: telling too much is safer than too little.
    """
    found = []
    for one in theirs:
        if tag_of(one) is not None or _state(one) == "expired":
            continue
        try:
            matchers = tuple(Matcher.parse(f"{m['name']}{_op(m)}{m['value']}") for m in one["matchers"])
        except ValueError:
            continue
        by = f"{one['createdBy']} in Alertmanager"
        found.append(Silence(0, matchers, by, one["comment"], from_wire(one["startsAt"]), from_wire(one["endsAt"])))
    return found


def tag_of(silence: Document) -> str | None:
    """Return the tag of a silence that some keepwatch made; None for those of people."""
    match = re.search(r"\[(keepwatch \S+ \w+ \w+)\]$", silence["comment"])
    return match[1] if match else None


def from_wire(text: str) -> datetime:
    """Read a moment of the API."""
    return datetime.fromisoformat(text)


def _silence(
    matchers: list[Document], host: str, starts: datetime, ends: datetime, author: str, comment: str, tag: str
) -> Document:  # fmt: skip
    if not any(matcher["name"] == "host" for matcher in matchers):
        matchers = [*matchers, _matcher(Matcher("host", "=", host))]
    return {
        "matchers": matchers, "startsAt": to_wire(starts), "endsAt": to_wire(ends), "createdBy": author or "keepwatch",
        "comment": f"{comment} [{tag}]".strip(),
    }  # fmt: skip


def _matcher(matcher: Matcher) -> Document:
    return {
        "name": matcher.label, "value": matcher.value,
        "isRegex": matcher.op in ("=~", "!~"), "isEqual": matcher.op in ("=", "=~"),
    }  # fmt: skip


def _op(matcher: Document) -> str:
    equal = matcher.get("isEqual", True)
    return ("=~" if equal else "!~") if matcher["isRegex"] else ("=" if equal else "!=")


def _state(silence: Document) -> str:
    return str(silence.get("status", {}).get("state", "active"))
