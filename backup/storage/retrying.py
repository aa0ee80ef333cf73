"""Tries again what may work the next time: the wrapper around a storage that is reached over a network.

Pauses grow twofold up to a ceiling and are drawn at random below it, so that many machines that met one outage do not
come back in step ("full jitter", AWS Architecture Blog, Exponential Backoff And Jitter, 2015). Trying ends at a
deadline, counted from the first failure. A permanent error ends it at once, and so does a run that is asked to stop.

It refuses to hide anything: every failure that is tried again is a line in the log, and the last one is raised as it
came. A storage that has never answered yet gets a short deadline, since a mistyped address is likelier than an outage.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from backup.errors import CutOff, FileMissing, StorageError
from backup.storage.base import Buffer, FileKind, Paged, Retaining, Storage, StorageProperties, StoredFile, delete_all
from backup.storage.counting import Meter, Metered
from backup.storage.halting import Halt

log = logging.getLogger(__name__)

T = TypeVar("T")
Page = tuple[Sequence[StoredFile], str]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often to try again."""

    deadline: timedelta = timedelta(minutes=15)
    """From an operation's first failure; below the 22.5 minutes after which a lock that was not renewed is lost."""
    first_deadline: timedelta = timedelta(minutes=1)
    """The same while the storage has never answered."""
    first_pause: timedelta = timedelta(milliseconds=250)
    longest_pause: timedelta = timedelta(seconds=30)

    def pause(self, failures: int, draw: float) -> float:
        """Give the seconds to wait after so many failures in a row; ``draw`` is random in [0, 1)."""
        ceiling = min(self.longest_pause.total_seconds(), self.first_pause.total_seconds() * 2.0 ** min(failures, 32))
        return ceiling * (0.1 + 0.9 * draw)  # never nothing: the other side may be overloaded


PATIENCE: Final = Patience()


class Retrying:
    """A storage whose passing errors are tried again. See the module; pickles with what it wraps."""

    def __init__(
        self,
        storage: Storage,
        patience: Patience = PATIENCE,
        *,
        draw: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        halt: Halt | None = None,
    ) -> None:
        self._storage = storage
        self.meter = storage.meter if isinstance(storage, Metered) else Meter()
        """What the storage below counts, and here, how often it was asked again."""
        self._patience = patience
        self._halt = halt or Halt()
        self._draw, self._monotonic, self._sleep = draw, monotonic, sleep or self._halt.sleep
        self._answered = False
        self.retries = 0
        """How often something was tried again, in this process."""

    def __repr__(self) -> str:
        return f"Retrying({self._storage!r})"

    @property
    def properties(self) -> StorageProperties:
        """See Storage."""
        return self._attempt("stat", "the storage", lambda: self._storage.properties)

    def create(self) -> None:
        """See Storage."""
        self._attempt("put", "the layout", self._storage.create)

    def put(self, kind: FileKind, name: str, content: Buffer | Sequence[Buffer]) -> None:
        """See Storage; a put whose answer was lost finds its own bytes there, and is done."""
        self._attempt("put", f"{kind} {name[:8]}", lambda: self._storage.put(kind, name, content))

    def get(self, kind: FileKind, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Storage. Where an answer broke off, the next try goes on at the very byte."""
        came: list[bytes] = []

        def act() -> bytes:
            have = sum(map(len, came))
            try:
                return self._storage.get(kind, name, offset + have, None if length is None else length - have)
            except CutOff as error:
                came.append(error.content)
                raise

        rest = self._attempt("get", f"{kind} {name[:8]}", act)
        return b"".join((*came, rest)) if came else rest

    def list(self, kind: FileKind) -> Iterator[StoredFile]:
        """See Storage. A paged listing is tried again by the page, any other from its start, without duplicates."""
        if isinstance(self._storage, Paged):
            yield from self._list_pages(self._storage, kind)
            return
        yield from self._attempt("list", f"{kind} files", lambda: list(self._storage.list(kind)))

    def _list_pages(self, storage: Paged, kind: FileKind) -> Iterator[StoredFile]:
        token, more = "", True
        while more:
            page, token = self._page(storage, kind, token)
            yield from page
            more = bool(token)

    def _page(self, storage: Paged, kind: FileKind, token: str) -> Page:
        return self._attempt("list", f"{kind} files", lambda: storage.list_page(kind, token))

    def stat(self, kind: FileKind, name: str) -> StoredFile:
        """See Storage."""
        return self._attempt("stat", f"{kind} {name[:8]}", lambda: self._storage.stat(kind, name))

    def delete(self, kind: FileKind, name: str) -> None:
        """See Storage; a delete whose answer was lost finds nothing the next time, and is done."""
        failures = 0

        def act() -> None:
            nonlocal failures
            try:
                self._storage.delete(kind, name)
            except FileMissing:
                if not failures:
                    raise
            except StorageError:
                failures += 1
                raise

        self._attempt("delete", f"{kind} {name[:8]}", act)

    def delete_all(self, kind: FileKind, names: Sequence[str]) -> None:
        """See Sweeping; what is gone already is no matter."""
        self._attempt("delete", f"{len(names)} {kind} files", lambda: delete_all(self._storage, kind, names))

    def retain(self, kind: FileKind, name: str, until: datetime) -> None:
        """See Retaining. Raises StorageError (permanent) for a storage that cannot."""
        storage = self._storage
        if not isinstance(storage, Retaining):
            raise StorageError(f"could not retain {kind} {name[:8]}: {storage!r} has no object lock", permanent=True)
        self._attempt("retain", f"{kind} {name[:8]}", lambda: storage.retain(kind, name, until))

    def _attempt(self, operation: str, subject: str, act: Callable[[], T]) -> T:
        failures, give_up_at = 0, 0.0
        while True:
            try:
                result = act()
            except StorageError as error:
                if error.permanent:
                    self._answered = self._answered or isinstance(error, FileMissing)
                    raise
                now = self._monotonic()
                if not failures:
                    patience = self._patience
                    deadline = patience.deadline if self._answered else patience.first_deadline
                    give_up_at = now + deadline.total_seconds()
                pause = self._patience.pause(failures, self._draw())
                if now + pause > give_up_at:
                    gone_wrong = {"doing": f"{operation} {subject}", "failures": failures + 1, "reason": str(error)}
                    log.warning("storage given up", extra=gone_wrong)
                    raise
                failures += 1
                self.retries += 1
                level = logging.WARNING if failures > _QUIET_FAILURES else logging.INFO
                fields = {"doing": f"{operation} {subject}", "failures": failures, "reason": str(error)}
                fields["pause_seconds"] = round(pause, 1)
                log.log(level, "storage asked again", extra=fields)
                self.meter.add(operation, retries=1)
                self._sleep(pause)
                if self._halt.is_set():
                    raise
            else:
                self._answered = True
                return result


_QUIET_FAILURES: Final = 3
"""Failures in a row that every network has; from here on they are warnings."""
