"""Alertmanager as a route: Debian's own is told, hears of ends, shares silences, and is replaced while it is away."""

import contextlib
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.exporting import AlertmanagerSettings
from config.notify import NotifySettings
from keepwatch import alertmanager_wire as wire
from keepwatch.alertmanager_client import AlertmanagerClient, AlertmanagerError
from keepwatch.alertmanager_wire import Sender, Sent
from keepwatch.alertmanagers import Alertmanagers
from monitor.alerting import Alert, State, alert_id
from monitor.engine import Standing
from monitor.matching import Matcher
from monitor.result import Status
from monitor.suppress import Acknowledgement, Kind, Silence, Suppression
from monitor.telling import Situation, Told, decide
from tests.end_to_end.prometheus_tools import Webhook, alertmanager, free_port, get, impatient, until

SENDER = Sender("erp-1", "http://127.0.0.1:9750/")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def alert(entity: str = "/", severity: Status = Status.CRITICAL, at: datetime = NOW, **more: Any) -> Alert:
    name = "root disk"
    return Alert(
        id=alert_id(name, name, entity), name=name, check=name, entity=entity, state=State.FIRING, severity=severity,
        since=at, message="used 97 %, bound 95 %", judged_at=at, changed_at=at, labels={"team": "it"}, fired_at=at,
        **more,
    )  # fmt: skip


def standing(one: Alert, *held: Kind, acknowledgement: Acknowledgement | None = None) -> Standing:
    return Standing(one, "disk-full", acknowledgement, tuple(Suppression(kind, str(kind)) for kind in held), None)


def ended(one: Alert, at: datetime) -> Standing:
    return standing(replace(one, state=State.RESOLVED, resolved_at=at))


# Pure: what is sent -----------------------------------------------------------------------------------------------


def sends(standings: Sequence[Standing], known: dict[wire.Identity, Sent], now: datetime) -> list[dict[str, Any]]:
    """One tick against an Alertmanager that takes everything."""
    batch = wire.due(wire.firing(standings, ("warning", "critical"), SENDER, now, known), known, now)
    known |= batch
    for identity in wire.forgotten(known, now):
        del known[identity]
    return [sent.document for sent in batch.values()]


def test_labels_are_identity_only_and_what_changes_stands_in_annotations() -> None:
    (sent,) = sends([standing(alert())], {}, NOW)
    assert sent["labels"] == {
        "alertname": "root disk", "check": "root disk", "entity": "/", "host": "erp-1", "severity": "critical",
        "team": "it",
    }  # fmt: skip
    assert sent["annotations"]["description"] == "used 97 %, bound 95 %"
    assert sent["annotations"]["runbook"] == "disk-full"
    assert (sent["startsAt"], sent["endsAt"]) == ("2026-03-01T12:00:00.000Z", "2026-03-01T12:04:00.000Z")


def test_an_unchanged_alert_is_sent_once_a_minute_whatever_its_words() -> None:
    known: dict[wire.Identity, Sent] = {}
    sent = [
        len(sends([standing(replace(alert(), message=f"used {second}"))], known, NOW + timedelta(seconds=second)))
        for second in range(180)
    ]
    assert [second for second, number in enumerate(sent) if number] == [0, 60, 120]


def test_an_end_is_told_at_once_and_then_for_a_quarter_of_an_hour_with_its_moment() -> None:
    known: dict[wire.Identity, Sent] = {}
    sends([standing(alert())], known, NOW)
    over = NOW + timedelta(seconds=10)
    (first,) = sends([ended(alert(), over)], known, over)
    assert first["endsAt"] == wire.to_wire(over)
    told = [sends([ended(alert(), over)], known, over + timedelta(minutes=minute)) for minute in range(1, 20)]
    assert [len(one) for one in told] == [1] * 16 + [0] * 3
    assert all(one[0]["endsAt"] == wire.to_wire(over) for one in told[:16])
    assert known == {}


def test_one_that_gets_worse_is_another_alert_and_the_milder_one_is_over() -> None:
    known: dict[wire.Identity, Sent] = {}
    sends([standing(alert(severity=Status.WARNING))], known, NOW)
    later = NOW + timedelta(seconds=5)
    sent = {one["labels"]["severity"]: one for one in sends([standing(alert())], known, later)}
    assert sent["critical"]["endsAt"] > wire.to_wire(later)
    assert sent["warning"]["endsAt"] == wire.to_wire(later)


