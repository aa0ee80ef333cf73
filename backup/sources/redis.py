"""A Redis server as files of a snapshot: an RDB file as a replica would get it, or its append-only files.

The server's own client carries the RDB file, so TLS and users are its business. Nothing is locked: for an RDB file the
server forks, for append-only files not even that. A password goes to the client in its environment.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backup.applications import manifest
from backup.applications.manifest import Manifest, TableFacts
from backup.errors import SourceError
from backup.sources.base import Step
from backup.sources.redis_aof import open_set
from backup.sources.redis_rdb import NotWhole, RdbFile
from backup.sources.streams import StreamCapture, StreamSource, file, folder, output_of
from config.databases import RedisSource as RedisSettings
from config.secrets import SecretError, read_secret_file

RDB_NAME = "dump.rdb"
AOF_FOLDER = "appendonlydir"
_CLIENT = "redis-cli"
_FLUSH_ATTEMPTS = 50
_HINT = "does the server answer `redis-cli` with the same URL and user?"


@dataclass(frozen=True, slots=True)
class Keyspace:
    """What a server says of itself in INFO."""

    values: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> "Keyspace":
        """Read the answer to INFO. Raises SourceError for anything else."""
        pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
        values = {key: value.strip() for key, _, value in pairs if value}
        if "redis_version" not in values:
            raise SourceError(f"could not ask Redis: it said {text.strip()[:200] or 'nothing'}", hint=_HINT)
        return cls(values)

    @property
    def databases(self) -> dict[str, tuple[int, int]]:
        """Name of each database that holds keys -> their number, and how many have an end."""
        found = {}
        for name, value in self.values.items():
            if name.startswith("db") and name[2:].isdecimal():
                parts = dict(pair.split("=", 1) for pair in value.split(","))
                found[name] = (int(parts["keys"]), int(parts["expires"]))
        return found

    def number(self, key: str) -> int:
        """Return a count, 0 where this version has none."""
        return int(self.values.get(key, 0))


def bounds(before: Keyspace, after: Keyspace) -> dict[str, TableFacts]:
    """Say how many keys each database held at any moment between two looks at it.

    The server counts changes of keys since the last save, and keys that it let expire or evicted, over all databases.
    After a save in between, or where keys come and go more often than there are, a count says little: 0 to unknown.
    """
    changed = after.number("rdb_changes_since_last_save") - before.number("rdb_changes_since_last_save")
    gone = sum(after.number(key) - before.number(key) for key in ("expired_keys", "evicted_keys"))
    saved = after.values.get("rdb_last_save_time") != before.values.get("rdb_last_save_time")
    facts = {}
    for name, (keys, expiring) in after.databases.items():
        if saved or changed < 0 or gone < 0:
            facts[name] = TableFacts(0, None)
        else:
            facts[name] = TableFacts(max(0, keys - 2 * changed - gone - expiring), keys + changed + gone)
    return facts


@dataclass(frozen=True, slots=True)
class RedisSource(StreamSource):
    """A server; it becomes ``/NAME/dump.rdb`` or ``/NAME/appendonlydir/``, and ``/NAME/manifest.json`` behind it."""

    url: str = field(repr=False)
    method: str = "rdb"
    password: str = field(default="", repr=False)
    aof_folder: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def from_settings(
        cls,
        settings: RedisSettings,
        name: str,
        clock: Callable[[], datetime],
        environ: Mapping[str, str] = os.environ,
    ) -> "RedisSource":
        """Make the source that a job's settings describe. Raises SourceError when the password cannot be read."""
        url = settings.url.get_secret_value()
        password = unquote(urlsplit(url).password or "")
        if settings.password_file is not None:
            try:
                password = read_secret_file(settings.password_file, environ).get_secret_value()
            except SecretError as error:
                raise SourceError(str(error), hint=error.hint) from None
        return cls(name, clock, url, settings.method, password, settings.aof_folder, settings.ca_file)

    @contextmanager
    def capture(self) -> Iterator[StreamCapture]:
        """Ask the server what it holds; its data come while they are read."""
        before, at = Keyspace.parse(self._ask("INFO", "everything")), self.clock()
        found: dict[str, object] = {}
        steps = self._rdb(before, at, found) if self.method == "rdb" else self._aof(at, found)
        yield StreamCapture(folder(f"/{self.name}", steps, at=at), found)

    def _rdb(self, before: Keyspace, at: datetime, found: dict[str, object]) -> Iterator[Step]:
        rdb = RdbFile()
        raw = output_of(self._command("--rdb", "-"), environment=self._environment(), what="save Redis", hint=_HINT)
        yield file(f"/{self.name}/{RDB_NAME}", self._whole(rdb, raw), at=at)
        facts = bounds(before, Keyspace.parse(self._ask("INFO", "everything")))
        if rdb.database is not None:  # which the file tells exactly, but for keys whose end comes before it is loaded
            facts[f"db{rdb.database}"] = TableFacts(rdb.keys - rdb.expiring, rdb.keys)
        position = f"{rdb.aux['repl-id']}:{rdb.aux['repl-offset']}" if "repl-id" in rdb.aux else ""
        yield self._manifest(before, at, facts, rdb.size_bytes, position, found, file=RDB_NAME)

    def _whole(self, rdb: RdbFile, raw: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from rdb.passing(raw)
        except NotWhole as error:
            raise SourceError(f"could not save Redis: {error}", hint=_HINT) from None

    def _aof(self, at: datetime, found: dict[str, object]) -> Iterator[Step]:
        place, manifest_name = self._aof_place()
        before = self._flushed()
        with open_set(place, manifest_name) as aof:
            after = Keyspace.parse(self._ask("INFO", "everything"))
            path = f"/{self.name}/{AOF_FOLDER}"
            inner: list[Step] = [
                file(f"{path}/{part.name}", aof.parts(part), at=at, mode=0o600) for part in aof.files
            ]
            inner.append(file(f"{path}/{manifest_name}", [aof.manifest], at=at))
            yield from folder(path, inner, at=at)
            size = sum(part.size for part in aof.files)
        facts = bounds(before, after)
        yield self._manifest(before, at, facts, size, "", found, aof_manifest=manifest_name)

    def _aof_place(self) -> tuple[Path, str]:
        """Give the folder of the append-only files, and the name of their manifest."""
        answer = self._ask("CONFIG", "GET", "append*").splitlines() + self._ask("CONFIG", "GET", "dir").splitlines()
        says = dict(zip(answer[::2], answer[1::2], strict=False))
        name = says.get("appendfilename", "appendonly.aof")
        if self.aof_folder is not None:
            return self.aof_folder, f"{name}.manifest"
        if says.get("appendonly") != "yes" or "appenddirname" not in says or "dir" not in says:
            raise SourceError(
                "could not save the append-only files of Redis: the server keeps none, is older than 7, or hides it",
                hint="set `appendonly yes` there, or aof_folder or method = 'rdb' here",
            )
        return Path(says["dir"]) / says["appenddirname"], f"{name}.manifest"

    def _flushed(self) -> Keyspace:
        """Look when nothing that clients were told is done waits to be written to the file."""
        for _ in range(_FLUSH_ATTEMPTS):
            found = Keyspace.parse(self._ask("INFO", "everything"))
            if found.number("aof_buffer_length") == 0:
                return found
        raise SourceError(
            "could not save the append-only files of Redis: the server does not get its changes written",
            hint="is its disk overloaded? INFO persistence tells",
        )

    def _manifest(
        self,
        before: Keyspace,
        at: datetime,
        facts: Mapping[str, TableFacts],
        size: int,
        position: str,
        found: dict[str, object],
        **details: object,
    ) -> Step:
        more = {"method": self.method, "used_memory": before.number("used_memory"), **details}
        value = Manifest("redis", before.values["redis_version"], at, facts, size, position, more)
        found.update(json.loads(value.to_json()))
        return file(f"/{self.name}/{manifest.FILE_NAME}", [value.to_json()], at=at)

    def _ask(self, *words: str) -> str:
        parts = output_of(self._command(*words), environment=self._environment(), what="ask Redis", hint=_HINT)
        return b"".join(parts).decode("utf-8", "replace")

    def _command(self, *words: str) -> list[str]:
        url = urlsplit(self.url)
        if url.scheme == "unix":
            place = ["-s", unquote(url.path)]
        else:
            place = ["-h", url.hostname or "", "-p", str(url.port or 6379)]
        if url.scheme == "rediss":
            place += ["--tls", *(["--cacert", os.fspath(self.ca_file)] if self.ca_file else [])]
        if url.username:
            place += ["--user", unquote(url.username)]
        return [_CLIENT, *place, *words]

    def _environment(self) -> dict[str, str]:
        secret = {"REDISCLI_AUTH": self.password} if self.password else {}
        return dict(os.environ) | secret
