"""Brings a base backup to a moment: its tablespaces, its WAL, and what the server is to be told of how far to go.

Everything lies in the data directory itself, by names that stay true when it is moved: WAL in ``keepwatch_wal``, which
the server removes when it has recovered, targets in ``postgresql.auto.conf``. A target that the log does not reach is
refused here, by name, rather than by a server that ends in the middle of a recovery.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backup.applications.base import LATEST, Record, RecoveryTarget
from backup.applications.manifest import FILE_NAME, Manifest
from backup.applications.postgres_programs import server_program
from backup.errors import ApplicationError, RestoreError, SourceError
from backup.repository import Repository
from backup.sources.streams import output_of
from backup.wal.names import Segment, parse_position
from backup.wal.reading import Log, Way, fetch, read_wal, way_from

ARCHIVE = "keepwatch_wal"
_MARGIN_SEGMENTS = 2
"""So many segments past a moment are fetched as well: two clocks told when a segment ended and a transaction did."""
_OF_A_RECOVERY = re.compile(r"\s*(?:recovery_|restore_command|archive_cleanup_command|primary_|# written by keepwatch)")
_COMMIT = re.compile(r"desc: (?:COMMIT|ABORT)\S* (?:\w+: )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")


@dataclass(frozen=True, slots=True)
class PostgresRecovery:
    """What was restored, brought to a moment. The manifest says how it was saved."""

    log: str
    """What its log is called."""
    programs: Path | None = None
    """Where PostgreSQL's programs are said to lie."""

    def records(self, repository: Repository, folder: Path) -> Sequence[Record]:
        """Name the WAL segments from the base backup's start on."""
        return records(repository, self.log, read_manifest(folder))

    def recover(self, repository: Repository, folder: Path, target: RecoveryTarget) -> None:
        """Fetch WAL into the data directory and write down how far to replay it."""
        recover(repository, self.log, folder, read_manifest(folder), target, self.programs)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a restored folder. Raises ApplicationError."""
    try:
        return Manifest.from_json((folder / FILE_NAME).read_bytes())
    except FileNotFoundError:
        raise ApplicationError(f"{folder.name}/{FILE_NAME} is not there: this is no snapshot of a database") from None
    except ValueError as error:
        raise ApplicationError(f"{folder.name}/{FILE_NAME}: {error}") from None


def records(repository: Repository, job: str, manifest: Manifest) -> list[Record]:
    """Name the WAL segments from the base backup's start on; one that is missing is left out."""
    if manifest.details.get("method") != "physical":
        return []
    log, way = _way(repository, job, manifest)
    return [
        Record(log.name(segment), holder.id, holder.time)
        for segment in way.segments
        if segment.number >= _end(manifest, log) and (holder := log.holder(segment))
    ]


def recover(
    repository: Repository, job: str, folder: Path, manifest: Manifest, target: RecoveryTarget, programs: Path | None
) -> None:
    """Fetch what is needed to reach ``target``, and write it down for the server."""
    if manifest.details.get("method") != "physical":
        if target != LATEST:
            raise RestoreError(
                "could not recover dumps to a moment: they hold the one at which they were taken",
                hint='method = "physical" and its WAL can be brought to any moment',
            )
        return
    prepare(folder, manifest)
    log, way = _way(repository, job, manifest)
    if not log.files and target == LATEST:
        return  # the snapshot has the WAL that makes it consistent
    if not log.files:
        raise RestoreError(
            "could not recover to another moment than the snapshot's: the repository holds none of the job's WAL",
            hint='set wal = "push" or "receive" for the source, so that there is some next time',
        )
    segments = _until(way.segments, log, target, manifest)
    archive = folder / "data" / ARCHIVE
    fetch(repository, log, segments, way.histories, archive)
    reached = _Reach(archive, log, segments, int(manifest.details["major"]), programs)
    _tell(folder / "data", _settings(target, reached, manifest))


def prepare(folder: Path, manifest: Manifest) -> None:
    """Make a data directory that a server accepts: its permissions, its tablespaces beside it."""
    data = folder / "data"
    data.chmod(0o700)
    (data / "standby.signal").unlink(missing_ok=True)
    tablespaces = manifest.details.get("tablespaces") or {}
    for oid in tablespaces:
        link = data / "pg_tblspc" / oid
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../tablespaces/{oid}")
    if tablespaces and (data / "backup_label").exists():
        (data / "tablespace_map").write_text("".join(f"{oid} ../../tablespaces/{oid}\n" for oid in tablespaces))


def start_of(manifest: Manifest) -> Segment:
    """Tell with which segment a base backup begins."""
    details = manifest.details
    number = parse_position(str(details["start_position"])) // int(details["wal_segment_bytes"])
    return Segment(int(details["timeline"]), number)


