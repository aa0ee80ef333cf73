"""Keeps every configured Alertmanager in the know, and is the route that local channels give way to.

Level-triggered, as telling channels is: each tick compares what fires with what each Alertmanager was last sent, and
sends the difference on a thread of its own, so that a slow one delays nobody. Nothing is stored: after a restart each
is first asked what it believes. While none of them answers for ``fallback_after``, the channels of [[notify]] tell in
their place; each alert is told by one of the two, never by both. Silences go both ways.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue

from config.exporting import AlertmanagerSettings
from keepwatch import alertmanager_wire as wire
from keepwatch.alertmanager_client import AlertmanagerClient, AlertmanagerError
from keepwatch.alertmanager_wire import Document, Identity, Sender, Sent
from monitor.engine import Standing
from monitor.suppress import Silence

log = logging.getLogger(__name__)

_SILENCES_EVERY_SECONDS = 15.0
_RETRY_SECONDS = (2.0, 5.0, 15.0, 60.0)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one exchange brought."""

    batch: Mapping[Identity, Sent]
    theirs: Sequence[Document] | None
    """Silences; None when they were not asked for."""
    believed: Mapping[Identity, Sent]
    """What it believed already, where it was asked."""
    error: str | None = None


@dataclass(slots=True)
class _Peer:
    """One Alertmanager, and what is known of it."""

    client: AlertmanagerClient
    known: dict[Identity, Sent] = field(default_factory=dict)
    greeted: bool = False
    silences: list[Silence] = field(default_factory=list)
    mirrored: dict[str, Document] = field(default_factory=dict)
    silences_at: float = float("-inf")
    busy: bool = False
    failures: int = 0
    failing_since: float | None = None
    not_before: float = float("-inf")
    outcomes: "SimpleQueue[_Outcome]" = field(default_factory=SimpleQueue)


class Alertmanagers:
    """All methods belong to the daemon's loop."""

    def __init__(
        self,
        settings: AlertmanagerSettings,
        sender: Sender,
        started_at: datetime,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._sender = sender
        self._started_at = started_at
        self._monotonic = monotonic
        self._peers = [_Peer(AlertmanagerClient(url.get_secret_value(), settings.ca_file)) for url in settings.urls]
        self.sent = 0
        """Exchanges that brought alerts to an Alertmanager."""
        self.failed = 0

    def tick(self, standings: Sequence[Standing], silences: Sequence[Silence], now: datetime, *, alive: bool) -> None:
        """Begin to send what is due. Never waits. ``alive``: whether the daemon's loops all advance; without it, the
        Watchdog is not renewed and ends by itself.
        """
        for peer in self._peers:
            self._take_outcomes(peer, now)
            if peer.busy or self._monotonic() < peer.not_before:
                continue
            wanted = wire.firing(standings, self.settings.severities, self._sender, now, peer.known)
            identity, document = wire.watchdog(self._sender, now, self._started_at)
            if alive:
                wanted[identity] = document
            batch = wire.due(wanted, peer.known, now)
            if not alive:
                batch.pop(identity, None)
            mirrored = wire.mirrored(silences, standings, self._sender.host, now)
            look = mirrored.keys() != peer.mirrored.keys() or self._is_time_for_silences(peer)
            if batch or look:
                peer.busy = True
                self._begin(peer, batch, mirrored if look else None, now)

    def told_here(self) -> Collection[str]:
        """Return the severities that Alertmanager tells of now: none while no Alertmanager answers."""
        limit = self.settings.fallback_after.total_seconds()
        now = self._monotonic()
        if all(peer.failing_since is not None and now - peer.failing_since >= limit for peer in self._peers):
            return ()
        return self.settings.severities

    def silences(self) -> list[Silence]:
        """Return the silences that people made in Alertmanager, as last read; each once, however many have it."""
        return list(dict.fromkeys(silence for peer in self._peers for silence in peer.silences))

    def problem(self) -> str | None:
        """Say which of them do not answer; None when all do."""
        silent = [peer.client.name for peer in self._peers if peer.failing_since is not None]
        return f"no answer from Alertmanager at {', '.join(silent)}" if silent else None

    def _is_time_for_silences(self, peer: _Peer) -> bool:
        return self._monotonic() - peer.silences_at >= _SILENCES_EVERY_SECONDS

    def _begin(
        self, peer: _Peer, batch: Mapping[Identity, Sent], mirrored: Mapping[str, Document] | None, now: datetime
    ) -> None:
        peer.mirrored = dict(mirrored) if mirrored is not None else peer.mirrored
        arguments = (peer, dict(batch), mirrored, peer.greeted, now)
        threading.Thread(target=self._exchange, args=arguments, name="alertmanager", daemon=True).start()

    def _exchange(
        self,
        peer: _Peer,
        batch: dict[Identity, Sent],
        mirrored: Mapping[str, Document] | None,
        greeted: bool,
        now: datetime,
    ) -> None:
        """On a thread of its own. Silences first, so that what they hold back is not told in between."""
        theirs: Sequence[Document] | None = None
        believed: dict[Identity, Sent] = {}
        error = None
        try:
            if not greeted:
                believed = {
                    _identity(one): Sent(_again(one), now)
                    for one in peer.client.alerts_of(self._sender.host)
                    if one.get("generatorURL") == self._sender.url  # others may send alerts of this host, too
                }
            if mirrored is not None:
                theirs = self._exchange_silences(peer.client, mirrored)
            if batch:
                peer.client.post_alerts([sent.document for sent in batch.values()])
        except AlertmanagerError as problem:
            error = str(problem)
        except Exception as problem:
            log.exception("alertmanager exchange failed", extra={"alertmanager": peer.client.name})
            error = f"asking Alertmanager at {peer.client.name}: {problem}"
        peer.outcomes.put(_Outcome(batch, theirs, believed, error))

    def _exchange_silences(self, client: AlertmanagerClient, mirrored: Mapping[str, Document]) -> Sequence[Document]:
        theirs = client.silences()
        post, end = wire.corrections(mirrored, theirs, self._sender.host)
        for silence in post:
            client.post_silence(silence)
        for silence_id in end:
            client.end_silence(silence_id)
        return theirs

    def _take_outcomes(self, peer: _Peer, now: datetime) -> None:
        while True:
            try:
                outcome = peer.outcomes.get_nowait()
            except Empty:
                break
            peer.busy = False
            moment = self._monotonic()
            if outcome.theirs is not None:
                peer.silences, peer.silences_at = wire.foreign(outcome.theirs), moment
            if outcome.error is None:
                peer.known |= {**outcome.believed, **outcome.batch}
                peer.greeted = True
                if peer.failing_since is not None:
                    log.info("alertmanager answers again", extra={"alertmanager": peer.client.name})
                peer.failures, peer.failing_since = 0, None
                self.sent += bool(outcome.batch)
            else:
                if peer.failing_since is None:
                    log.warning("alertmanager failed", extra={"reason": outcome.error})
                    peer.failing_since = moment
                peer.not_before = moment + _RETRY_SECONDS[min(peer.failures, len(_RETRY_SECONDS) - 1)]
                peer.failures += 1
                peer.mirrored = {}
                self.failed += 1
        for identity in wire.forgotten(peer.known, now):
            del peer.known[identity]


def _identity(alert: Document) -> Identity:
    return tuple(sorted(alert["labels"].items()))


def _again(alert: Document) -> Document:
    """Return an alert that an Alertmanager told of in the form in which it wants to be told."""
    return {key: alert[key] for key in ("labels", "annotations", "startsAt", "endsAt", "generatorURL") if key in alert}
