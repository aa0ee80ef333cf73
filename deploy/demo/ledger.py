"""The office's books: a SQLite ledger of invoices, and the archive of their documents."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

_SCHEMA = """
create table if not exists invoice (
    number text primary key, customer text not null, cents integer not null,
    issued_at real not null, document text not null, synced_at real
) without rowid;
create table if not exists sync_log (synced_at real not null, invoices integer not null);
"""
_CUSTOMERS = ("Hansen & Söhne", "北京万里贸易", "Okafor Ltd", "Rossi S.p.A.", "Dubois et Fils", "Яблоко ООО")
_GOODS = ("paper", "toner", "binders", "stamps", "envelopes", "ink", "labels", "folders", "chalk", "twine")


class Books:
    """Ledger and archive below one directory. Each thread and process opens its own."""

    def __init__(self, directory: Path) -> None:
        self.ledger = directory / "ledger.db"
        self.archive = directory / "archive"
        self.archive.mkdir(parents=True, exist_ok=True)
        with self.open() as ledger:
            ledger.execute("pragma journal_mode = wal")
            ledger.executescript(_SCHEMA)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """One transaction on the ledger, committed at the end."""
        with closing(sqlite3.connect(self.ledger, timeout=10)) as connection, connection:
            yield connection

    def issue(self, at: datetime) -> str:
        """Write an invoice: its document first, then its row. Returns its number."""
        with self.open() as ledger:
            count = ledger.execute("select count(*) from invoice").fetchone()[0]
            number = f"INV-{count + 1:06}"
            document = Path(f"{at:%Y}/{at:%m}/{number}.xml")
            text, cents = _document(number, at)
            path = self.archive / document
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o640)
            customer = random.choice(_CUSTOMERS)  # noqa: S311 - no secret
            row = (number, customer, cents, at.timestamp(), str(document))
            ledger.execute("insert into invoice values (?, ?, ?, ?, ?, null)", row)
        return number

    def fill(self, invoices: int, at: datetime) -> None:
        """Give a new office a past: so many invoices over the last year."""
        with self.open() as ledger:
            have = ledger.execute("select count(*) from invoice").fetchone()[0]
        for index in range(have, invoices):
            self.issue(at - timedelta(days=365 * (invoices - index) / invoices))

    def unsynced(self, at_most: int) -> list[tuple[str, int]]:
        """Number and cents of invoices that the tax authority does not know yet, oldest first."""
        with self.open() as ledger:
            query = "select number, cents from invoice where synced_at is null order by number limit ?"
            return list(ledger.execute(query, (at_most,)))

    def synced(self, numbers: list[str], at: datetime) -> None:
        """Note that the tax authority has them."""
        with self.open() as ledger:
            moment = at.timestamp()
            ledger.executemany("update invoice set synced_at = ? where number = ?", [(moment, n) for n in numbers])
            ledger.execute("insert into sync_log values (?, ?)", (moment, len(numbers)))

    def documents(self) -> list[tuple[str, Path]]:
        """Every invoice's number and where its document has to lie."""
        with self.open() as ledger:
            return [(n, self.archive / d) for n, d in ledger.execute("select number, document from invoice")]

    def standing(self) -> tuple[int, int, int, datetime | None]:
        """Invoices, of these unsynced, their sum in cents, and the last sync."""
        with self.open() as ledger:
            sums = ledger.execute("select count(*), count(synced_at), sum(cents) from invoice").fetchone()
            last = ledger.execute("select max(synced_at) from sync_log").fetchone()[0]
        count, synced, cents = sums
        return count, count - synced, cents or 0, datetime.fromtimestamp(last, UTC) if last else None


def _document(number: str, at: datetime) -> tuple[str, int]:
    """The text of an invoice and its sum in cents."""
    lines, total = [], 0
    for position in range(1, random.randint(20, 120)):  # noqa: S311 - no secret
        cents = random.randint(100, 99_999)  # noqa: S311 - no secret
        total += cents
        what = escape(" ".join(random.choices(_GOODS, k=3)))  # noqa: S311 - no secret
        lines.append(f'  <line n="{position}" cents="{cents}">{what}</line>')
    head = f'<invoice number="{number}" issued="{at:%Y-%m-%d}" cents="{total}">'
    return "\n".join([head, *lines, "</invoice>", ""]), total