def test_one_that_comes_back_fires_again_at_once() -> None:
    known: dict[wire.Identity, Sent] = {}
    sends([standing(alert())], known, NOW)
    sends([], known, NOW + timedelta(seconds=1))
    (again,) = sends([standing(alert())], known, NOW + timedelta(seconds=2))
    assert again["endsAt"] == wire.to_wire(NOW + timedelta(seconds=2) + wire.LASTS)


def test_what_is_held_back_here_is_not_begun_there_but_what_was_begun_goes_on() -> None:
    held = [standing(alert(), Kind.DEPENDENCY)]
    known: dict[wire.Identity, Sent] = {}
    assert sends(held, known, NOW) == []
    sends([standing(alert())], known, NOW)
    (kept,) = sends(held, known, NOW + timedelta(minutes=1))
    assert kept["endsAt"] == wire.to_wire(NOW + timedelta(minutes=5)), "to stop sending would look like its end"


def test_only_the_severities_of_the_route_are_sent() -> None:
    assert wire.firing([standing(alert(severity=Status.WARNING))], ("critical",), SENDER, NOW, {}) == {}


def test_a_clock_that_was_set_back_does_not_make_an_alert_wait() -> None:
    known: dict[wire.Identity, Sent] = {}
    sends([standing(alert())], known, NOW)
    assert len(sends([standing(alert())], known, NOW - timedelta(hours=1))) == 1


def silence(number: int, *matchers: str, hours: float = 2) -> Silence:
    parsed = tuple(Matcher.parse(text) for text in matchers)
    return Silence(number, parsed, "ann", "new disk", NOW, NOW + timedelta(hours=hours))


def test_a_silence_of_ours_is_for_this_machine_and_bears_a_tag() -> None:
    mirrored = wire.mirrored([silence(3, "check=~root.*", "entity!=/home")], [], "erp-1", NOW)
    (document,) = mirrored.values()
    assert list(mirrored) == ["keepwatch erp-1 silence 3"]
    assert document["comment"] == "new disk [keepwatch erp-1 silence 3]"
    assert document["matchers"] == [
        {"name": "check", "value": "root.*", "isRegex": True, "isEqual": True},
        {"name": "entity", "value": "/home", "isRegex": False, "isEqual": False},
        {"name": "host", "value": "erp-1", "isRegex": False, "isEqual": True},
    ]


def test_a_silence_by_number_stays_here() -> None:
    assert wire.mirrored([silence(3, "id=abc")], [], "erp-1", NOW) == {}


def test_an_acknowledgement_is_a_silence_of_the_one_alert() -> None:
    one = alert()
    given = Acknowledgement(one.id, Status.CRITICAL, "ann", "on it", NOW)
    (document,) = wire.mirrored([], [standing(one, acknowledgement=given)], "erp-1", NOW).values()
    assert {m["name"]: m["value"] for m in document["matchers"]} == dict(wire.identity_of(one, "erp-1"))
    assert wire.mirrored([], [standing(one)], "erp-1", NOW) == {}


def in_theirs(document: dict[str, Any], number: str, state: str = "active") -> dict[str, Any]:
    return {**document, "id": number, "status": {"state": state}}


def test_only_silences_of_ours_are_ended_and_each_is_made_once() -> None:
    wanted = wire.mirrored([silence(3, "check=cpu"), silence(4, "check=load")], [], "erp-1", NOW)
    three, four = wanted.values()
    gone = {**three, "comment": "old [keepwatch erp-1 silence 1]"}
    other_host = {**three, "comment": "x [keepwatch erp-2 silence 1]"}
    people = {**three, "comment": "planned work"}
    theirs = [
        in_theirs(three, "a"), in_theirs(three, "twice"), in_theirs(gone, "b"), in_theirs(other_host, "c"),
        in_theirs(people, "d"), in_theirs(gone, "e", "expired"),
    ]  # fmt: skip
    assert wire.corrections(wanted, theirs, "erp-1") == ([four], ["twice", "b"])


def test_a_silence_that_was_made_longer_is_changed_in_place() -> None:
    (short,) = wire.mirrored([silence(3, "check=cpu", hours=2)], [], "erp-1", NOW).values()
    wanted = wire.mirrored([silence(3, "check=cpu", hours=20)], [], "erp-1", NOW)
    post, end = wire.corrections(wanted, [in_theirs(short, "a")], "erp-1")
    assert [(one["id"], one["endsAt"]) for one in post] == [("a", "2026-03-02T08:00:00.000Z")]
    assert end == []


