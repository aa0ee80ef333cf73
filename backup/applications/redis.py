"""Redis on restored data: a private redis-server that loads them, listens on a socket only and saves nothing."""

import os
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from backup.applications.base import LATEST, Record, RecoveryTarget
from backup.applications.manifest import FILE_NAME, Manifest, TableFacts
from backup.applications.private import Quarters, find_program, program, quarters
from backup.errors import ApplicationError, RestoreError
from backup.repository import Repository

_SERVER = ("redis-server", "valkey-server")
_CHECK_SECONDS = 3600
_ANSWER_SECONDS = 300
_LEAST = {"save": "", "port": "0", "daemonize": "no", "unixsocketperm": "700", "auto-aof-rewrite-percentage": "0"}


class RedisApplication:
    """An RDB file, or append-only files, beside their manifest."""

    @property
    def missing(self) -> str:
        """``redis-server`` when there is none."""
        return "" if find_program(*_SERVER) else "redis-server, which is not installed"

    def records(self, repository: Repository, folder: Path) -> Sequence[Record]:  # noqa: ARG002 - the seam
        """Give none: what Redis logs is part of the snapshot."""
        return ()

    def recover(self, repository: Repository, folder: Path, target: RecoveryTarget) -> None:  # noqa: ARG002
        """Cut append-only files off after the target's moment, where the server has noted moments in them.

        Raises RestoreError for any other target.
        """
        if target == LATEST:
            return
        saved = _saved(folder)
        if target.moment is None or "aof_manifest" not in saved.details:
            raise RestoreError(
                "could not recover Redis to a chosen moment: only append-only files with moments in them allow that",
                hint="method = 'aof', and `aof-timestamp-enabled yes` at the server",
            )
        if target.moment > saved.taken_at:
            raise RestoreError(f"could not recover Redis to {target.moment}: the snapshot is of {saved.taken_at}")
        manifest = folder / "appendonlydir" / str(saved.details["aof_manifest"])
        moment = str(int(target.moment.timestamp()))
        try:
            with quarters(folder) as place:
                place.run(
                    [program("redis-check-aof"), "--truncate-to-timestamp", moment, place.inside(manifest)],
                    what="cut the append-only files off", log=folder / "recovery.log", timeout_seconds=_CHECK_SECONDS,
                )  # fmt: skip
        except ApplicationError as error:
            raise RestoreError(f"could not recover Redis to {target.moment}: {error}") from None

    @contextmanager
    def start(self, folder: Path, *, workspace: Path, timeout_seconds: float) -> Iterator["RedisRunning"]:
        """Start a server that loads the data."""
        saved = _saved(folder)
        workspace.mkdir(parents=True, exist_ok=True)
        aof = saved.details.get("aof_manifest")
        with quarters(folder, workspace) as place:
            inside, outside = place.socket("redis.sock")
            settings = _LEAST | {"dir": place.inside(folder), "unixsocket": inside}
            if aof:
                name = str(aof).removesuffix(".manifest")
                settings |= {"appendonly": "yes", "appenddirname": "appendonlydir", "appendfilename": name}
            else:
                settings |= {"dbfilename": str(saved.details.get("file", "dump.rdb"))}
            for needed in (folder / str(settings.get("dbfilename", "appendonlydir")), folder / FILE_NAME):
                if not needed.exists():  # a server that finds nothing starts empty
                    raise ApplicationError(f"could not find {needed.name} in {folder}")
            words = [word for key, value in settings.items() for word in (f"--{key}", value)]
            with place.serving([program(*_SERVER), *words], log=workspace / "redis.log") as server:
                running = RedisRunning(folder, workspace, saved, place, outside)
                server.wait_until(running.answers, timeout_seconds=timeout_seconds)
                yield running


