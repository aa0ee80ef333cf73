"""Several databases and folders as one snapshot, of moments that lie as close together as they can be had.

A physical copy holds the moment at its end, so those come first. Then every member whose moment can be held (a copy, a
transaction) takes it, one right after the other; then come those whose moment is when their program begins, then files
are walked, and last what was held is read. How far the moments lie apart is measured and written into the snapshot:
``/JOB.manifest.json``. Each member lies where it would without a group, databases in a folder of their member's name.

It stops nobody from writing in between: where that matters, let hooks hold the application for these seconds.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import chain

from backup.errors import SourceError
from backup.sources.base import Admission, Capture, Earlier, Following, Kept, Problem, Source, Step, Stream
from backup.sources.streams import NoFiles, file
from config.units import format_duration


class Order(IntEnum):
    """When a member's turn comes."""

    COPIED = 0
    """Its moment is the end of its copy."""
    HELD = 1
    """Its moment is taken at once and stands, however long it takes to read."""
    FLOWING = 2
    """Its moment is when it begins to be read, and it cannot be made to wait."""
    WALKED = 3
    """Files: found one after the other."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the sources."""

    name: str
    source: Source
    order: Order


@dataclass(slots=True)
class _Moments:
    """From when to when a member's data are."""

    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class GroupSource:
    """Members of one job, ``name``."""

    name: str
    members: tuple[Member, ...]
    clock: Callable[[], datetime]
    max_skew: timedelta | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of all members."""
        return tuple(path for member in self.members for path in member.source.paths)

    @property
    def live_paths(self) -> tuple[str, ...]:
        """Those of files."""
        return tuple(path for member in self.members for path in member.source.live_paths)

    @property
    def excludes(self) -> tuple[str, ...]:
        """Those of files."""
        return tuple(pattern for member in self.members for pattern in member.source.excludes)

    @property
    def consistency(self) -> str:
        """Each member is one moment, the group nearly."""
        return "application"

    def following(self, earlier: Earlier) -> "GroupSource":
        """Let those members that can go by their part of an earlier snapshot."""
        return replace(self, members=tuple(_following(member, earlier) for member in self.members))

    @contextmanager
    def capture(self) -> Iterator["GroupCapture"]:
        """Prepare what can be prepared without taking a moment. Raises SourceError when a member cannot be had."""
        with ExitStack() as held:
            yield GroupCapture(self, held)


class GroupCapture:
    """One look at all members."""

    def __init__(self, group: GroupSource, held: ExitStack) -> None:
        self._group = group
        self._held = held
        self._captures: dict[str, Capture] = {}
        self._moments: dict[str, _Moments] = {}
        self.problems: list[Problem] = []
        self.left_out = 0
        self.manifest: Mapping[str, object] = {}
        for member in self._in(Order.WALKED):  # which takes no moment yet, but knows what to admit
            self._open(member)

    @property
    def admission(self) -> Admission:
        """That of the only member that has files."""
        files = next(iter(self._in(Order.WALKED)), None)
        return self._captures[files.name].admission if files else NoFiles()

    def walk(self) -> Iterator[Step]:
        """Give every entry of every member once."""
        for member in self._in(Order.COPIED):
            yield from self._open(member).walk()
            self._moments[member.name] = self._said(member, self._group.clock())
        waiting = [self._begin(member) for member in self._in(Order.HELD)]
        for member in self._in(Order.FLOWING):
            yield from self._begin(member)
        for member in self._in(Order.WALKED):
            first = self._group.clock()
            yield from self._captures[member.name].walk()
            self._moments[member.name] = _Moments(first, self._group.clock())
        for steps in waiting:
            yield from steps
        self.left_out += sum(capture.left_out for capture in self._captures.values())
        yield self._measured()

    def _in(self, order: Order) -> list[Member]:
        return [member for member in self._group.members if member.order is order]

    def _open(self, member: Member) -> Capture:
        capture = self._held.enter_context(member.source.capture())
        capture.problems = self.problems
        self._captures[member.name] = capture
        return capture

    def _begin(self, member: Member) -> Iterator[Step]:
        """Let a member take its moment; gives all its steps. What begins when it is read is read a little."""
        before = self._group.clock()
        steps = self._open(member).walk()
        begun: list[Step] = []
        for step in steps:
            if not isinstance(step, Stream):
                begun.append(step)
                continue
            parts = iter(step.content)
            begun.append(step._replace(content=chain(_first(parts), parts)))
            break
        self._moments[member.name] = _Moments(before, self._group.clock())
        return chain(begun, steps)

    def _said(self, member: Member, last: datetime) -> _Moments:
        """Take a copy's moment from its own manifest: it ended shortly before ``last``."""
        taken_at = self._captures[member.name].manifest.get("taken_at")
        return _Moments(datetime.fromisoformat(taken_at) if isinstance(taken_at, str) else last, last)

    def _measured(self) -> Step:
        """Write down how far apart the moments are."""
        if not self._moments:
            raise SourceError(f"could not save the group {self._group.name}: it has no members")
        first = min(moments.first for moments in self._moments.values())
        last = max(moments.last for moments in self._moments.values())
        skew, path = last - first, f"/{self._group.name}.manifest.json"
        most = self._group.max_skew
        if most is not None and skew > most:
            apart = format_duration(skew)
            reason = f"the members of the group lie {apart} apart, and may at most by {format_duration(most)}"
            self.problems.append(Problem(path, reason))
        self.manifest = {
            "kind": "group",
            "taken_at": first.isoformat(),
            "skew_seconds": round(skew.total_seconds(), 3),
            "members": {name: self._told(name, moments) for name, moments in sorted(self._moments.items())},
        }
        return file(path, [json.dumps(self.manifest, indent=1).encode() + b"\n"], at=first)

    def _told(self, name: str, moments: _Moments) -> dict[str, object]:
        manifest = self._captures[name].manifest
        about = {key: manifest[key] for key in ("kind", "position", "base_backup") if key in manifest}
        return {"first": moments.first.isoformat(), "last": moments.last.isoformat(), **about}


def _following(member: Member, earlier: Earlier) -> Member:
    source = member.source
    return replace(member, source=source.following(earlier)) if isinstance(source, Following) else member


def _first(parts: Iterator[bytes | Kept]) -> Iterable[bytes | Kept]:
    part = next(parts, None)
    return [] if part is None else [part]