def test_silences_of_people_there_count_here_and_ours_do_not_come_back() -> None:
    (ours,) = wire.mirrored([silence(3, "check=cpu")], [], "erp-1", NOW).values()
    people = {
        **ours, "comment": "planned work", "createdBy": "bob",
        "matchers": [{"name": "host", "value": "erp-.*", "isRegex": True, "isEqual": True}],
    }  # fmt: skip
    bad = {**people, "matchers": [{"name": "host", "value": "(", "isRegex": True, "isEqual": True}]}
    theirs = [in_theirs(ours, "a"), in_theirs(people, "b"), in_theirs(people, "c", "expired"), in_theirs(bad, "d")]
    (found,) = wire.foreign(theirs)
    assert found.author == "bob in Alertmanager"
    assert found.matches({"host": "erp-1"})
    assert not found.matches({"host": "shop"})


def test_a_channel_gives_way_to_alertmanager_but_still_tells_the_end_of_what_it_told() -> None:
    channel = NotifySettings(name="ops", url="json://localhost")  # type: ignore[arg-type]
    away = Situation(NOW, told_elsewhere={"critical"})
    assert decide(alert(), None, channel, away).item is None
    assert decide(alert(severity=Status.WARNING), None, channel, away).item is not None
    told = Told(alert().id, "ops", Status.CRITICAL, sure=True, told_at=NOW, title="x")
    over = replace(alert(), state=State.RESOLVED, resolved_at=NOW)
    assert decide(over, told, channel, away).item is not None
    assert "Alertmanager" in decide(alert(), told, channel, away).reason


# Against the real one -------------------------------------------------------------------------------------------------


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


@contextlib.contextmanager
def route(url: str, **more: Any) -> Iterator[tuple[Alertmanagers, Callable[..., None]]]:
    """The route to a real Alertmanager, and a function that ticks it until nothing is under way."""
    started = datetime.now(UTC)
    made = Alertmanagers(AlertmanagerSettings(urls=[url], **more), SENDER, started)

    def tick(*standings: Standing, silences: Sequence[Silence] = (), alive: bool = True, rounds: int = 3) -> None:
        for _ in range(rounds):
            made.tick(standings, silences, datetime.now(UTC), alive=alive)
            until(lambda: not any(peer.busy and peer.outcomes.empty() for peer in made._peers), "an answer")

    yield made, tick
    until(lambda: not any(peer.busy and peer.outcomes.empty() for peer in made._peers), "the last answer")


def test_alertmanager_tells_what_fires_and_what_is_over(tmp_path: Path, webhook: Webhook) -> None:
    with alertmanager(tmp_path, impatient(webhook.url)) as url, route(url) as (made, tick):
        one = alert(at=datetime.now(UTC))
        tick(standing(one))
        labels = dict(wire.identity_of(one, "erp-1"))
        (told, *_) = until(lambda: webhook.alerts("firing", **labels), "it is told")
        assert told["annotations"]["summary"] == one.title
        until(lambda: webhook.alerts("firing", alertname="Watchdog", host="erp-1"), "the watchdog fires")
        tick(ended(one, datetime.now(UTC)))
        until(lambda: webhook.alerts("resolved", **labels), "its end is told")
        assert made.problem() is None
        assert made.told_here() == ["warning", "critical"]


def test_silences_go_both_ways_and_end_both_ways(tmp_path: Path, webhook: Webhook) -> None:
    now = datetime.now(UTC)
    ours = Silence(7, (Matcher.parse("check=root disk"),), "ann", "new disk", now, now + timedelta(hours=2))
    with alertmanager(tmp_path, impatient(webhook.url)) as url, route(url) as (made, tick):
        tick(silences=[ours])
        (there,) = get(f"{url}/api/v2/silences")
        assert (there["createdBy"], there["status"]["state"]) == ("ann", "active")
        tick(standing(alert(at=now)), silences=[ours])
        people = {
            "matchers": [{"name": "check", "value": "cpu", "isRegex": False, "isEqual": True}], "createdBy": "bob",
            "startsAt": wire.to_wire(now), "endsAt": wire.to_wire(now + timedelta(hours=1)), "comment": "load test",
        }  # fmt: skip
        AlertmanagerClient(url).post_silence(people)
        tick(standing(alert(at=now)))
        assert {one["status"]["state"] for one in get(f"{url}/api/v2/silences") if one["createdBy"] == "ann"} == {
            "expired"
        }
        for peer in made._peers:
            peer.silences_at = float("-inf")
        tick(standing(alert(at=now)))
        assert [one.author for one in made.silences()] == ["bob in Alertmanager"]


