"""Brokers of messages: RabbitMQ, NATS and MQTT. Each has to speak its protocol; what it tells of itself comes beside.

RabbitMQ by its management plugin's API, NATS by its monitoring port, MQTT by the topics below ``$SYS`` that mosquitto
keeps. A login is used for nothing but looking.
"""

import time
from typing import Any

from config.said import Said
from monitor.probes import handshakes
from monitor.probes.address import Unreachable
from monitor.probes.conversation import Conversation
from monitor.probes.freshness import fetch_json
from monitor.probes.growth import Growth
from monitor.result import Finding, Measurement, Reading, Status

_MOST_QUEUES = 500
_QUEUES = "/api/queues?columns=name,vhost,messages,messages_unacknowledged,consumers"
_TOPICS = {"$SYS/broker/clients/connected": "clients", "$SYS/broker/messages/stored": "messages_stored",
           "$SYS/broker/store/messages/count": "messages_stored",
           "$SYS/broker/publish/messages/dropped": "dropped"}  # fmt: skip
_TELLING_SECONDS = 1.0
"""How long retained messages may take; they come at once or not at all."""


class RabbitmqProbe:
    """Speaks AMQP to ``host`` and asks the management API at ``management_url``, where there is one."""

    def __init__(self, host: str, port: int, management_url: str | None, timeout_seconds: float) -> None:
        self._host = host
        self._port = port
        self._management_url = management_url.rstrip("/") if management_url else None
        self._timeout_seconds = timeout_seconds

    def measure(self) -> Measurement:
        """Return ``response_time``, and counts of all queues and of each. Raises ProbeError when the API refuses."""
        began = time.monotonic()
        try:
            with Conversation(self._host, self._port, began + self._timeout_seconds) as talk:
                handshakes.amqp(talk)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        readings = [Reading("response_time", time.monotonic() - began, "seconds")]
        if self._management_url is None:
            return Measurement(readings)
        overview, nodes, queues = (self._ask(path, began) for path in ("/api/overview", "/api/nodes", _QUEUES))
        totals, objects = overview.get("queue_totals") or {}, overview.get("object_totals") or {}
        readings += [
            Reading("messages", totals.get("messages", 0), "count"),
            Reading("unacknowledged", totals.get("messages_unacknowledged", 0), "count"),
            Reading("consumers", objects.get("consumers", 0), "count"),
            Reading("connections", objects.get("connections", 0), "count"),
        ]
        for queue in queues[:_MOST_QUEUES]:
            vhost, name = queue.get("vhost", "/"), queue["name"]
            entity = name if vhost == "/" else f"{vhost}/{name}"
            readings += [
                Reading("messages", queue.get("messages", 0), "count", entity),
                Reading("unacknowledged", queue.get("messages_unacknowledged", 0), "count", entity),
                Reading("consumers", queue.get("consumers", 0), "count", entity),
            ]
        fault = _node_fault(nodes)
        return Measurement(readings, Finding(Status.CRITICAL, fault) if fault else None)

    def _ask(self, path: str, began: float) -> Any:
        left = max(0.1, began + self._timeout_seconds - time.monotonic())
        return fetch_json(f"{self._management_url}{path}", {}, left)


class NatsProbe:
    """Speaks NATS to ``host`` and asks ``monitoring_url``, where there is one."""

    def __init__(
        self, host: str, port: int, token: str | None, monitoring_url: str | None, timeout_seconds: float
    ) -> None:
        self._host = host
        self._port = port
        self._token = token
        self._monitoring_url = monitoring_url.rstrip("/") if monitoring_url else None
        self._timeout_seconds = timeout_seconds
        self._growth = Growth()

    def measure(self) -> Measurement:
        """Return ``response_time``, and what the monitoring port tells; CRITICAL when it refuses us."""
        began = time.monotonic()
        try:
            with Conversation(self._host, self._port, began + self._timeout_seconds) as talk:
                handshakes.nats(talk, self._token)
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        readings = [Reading("response_time", time.monotonic() - began, "seconds")]
        if self._monitoring_url is None:
            return Measurement(readings)
        told = fetch_json(f"{self._monitoring_url}/varz", {}, self._timeout_seconds)
        readings.append(Reading("connections_used", told["connections"] / told["max_connections"], "ratio"))
        self._growth.see({"slow_consumers": told["slow_consumers"]})
        if (slow := self._growth.of("slow_consumers")) is not None:
            readings.append(Reading("slow_consumers", slow, "count"))
        return Measurement([*readings, Reading("memory_bytes", told["mem"], "bytes")])


class MqttProbe:
    """Speaks MQTT 3.1.1 to ``host``, and listens for a moment to what the broker tells of itself."""

    def __init__(
        self, host: str, port: int, username: str | None, password: str | None, timeout_seconds: float
    ) -> None:
        self._host = host
        self._port = port
        self._username = username
        self._password = password
        self._timeout_seconds = timeout_seconds
        self._growth = Growth()

    def measure(self) -> Measurement:
        """Return ``response_time``, and what the broker tells of itself; CRITICAL when it refuses us."""
        began = time.monotonic()
        deadline = began + self._timeout_seconds
        try:
            with Conversation(self._host, self._port, deadline) as talk:
                lets_in = handshakes.mqtt(talk, self._username, self._password)
                took = Reading("response_time", time.monotonic() - began, "seconds")
                talk.hurry(min(deadline, time.monotonic() + _TELLING_SECONDS))
                told = _retained(talk) if lets_in else {}
        except Unreachable as reason:
            return Measurement([], Finding(Status.CRITICAL, str(reason)))
        readings = [took]
        readings += [Reading(name, told[name], "count") for name in ("clients", "messages_stored") if name in told]
        self._growth.see({"dropped": told["dropped"]} if "dropped" in told else {})
        if (dropped := self._growth.of("dropped")) is not None:
            readings.append(Reading("dropped", dropped, "count"))
        return Measurement(readings)


def _node_fault(nodes: list[dict[str, Any]]) -> str | None:
    for node in nodes:
        name = node.get("name", "a node")
        if node.get("running") is False:
            return Said("%(name)s is down", name=name)
        if node.get("mem_alarm"):
            return Said("%(name)s is short of memory and takes no messages", name=name)
        if node.get("disk_free_alarm"):
            return Said("%(name)s is short of disk space and takes no messages", name=name)
        if node.get("partitions"):
            return Said("%(name)s is cut off from %(nodes)s", name=name, nodes=", ".join(map(str, node["partitions"])))
    return None


def _retained(talk: Conversation) -> dict[str, float]:
    """Subscribe to the topics (MQTT 3.1.1, 3.8) and return the numbers that come; none where the broker has none."""
    filters = b"".join(len(topic).to_bytes(2, "big") + topic.encode() + b"\0" for topic in _TOPICS)
    body = b"\0\x01" + filters
    talk.send(b"\x82" + handshakes.mqtt_length(len(body)) + body)
    told: dict[str, float] = {}
    try:
        while len(told) < len(set(_TOPICS.values())):
            kind, message = talk.read(1)[0] >> 4, _mqtt_body(talk)
            if kind == 3:  # PUBLISH
                length = int.from_bytes(message[:2], "big")
                name = _TOPICS.get(message[2 : 2 + length].decode("utf-8", "replace"))
                value = message[2 + length :].decode("ascii", "replace")
                if name and value.isdigit():
                    told[name] = float(value)
    except Unreachable:
        pass  # it has said all it wanted to
    return told


def _mqtt_body(talk: Conversation) -> bytes:
    length = shift = 0
    while True:
        digit = talk.read(1)[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80 or shift > 21:
            return talk.read(length)
