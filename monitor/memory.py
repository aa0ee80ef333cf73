"""What a check has to remember over a restart besides its results: how far a log was read, when a job last reported.

One small JSON file a name, replaced as a whole, so that a reader sees the old one or the new one. A damaged file is set
aside and forgotten, never an error of the check: it then begins as on its first day. No secrets are kept here.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Memories:
    """Remembers below ``folder``; without one, or when it ``may_write`` not, for as long as the process lives."""

    def __init__(self, folder: Path | None = None, *, may_write: bool = True) -> None:
        self._folder = folder
        self._may_write = may_write and folder is not None
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] = {}
        self._unwritten: set[str] = set()

    def load(self, name: str) -> dict[str, Any]:
        """Return what was saved under ``name``; empty when nothing was."""
        with self._lock:
            if name not in self._known:
                self._known[name] = self._read(name)
            return dict(self._known[name])

    def save(self, name: str, value: dict[str, Any], *, durable: bool = False) -> None:
        """Keep ``value`` (of what JSON can write) under ``name``. ``durable``: it outlives a power cut.

        Raises OSError when it cannot be written; it is remembered in the process all the same.
        """
        with self._lock:
            if self._known.get(name) == value and name not in self._unwritten:
                return
            self._known[name] = dict(value)
            if self._may_write:
                self._unwritten.add(name)
                self._write(self._path(name), {"of": name, "value": value}, durable)
                self._unwritten.discard(name)

    def _read(self, name: str) -> dict[str, Any]:
        path = self._path(name) if self._folder else None
        if path is None:
            return {}
        try:
            value = json.loads(path.read_bytes())["value"]
            if not isinstance(value, dict):
                raise TypeError("no object")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("memory of a check forgotten", extra={"of": name, "path": str(path), "reason": error})
            if self._may_write:
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".corrupt"))
            return {}
        return value

    def _path(self, name: str) -> Path:
        assert self._folder
        readable = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-")
        return self._folder / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.json"

    @staticmethod
    def _write(path: Path, value: dict[str, Any], durable: bool) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(value, file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
        if durable:
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