def _way(repository: Repository, job: str, manifest: Manifest) -> tuple[Log, Way]:
    segment_bytes = int(manifest.details["wal_segment_bytes"])
    log = Log.of(repository.snapshots(), job, segment_bytes=segment_bytes)
    way = way_from(log, start_of(manifest), lambda name: read_wal(repository, job, log.files[name], name))
    return log, way


def _end(manifest: Manifest, log: Log) -> int:
    """Number of the first segment that the snapshot itself may lack."""
    return (parse_position(manifest.position) - 1) // log.segment_bytes + 1


def _until(segments: Sequence[Segment], log: Log, target: RecoveryTarget, manifest: Manifest) -> list[Segment]:
    """Choose the segments to fetch. Raises RestoreError for a target that lies outside of the log."""
    wanted = [segment for segment in segments if segment.number >= _end(manifest, log)]
    if target.moment is not None:
        if target.moment < manifest.taken_at:
            raise RestoreError(
                f"could not recover to {_told(target.moment)}: the base backup is of {_told(manifest.taken_at)}",
                hint="choose an earlier snapshot, or leave the choice to `restore latest --until`",
            )
        if log.ends_at is None or target.moment > log.ends_at:
            last = _told(log.ends_at) if log.ends_at else "nowhere"
            raise RestoreError(
                f"could not recover to {_told(target.moment)}: the archived WAL ends at {last}",
                hint="leave --until away to recover everything there is",
            )
        for at, segment in enumerate(wanted):
            holder = log.holder(segment)
            last_of_holder = at + 1 == len(wanted) or log.holder(wanted[at + 1]) is not holder
            if holder is not None and last_of_holder and holder.time > target.moment:
                return wanted[: at + 1 + _MARGIN_SEGMENTS]
    if target.position is not None:
        number = _position(target.position) // log.segment_bytes
        if number < _end(manifest, log) - 1 or (wanted and number > wanted[-1].number):
            raise RestoreError(f"could not recover to {target.position}: the log from the base backup on lacks it")
        return [segment for segment in wanted if segment.number <= number]
    return wanted


def _position(text: str) -> int:
    try:
        return parse_position(text)
    except ValueError as error:
        raise RestoreError(f"could not recover: {error}") from None


def _told(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")


class _Reach:
    """What the fetched log says of itself, by the server's own pg_waldump."""

    def __init__(self, archive: Path, log: Log, segments: Sequence[Segment], major: int, programs: Path | None) -> None:
        self._archive = archive
        self._log = log
        self._segments = segments
        self._dump = server_program("pg_waldump", major, programs)

    def has_commit_after(self, moment: datetime) -> bool:
        """Whether a transaction ended after ``moment``, so that the server can tell that it has passed it."""
        return any(
            datetime.fromisoformat(found[1]).replace(tzinfo=UTC) > moment
            for segment in reversed(self._segments)
            for found in _COMMIT.finditer(self._records(segment, "Transaction"))
        )

    def has_restore_point(self, name: str) -> bool:
        """Whether somebody named a restore point so."""
        return any(f"RESTORE_POINT {name}\n" in self._records(segment, "XLOG") + "\n" for segment in self._segments)

    def _records(self, segment: Segment, manager: str) -> str:
        """Dump a segment's records of one resource manager; where the log ends, the program complains, and may."""
        said: list[bytes] = []
        command = [
            self._dump, "-p", str(self._archive), "-t", str(segment.timeline), "-r", manager, self._log.name(segment),
        ]  # fmt: skip
        with suppress(SourceError):
            said.extend(output_of(command, environment={"TZ": "UTC", "LC_ALL": "C"}, what="read WAL"))
        return b"".join(said).decode("utf-8", "replace")


def _settings(target: RecoveryTarget, reached: _Reach, manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "restore_command", f"cp {ARCHIVE}/%f %p"
    yield "recovery_end_command", f"rm -rf {ARCHIVE}"
    yield "recovery_target_timeline", "latest"
    yield "recovery_target_action", "promote"
    if target.moment is not None and reached.has_commit_after(target.moment):
        yield "recovery_target_time", target.moment.astimezone(UTC).isoformat(sep=" ")
    if target.name is not None:
        if not reached.has_restore_point(target.name):
            raise RestoreError(
                f"could not recover to restore point {target.name}: the log from"
                f" {_told(manifest.taken_at)} on has none of that name",
                hint="it may lie before this snapshot: name an earlier one",
            )
        yield "recovery_target_name", target.name
    if target.position is not None:
        yield "recovery_target_lsn", target.position


def _tell(data: Path, settings: Iterator[tuple[str, str]]) -> None:
    lines = ["", "# written by keepwatch for this recovery; its end makes them void"]
    for name, value in settings:
        quoted = value.replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    file = data / "postgresql.auto.conf"
    kept = [line for line in file.read_text(encoding="utf-8").splitlines() if not _OF_A_RECOVERY.match(line)]
    file.write_text("\n".join([*kept, *lines]) + "\n", encoding="utf-8")
    (data / "recovery.signal").touch(mode=0o600)
