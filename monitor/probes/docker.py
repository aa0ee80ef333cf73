"""Containers of Docker or podman, from the engine's API on its unix socket (``/containers/json`` and ``.../json``).

Version 1.24 of the API, which every engine since 2016 answers. It only reads.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

from config.said import Said
from config.selection import Selection
from monitor.probes.growth import Growth
from monitor.probes.http_exchange import DeadlineSocket
from monitor.probes.moments import moment_of
from monitor.result import Finding, Measurement, NoData, ProbeError, Reading, Status

_MOST_BYTES = 8 << 20
_MOST_CONTAINERS = 500
_KEPT_RUNNING = ("always", "unless-stopped", "on-failure")


class DockerProbe:
    """Looks at the containers that a selection takes, over ``path``."""

    def __init__(self, path: str, selection: Selection, timeout_seconds: float, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._selection = selection
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._growth = Growth()

    def measure(self) -> Measurement:
        """Return ``running``, ``restarts``, ``up_for`` and ``exit_code``, an entity a container.

        Raises NoData without a socket, ProbeError when the engine does not answer.
        """
        deadline = time.monotonic() + self._timeout_seconds
        listed = self._ask("/v1.24/containers/json?all=1", deadline)
        named = {_name(one): one["Id"] for one in listed if self._selection.takes(_name(one))}
        found: dict[str, dict[str, Any]] = {}
        for name, identity in list(named.items())[:_MOST_CONTAINERS]:
            about = self._ask(f"/v1.24/containers/{quote(identity)}/json", deadline)
            if "State" in about:  # one that was removed meanwhile answers with a message
                found[name] = about
        self._growth.see({name: float(about.get("RestartCount", 0)) for name, about in found.items()})
        readings: list[Reading] = []
        findings: dict[str, Finding] = {}
        for name, about in found.items():
            readings += self._readings(name, about)
            if finding := self._finding(name, about):
                findings[name] = finding
        if not listed and not self._selection.named:
            raise NoData("Docker has no containers")
        return Measurement(readings, missing=self._selection.missing(found), findings=findings)

    def _readings(self, name: str, about: Mapping[str, Any]) -> list[Reading]:
        state = about["State"]
        readings = [Reading("running", bool(state.get("Running")), "count", name)]
        if (restarts := self._growth.of(name)) is not None:
            readings.append(Reading("restarts", restarts, "count", name))
        if state.get("Running"):
            began = moment_of(_to_microseconds(state["StartedAt"]))
            readings.append(Reading("up_for", max(0.0, (self._clock() - began).total_seconds()), "seconds", name))
        else:
            readings.append(Reading("exit_code", state.get("ExitCode", 0), "count", name))
        return readings

    def _finding(self, name: str, about: Mapping[str, Any]) -> Finding | None:
        state = about["State"]
        code = state.get("ExitCode", 0)
        policy = ((about.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name", "")
        if state.get("OOMKilled") and not state.get("Running"):
            return Finding(Status.CRITICAL, Said("%(name)s was killed: it ran out of memory", name=name))
        if state.get("Dead"):
            message = Said(
                "%(name)s is dead: %(value)s", name=name, value=state.get("Error") or Said("it could not be removed")
            )
            return Finding(Status.CRITICAL, message)
        if state.get("Restarting"):
            return Finding(Status.WARNING, Said("%(name)s restarts, after exit code %(code)s", name=name, code=code))
        if (state.get("Health") or {}).get("Status") == "unhealthy":
            message = Said("%(name)s calls itself unhealthy: %(why)s", name=name, why=_health_log(state["Health"]))
            return Finding(Status.CRITICAL, message)
        if state.get("Running"):
            return None
        if name in self._selection.named:
            message = Said(
                "%(name)s does not run: %(status)s, exit code %(code)s",
                name=name, status=state.get("Status"), code=code,
            )
            return Finding(Status.CRITICAL, message)
        if code and policy in _KEPT_RUNNING:
            message = Said(
                "%(name)s has ended with exit code %(code)s, though it is to be restarted", name=name, code=code
            )
            return Finding(Status.CRITICAL, message)
        return None

    def _ask(self, target: str, deadline: float) -> Any:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
                raw.settimeout(max(0.01, deadline - time.monotonic()))
                raw.connect(self._path)
                connection = http.client.HTTPConnection("docker")
                # one deadline for all of it: an engine that says a byte a second never runs into one for each read
                connection.sock = cast(socket.socket, DeadlineSocket(raw, deadline))
                connection.request("GET", target)
                return json.loads(connection.getresponse().read(_MOST_BYTES))
        except FileNotFoundError as error:
            raise NoData(f"this machine has no {self._path}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
            hint = "members of the group docker may ask it" if isinstance(error, PermissionError) else ""
            raise ProbeError(f"asking Docker at {self._path}: {said}", hint=hint) from error


def _name(listed: Mapping[str, Any]) -> str:
    return str((listed.get("Names") or [listed["Id"][:12]])[0]).lstrip("/")


def _to_microseconds(text: str) -> str:
    """Cut nanoseconds, which Python does not read: ``2026-03-01T10:00:00.123456789Z``."""
    head, dot, rest = text.partition(".")
    digits = rest.rstrip("Z")
    return f"{head}{dot}{digits[:6]}+00:00" if dot and rest.endswith("Z") else text


def _health_log(health: Mapping[str, Any]) -> str:
    log = health.get("Log") or []
    return str(log[-1].get("Output", "")).strip()[:200] if log else "it says no more"
