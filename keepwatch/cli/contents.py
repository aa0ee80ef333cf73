"""Commands on what snapshots hold: ls, find, diff, dump. They read, and write nothing but a lock.

They work on any restic repository, configured or given by ``--repository-url`` and ``--password-file``; a snapshot may
be written ``SNAPSHOT:SUBFOLDER`` as restic has it.
"""

import sys
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Annotated

import typer

from backup.differing import diff as compare
from backup.dumping import dump_file, dump_folder
from backup.finding import Query, blobs_in_pack, blobs_named, find_holders, glob, regex
from backup.finding import find as search
from backup.listing import printable, walk
from backup.repository import Repository
from backup.snapshot import Snapshot
from backup.walking import Place, locate
from config.units import format_size, parse_duration, parse_size
from config.wording import counted
from keepwatch.cli.mounting import mount
from keepwatch.cli.opening import ChosenRepository, NoLockOption, choose, reading
from keepwatch.cli.options import JobOption, JsonOption, SnapshotArgument
from keepwatch.cli.output import complain, note, print_json
from keepwatch.clock import now
from keepwatch.errors import UsageError

_CODES = (
    "0 done; 1 failed; 2 usage or configuration; 3 partial; 4 damaged; 10 no repository; 11 locked; 12 wrong password"
)
_TYPES = ("file", "dir", "symlink", "dev", "chardev", "fifo")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command, example in (
        (ls, "keepwatch ls latest /etc"),
        (find, "keepwatch find '*.pdf' --newer 2d"),
        (diff, "keepwatch diff 3f2a91c0 latest"),
        (dump, "keepwatch dump latest /srv/ledger > ledger.tar"),
    ):
        mount(app, command, example, _CODES)


def _place(opened: Repository, reference: str, path: str, job: str | None) -> Place:
    snapshot, folder = choose(opened, reference, job)
    return locate(opened, snapshot, f"{folder}/{path}")


def ls(
    repository: ChosenRepository,
    snapshot: SnapshotArgument,
    path: Annotated[str, typer.Argument(help="Only what lies below this path.")] = "/",
    job: JobOption = None,
    as_json: JsonOption = False,
    no_lock: NoLockOption = False,
) -> None:
    """List the files of a snapshot."""
    with reading(repository.open(), no_lock=no_lock) as opened:
        chosen, folder = choose(opened, snapshot, job)
        entries = walk(opened, chosen, below=f"{folder}/{path}")
        if as_json:
            print_json(list(entries))
            return
        zone = repository.zone
        for entry in entries:
            print(entry.line(zone))


def find(
    repository: ChosenRepository,
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[PATTERN]...", help="Globs on names or paths; any may match.")
    ] = None,
    snapshot: Annotated[list[str] | None, typer.Option(help="Only in this snapshot; repeatable.")] = None,
    job: JobOption = None,
    as_regex: Annotated[bool, typer.Option("--regex", help="Patterns are regular expressions on paths.")] = False,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Do not tell A from a.")] = False,
    newer: Annotated[str | None, typer.Option(help="Modified since: 2026-03-01, or 2d for two days ago.")] = None,
    older: Annotated[str | None, typer.Option(help="Modified before, written likewise.")] = None,
    larger: Annotated[str | None, typer.Option(help="Files of at least this size: 20 MiB.")] = None,
    smaller: Annotated[str | None, typer.Option(help="Files of at most this size.")] = None,
    kind: Annotated[list[str] | None, typer.Option("--type", help=f"One of {', '.join(_TYPES)}.")] = None,
    blob: Annotated[list[str] | None, typer.Option(help="What holds this blob; an id or a prefix.")] = None,
    pack: Annotated[list[str] | None, typer.Option(help="What holds any blob of this pack.")] = None,
    as_json: JsonOption = False,
    no_lock: NoLockOption = False,
) -> int:
    """Find entries in all snapshots, or what needs a blob or a pack. Exit 1 when nothing is found."""
    if unknown := set(kind or ()) - set(_TYPES):
        raise UsageError(f"no type is named {min(unknown)}", hint=f"known: {', '.join(_TYPES)}")
    zone = repository.zone
    make = regex if as_regex else glob
    query = Query(
        tuple(make(pattern, ignore_case=ignore_case) for pattern in patterns or ()),
        _moment(newer, zone), _moment(older, zone), _size(larger), _size(smaller), frozenset(kind or ()),
    )  # fmt: skip
    with reading(repository.open(), no_lock=no_lock) as opened:
        if snapshot:
            chosen = [choose(opened, reference, job)[0] for reference in snapshot]
        else:
            chosen = [item for item in opened.snapshots() if job is None or f"job:{job}" in item.tags]
        if blob or pack:
            return _find_holders(opened, chosen, blob or (), pack or (), as_json=as_json)
        found = search(opened, chosen, query)
    if as_json:
        print_json(found)
    else:
        for item in found:
            print(f"{_short(item.snapshots)}  {item.entry.line(zone)}")
    return _found(len(found), len(chosen))