def test_the_watchdog_is_not_renewed_while_a_loop_stands_still(tmp_path: Path, webhook: Webhook) -> None:
    with alertmanager(tmp_path, impatient(webhook.url)) as url, route(url) as (_, tick):
        tick(alive=False)
        assert get(f"{url}/api/v2/alerts") == []
        tick()
        (dog,) = get(f"{url}/api/v2/alerts")
        ends = wire.from_wire(dog["endsAt"]) - datetime.now(UTC)
        assert timedelta(minutes=3) < ends <= wire.LASTS


def test_after_a_restart_what_alertmanager_believes_and_is_over_is_ended(tmp_path: Path, webhook: Webhook) -> None:
    one = alert(at=datetime.now(UTC))
    labels = dict(wire.identity_of(one, "erp-1"))
    with alertmanager(tmp_path, impatient(webhook.url)) as url:
        with route(url) as (_, tick):
            tick(standing(one))
            until(lambda: webhook.alerts("firing", **labels), "it is told")
        theirs = {**wire.watchdog(SENDER, datetime.now(UTC), NOW)[1], "generatorURL": "http://prometheus/"}
        theirs["labels"] = {"alertname": "Other", "host": "erp-1"}
        AlertmanagerClient(url).post_alerts([theirs])
        with route(url) as (_, tick):
            tick()
            until(lambda: webhook.alerts("resolved", **labels), "its end is told")
        assert webhook.alerts("resolved", alertname="Other") == []


def test_while_no_alertmanager_answers_the_channels_tell_and_then_give_way_again(
    tmp_path: Path, webhook: Webhook
) -> None:
    port = free_port()
    now = [0.0]
    settings = AlertmanagerSettings(urls=[f"http://127.0.0.1:{port}"], fallback_after="2m")
    made = Alertmanagers(settings, SENDER, datetime.now(UTC), lambda: now[0])

    def tick() -> None:
        for _ in range(2):
            made.tick([], [], datetime.now(UTC), alive=True)
            until(lambda: not any(peer.busy and peer.outcomes.empty() for peer in made._peers), "an answer")

    tick()
    made.tick([], [], datetime.now(UTC), alive=True)
    assert made.problem() == f"no answer from Alertmanager at 127.0.0.1:{port}"
    assert made.told_here() == ["warning", "critical"], "a short silence is no reason to tell twice"
    now[0] = 121.0
    assert made.told_here() == ()
    tick()
    now[0] = 240.0
    with alertmanager(tmp_path, impatient(webhook.url), port):
        tick()
        made.tick([], [], datetime.now(UTC), alive=True)
        assert (made.problem(), made.told_here()) == (None, ["warning", "critical"])
    assert made.failed >= 1
    assert made.sent >= 1


def test_a_user_and_password_are_sent_and_never_shown(tmp_path: Path) -> None:
    client = AlertmanagerClient(f"http://ann:{urllib.parse.quote('p@ss/word', safe='')}@127.0.0.1:1/prefix/")
    assert client.name == "127.0.0.1:1"
    with pytest.raises(AlertmanagerError) as error:
        client.post_alerts([])
    assert "ass" not in str(error.value).replace("asking", "")
    assert client._headers["Authorization"] == "Basic YW5uOnBAc3Mvd29yZA=="
    assert client._base == "http://127.0.0.1:1/prefix/api/v2"


def test_what_is_no_alertmanager_is_said_to_be_none(webhook: Webhook) -> None:
    with pytest.raises(AlertmanagerError, match="501"):
        AlertmanagerClient(webhook.url).silences()


def test_what_does_not_speak_http_is_an_answer_that_cannot_be_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(AlertmanagerError, match="220 mail"):
            AlertmanagerClient(f"http://127.0.0.1:{listener.getsockname()[1]}").silences()
        thread.join(10)
