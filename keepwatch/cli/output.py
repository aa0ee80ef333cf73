"""How results, errors and progress look on a terminal and in a pipe."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from enum import Enum
from pathlib import Path

from config.units import format_duration
from keepwatch.orders import Progress

_NO_WRAPPING = 100_000
"""Characters in a line of a table that a program reads: a row is a line, however much it says."""


def print_json(value: object) -> None:
    """Print a value as JSON: dataclasses as objects, moments in ISO 8601, bytes as hex."""
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows below headings, aligned and unabridged; ``empty`` goes to stderr when there are none."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    if not table.row_count:
        note(empty)
        return
    console = Console(width=None if sys.stdout.isatty() else _NO_WRAPPING, markup=False, highlight=False, emoji=False)
    console.print(table)


def note(text: str) -> None:
    """Tell something that is not the result."""
    print(text, file=sys.stderr)


def complain(message: str, hint: str | None = None) -> None:
    """Print an error and what to do about it."""
    print(f"keepwatch: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def moment(value: datetime | None, zone: tzinfo) -> str:
    """Write a moment in the operator's zone."""
    return value.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") if value else "never"


def ago(value: datetime | None, now: datetime) -> str:
    """Write how long ago a moment was."""
    return f"{format_duration(now - value)} ago" if value else "never"


class ProgressPrinter:
    """Progress on stderr: a bar on a terminal, nothing when quiet, JSON lines on request."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self._bar = None if quiet or as_json or not sys.stderr.isatty() else _Bar()
        self._json = as_json and not quiet

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        if self._json:
            print(json.dumps(_plain(progress)), file=sys.stderr, flush=True)
        elif self._bar:
            self._bar.show(progress)

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._bar:
            self._bar.close()


class _Bar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            TextColumn("{task.description:<10}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
            TextColumn("{task.fields[files]} files"), TimeRemainingColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._rich.start()
        self._task = self._rich.add_task("", total=None, files=0)

    def show(self, progress: Progress) -> None:
        self._rich.update(
            self._task,
            description=progress.phase,
            completed=progress.bytes_done,
            total=progress.bytes_total or None,
            files=progress.files_done,
        )

    def close(self) -> None:
        self._rich.stop()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value