def _find_holders(
    opened: Repository, chosen: Sequence[Snapshot], blobs: Sequence[str], packs: Sequence[str], *, as_json: bool
) -> int:
    wanted = {name for prefix in blobs for name in blobs_named(opened, prefix)}
    for prefix in packs:
        wanted |= {(entry.kind, entry.id) for entry in blobs_in_pack(opened, prefix)[1]}
    holders = find_holders(opened, chosen, wanted)
    if as_json:
        print_json(holders)
    else:
        for holder in holders:
            where = ", ".join(pack[:8] for pack in holder.packs) or "no pack"
            line = f"{holder.kind} {holder.blob[:12]} in {where}  {printable(holder.path)}"
            print(f"{_short(holder.snapshots)}  {line}")
    return _found(len(holders), len(chosen))


def _short(snapshots: Sequence[str]) -> str:
    """Name the newest snapshot, which comes last, and count the others."""
    others = f"+{len(snapshots) - 1}" if len(snapshots) > 1 else ""
    return f"{snapshots[-1][:8]}{others:<5}"


def _found(count: int, snapshots: int) -> int:
    if not count:
        note(f"nothing found in {counted(snapshots, 'snapshot')}")
    return 0 if count else 1


def _moment(text: str | None, zone: tzinfo) -> datetime | None:
    if text is None:
        return None
    try:
        return now() - parse_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "write 2026-03-01, 2026-03-01T12:00, or 2d for two days ago"
        raise UsageError(f"{text} is no time", hint=hint) from None
    return found if found.tzinfo else found.replace(tzinfo=zone)


def _size(text: str | None) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise UsageError(f"{text} is {error}") from error


def diff(
    repository: ChosenRepository,
    old: Annotated[str, typer.Argument(help="SNAPSHOT or SNAPSHOT:SUBFOLDER.", show_default=False)],
    new: Annotated[str, typer.Argument(help="The same; what changed from old to new is told.", show_default=False)],
    metadata: Annotated[
        bool, typer.Option("--metadata/--no-metadata", help="Also what differs in owner, mode, times or attributes.")
    ] = True,
    job: JobOption = None,
    as_json: JsonOption = False,
    no_lock: NoLockOption = False,
) -> None:
    """Compare two snapshots: + added, - removed, M content, U metadata, T type, ? content under unchanged times."""
    with reading(repository.open(), no_lock=no_lock) as opened:
        found = compare(opened, _place(opened, old, "", job), _place(opened, new, "", job), metadata=metadata)
    if as_json:
        print_json(found)
        return
    for change in found.changes:
        fields = f"  ({', '.join(change.fields)})" if change.kind == "U" else ""
        print(f"{change.kind}    {printable(change.path)}{fields}")
    sums = found.sums
    print(
        f"files: {sums.files_added} added, {sums.files_removed} removed, {sums.files_changed} changed\n"
        f"folders: {sums.folders_added} added, {sums.folders_removed} removed\n"
        f"others: {sums.others_added} added, {sums.others_removed} removed\n"
        f"metadata changed: {sums.metadata_changed}, type changed: {sums.types_changed}\n"
        f"bytes: {format_size(sums.bytes_added)} added, {format_size(sums.bytes_removed)} removed"
    )


def dump(
    repository: ChosenRepository,
    snapshot: SnapshotArgument,
    path: Annotated[str, typer.Argument(help="A file, or a folder, which comes as a tar archive.")] = "/",
    job: JobOption = None,
    no_lock: NoLockOption = False,
) -> int:
    """Write a file, or a folder as a tar archive, to standard output."""
    output = sys.stdout.buffer
    with reading(repository.open(), no_lock=no_lock) as opened:
        place = _place(opened, snapshot, path, job)
        if place.tree is None:
            report = dump_file(opened, place, output.write)
        elif output.isatty():
            raise UsageError("refused to write an archive to a terminal", hint="append > FILE.tar or | tar -xf -")
        else:
            report = dump_folder(opened, place, output)
    output.flush()
    for problem in report.problems:
        complain(f"{printable(problem.path)}: {problem.reason}")
    return 3 if report.problems else 0
