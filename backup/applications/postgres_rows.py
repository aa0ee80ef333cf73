"""Loads the rows of a dump into tables that are there and empty, over several connections at once.

``COPY`` keeps one backend busy, and a table can take rows from several: each connection (a *lane*) takes the next lot
of rows, whichever table it is of. A table's rows may lie in another order then, which no SQL promises. What already has
keys, triggers or rules (tables that an extension made) is filled while no other table is, in the order of the dump.

The first error ends all of it: the other lanes' COPYs are taken back, not ended.
"""

import re
import select
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from typing import Final, Self

import psycopg

from backup.applications.postgres_connection import Server, words_of
from backup.applications.postgres_script import Copy, Lot, Statement, read_script
from backup.errors import RestoreError

_WAITING: Final = 2
"""Lots for each lane that wait in memory."""
_LOOK_EVERY_SECONDS: Final = 0.25
_CANCEL_SECONDS: Final = 5
_REMEMBERED: Final = 64
"""Lots of which a lane knows the place: libpq and the server hold fewer that are not in the table yet."""
_WITH_CONSEQUENCES: Final = """
select format('%I.%I', nspname, relname) from pg_class join pg_namespace n on n.oid = relnamespace
where relkind in ('r', 'p') and (relhasindex or relhastriggers or relhasrules)
 and n.oid <> 'pg_catalog'::regnamespace and nspname <> 'information_schema' and nspname !~ '^pg_toast'
"""

Connection = psycopg.Connection[tuple[object, ...]]


def load_rows(server: Server, database: str, script: Iterable[bytes], lanes: int) -> None:
    """Run the script of a dump's data section over up to ``lanes`` connections, and one more.

    Raises RestoreError with the server's words, and what ``script`` raises.
    """
    try:
        with _connect(server, database) as connection, _Lanes(server, database, lanes) as rows:
            alone = {str(name).encode() for (name,) in connection.execute(_WITH_CONSEQUENCES)}
            last: bytes | None = None
            for item in read_script(script):
                if isinstance(item, Statement):
                    connection.execute(item.text)
                    if item.is_for_the_session:
                        rows.settings.append(item.text)
                    continue
                if alone and item.copy.table != last:
                    if not alone.isdisjoint((item.copy.table, last)):
                        rows.settle()
                    last = item.copy.table
                rows.take(item)
            rows.settle()
    except psycopg.Error as error:
        raise RestoreError(f"could not load database {database}: {words_of(error)}") from None


@contextmanager
def _connect(server: Server, database: str) -> Iterator[Connection]:
    """Connect as pg_restore does: with the operator's own options, and none of ours."""
    with psycopg.connect(
        server.arguments(database), autocommit=True, password=server.password or None,
        fallback_application_name="keepwatch",
    ) as connection:  # fmt: skip
        yield connection


class _AbandonedError(Exception):
    """Another lane failed, or the caller has enough."""


class _Lanes:
    """Connections that take rows, each in a thread; there are as many as have something to do."""

    def __init__(self, server: Server, database: str, most: int) -> None:
        self.settings: list[bytes] = []
        """What each session has to run before its next COPY."""
        self.lots: Queue[Lot | None] = Queue(_WAITING * most)
        self.abandoned = threading.Event()
        self.failures: list[BaseException] = []
        self._lanes: list[_Lane] = []
        self._server = server
        self._database = database
        self._most = most

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Take back what was not settled."""
        self.abandoned.set()
        for lane in self._lanes:
            lane.cancel()
        for lane in self._lanes:
            lane.join()

    def take(self, lot: Lot) -> None:
        """Hand on some rows; waits while all lanes have enough. Raises what a lane failed with."""
        if not self._lanes or (self.lots.qsize() and len(self._lanes) < self._most):
            self._lanes.append(_Lane(self, self._server, self._database))
            self._lanes[-1].start()
        self._put(lot)

    def settle(self) -> None:
        """Have all rows in their tables before anything else is done. Raises what a lane failed with."""
        for _ in self._lanes:
            self._put(None)
        for lane in self._lanes:
            lane.join()
        self._lanes.clear()
        if self.failures:
            raise self.failures[0]

    def _put(self, lot: Lot | None) -> None:
        while not self.failures:
            with suppress(Full):
                self.lots.put(lot, timeout=_LOOK_EVERY_SECONDS)
                return
        raise self.failures[0]

    def next(self) -> Lot | None:
        """Give a lane its next rows; None when there are no more for it. Raises _AbandonedError."""
        while not self.abandoned.is_set():
            with suppress(Empty):
                return self.lots.get(timeout=_LOOK_EVERY_SECONDS)
        raise _AbandonedError


class _Lane(threading.Thread):
    def __init__(self, lanes: _Lanes, server: Server, database: str) -> None:
        super().__init__(name="rows", daemon=True)
        self._lanes = lanes
        self._server = server
        self._database = database
        self._connection: Connection | None = None
        self._settings = 0

    def run(self) -> None:
        """Work until there is nothing more, or somebody fails."""
        try:
            with _connect(self._server, self._database) as self._connection:
                lot = self._lanes.next()
                while lot is not None:
                    lot = self._copy(self._connection, lot)
        except _AbandonedError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised where the rows come from
            self._lanes.failures.append(error)

    def cancel(self) -> None:
        """Have the server break off what it does for this lane."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=_CANCEL_SECONDS)

    def _copy(self, connection: Connection, lot: Lot | None) -> Lot | None:
        """Load the rows of one table for as long as there are any; gives the next of another."""
        assert lot is not None
        for text in self._lanes.settings[self._settings :]:
            connection.execute(text)
            self._settings += 1
        copy, answered = lot.copy, False
        sent, count = deque[tuple[int, int]](maxlen=_REMEMBERED), 0
        try:
            with connection.cursor().copy(copy.statement) as rows:
                while lot is not None and lot.copy == copy and not answered:
                    rows.write(lot.rows)
                    sent.append((lot.first, lot.count))
                    count += lot.count
                    # the server takes and ignores all that comes after an error
                    answered = bool(select.select([connection.fileno()], [], [], 0)[0])
                    if not answered:
                        lot = self._lanes.next()
        except psycopg.Error as error:
            raise RestoreError(_words(self._database, copy, error, count, sent)) from None
        return self._lanes.next() if answered else lot


def _words(database: str, copy: Copy, error: psycopg.Error, count: int, sent: Iterable[tuple[int, int]]) -> str:
    """Say what the server said of some rows, with the number that the row has among all of its table."""
    told = [words_of(error)]
    if error.diag.message_detail:
        told.append(f"DETAIL: {error.diag.message_detail}")
    if error.diag.context:

        def place(found: re.Match[str]) -> str:
            return f"{found[1]}{_number(int(found[2]), count, sent)}"

        told.append(f"CONTEXT: {re.sub(r'^(COPY .*?, line )([0-9]+)', place, error.diag.context)}")
    table = copy.table.decode(errors="replace")
    return f"could not load database {database}: COPY failed for table {table}: {' | '.join(told)}"


def _number(line: int, count: int, sent: Iterable[tuple[int, int]]) -> int:
    """Turn the number of a line that one lane sent into that of the table's row."""
    before = count - sum(length for _, length in sent)
    for first, length in sent:
        if before < line <= before + length:
            return first + line - before - 1
        before += length
    return line