@dataclass(frozen=True, slots=True)
class RedisRunning:
    """A server that has loaded everything."""

    folder: Path
    workspace: Path
    saved: Manifest
    place: Quarters
    socket: str

    @property
    def reached_at(self) -> datetime | None:
        """Unknown: commands carry no moment."""
        return None

    @property
    def environment(self) -> Mapping[str, str]:
        """Where ``redis-cli -s`` finds it."""
        return {"KEEPWATCH_REDIS_SOCKET": self.socket}

    def answers(self) -> bool:
        """Whether it is up and has loaded its data."""
        with suppress(OSError, ApplicationError):
            return self._send("PING") == "PONG"
        return False

    def manifest(self) -> Manifest:
        """Count the keys; databases without any are there too."""
        facts = {}
        for line in str(self._send("INFO", "keyspace")).splitlines():
            name, _, value = line.partition(":")
            if name.startswith("db"):
                keys = int(dict(pair.split("=", 1) for pair in value.split(","))["keys"])
                facts[name] = TableFacts(keys, keys)
        facts |= {name: TableFacts(0, 0) for name in self.saved.tables.keys() - facts.keys()}
        version = dict(line.partition(":")[::2] for line in str(self._send("INFO", "server")).splitlines())
        return Manifest("redis", version["redis_version"].strip(), self.saved.taken_at, facts)

    def integrity(self) -> list[str]:
        """Run Redis' own checks over the files."""
        if aof := self.saved.details.get("aof_manifest"):
            check, path = "redis-check-aof", self.folder / "appendonlydir" / str(aof)
        else:
            check, path = "redis-check-rdb", self.folder / str(self.saved.details["file"])
        try:
            self.place.run(
                [program(check), self.place.inside(path)], what=f"check {path.name}",
                log=self.workspace / f"{check}.log", timeout_seconds=_CHECK_SECONDS,
            )  # fmt: skip
        except ApplicationError as error:
            return [f"{path.name}: {error}"]
        return []

    def query(self, statement: str, database: str | None = None) -> object:
        """Send a command, such as ``GET name``; ``database`` is a number. Of several values gives the first."""
        try:
            words = shlex.split(statement)
        except ValueError as error:
            raise ApplicationError(f"could not understand the command: {error}") from None
        value = self._send(*words, database=database)
        while isinstance(value, list):
            value = value[0] if value else None
        return value

    def plant(self, fault: str) -> str:
        """Empty the database with most keys, or delete as many as it takes to be missed."""
        sure = {name: facts.rows_min for name, facts in self.saved.tables.items() if facts.rows_min}
        if not sure:
            raise ValueError("no database is sure to hold a key")
        name = max(sure, key=lambda key: (sure[key], key))
        number = name.removeprefix("db")
        if fault == "dropped-table":
            self._send("FLUSHDB", database=number)
        else:
            while int(str(self._send("DBSIZE", database=number))) >= sure[name]:
                self._send("DEL", str(self._send("RANDOMKEY", database=number)), database=number)
        return f"table {name}"

    def _send(self, *words: str, database: str | None = None) -> object:
        """Send a command and give the answer. Raises ApplicationError with Redis' words, OSError."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_ANSWER_SECONDS)
            line.connect(self.socket)
            with line.makefile("rb") as answers:
                if database is not None:
                    line.sendall(_encoded("SELECT", database))
                    _answer(answers)
                line.sendall(_encoded(*words))
                return _answer(answers)


def _saved(folder: Path) -> Manifest:
    try:
        return Manifest.from_json((folder / FILE_NAME).read_bytes())
    except (OSError, ValueError) as error:
        raise ApplicationError(f"could not find the data in {folder}: {error}") from None


def _encoded(*words: str) -> bytes:
    """Write a command in Redis' protocol (https://redis.io/docs/reference/protocol-spec/)."""
    raw = [os.fsencode(word) for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)


def _answer(answers: BinaryIO) -> object:
    line = answers.readline().removesuffix(b"\r\n")
    kind, rest = line[:1], line[1:].decode("utf-8", "replace")
    match kind:
        case b"+":
            return rest
        case b":":
            return int(rest)
        case b"$":
            if rest == "-1":
                return None
            return answers.read(int(rest) + 2)[:-2].decode("utf-8", "surrogateescape")
        case b"*":
            return [_answer(answers) for _ in range(int(rest))]
        case b"-":
            raise ApplicationError(f"Redis says: {rest}")
    raise ApplicationError("Redis closed the connection")
