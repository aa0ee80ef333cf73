"""Judges whether a snapshot is out of all proportion to those before it: an unmounted disk, an emptied folder,
files encrypted by an intruder. Pure: figures in, reasons in words out.

It never keeps a snapshot from being taken, and deletes nothing. It says nothing where nothing can be said: about the
first snapshot, about a source of a few files, about what this source has always done. Judged against *trusted* figures
only (see `guard_evidence`), so that two bad snapshots do not make a third look normal.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from config.jobs import GuardSettings
from config.said import Said
from config.units import format_size

_LATELY: Final = 10
"""Snapshots that tell what is usual."""
_LOWS: Final = 30
"""Snapshots among which a low that happened twice is normal life: a spool, a queue."""
_ENOUGH: Final = 3
"""Snapshots from which on one dip is not yet a habit."""
_TIMES_USUAL: Final = 4
"""Change is out of proportion from so many times the usual share on."""
_SOME: Final = 0.2
"""Share of the files that has to be changed, replaced or gone before the stored form of new data says anything."""
_REWRITTEN: Final = 0.25
"""Share of the touched files' bytes that has to be new data. A changed owner or a rotated log touches, not rewrites."""
_LEAST_ADDED_BYTES: Final = 1 << 20
"""How well less than this compresses says nothing."""
_BETTER: Final = 0.85
"""Data that used to be stored in at most this share of the new ratio used to compress."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a snapshot's summary tells; sizes in bytes. ``added`` and ``stored`` are of new blobs, before and after
    compression.
    """

    files: int
    bytes: int
    unmodified: int
    added: int
    stored: int
    rewritten: float | None = None
    """Share of its parent that it replaced by new data, see `rewritten_share`; None without a parent."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A closer look at what a snapshot holds."""

    bytes_beside_logs: int
    """Logs shrink to nothing when they are rotated, and mean nothing by it."""
    endings: Mapping[bytes, int]
    """Files by the ending of their names."""


@dataclass(frozen=True, slots=True)
class Emptied:
    """A source path below which there were files in the parent, and now there is nothing, or no such path."""

    path: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Past:
    """Snapshots of the same source that are a measure, oldest first: not suspicious, or agreed to by a person."""

    accepted: Sequence[Figures]
    changed_at: int = 0
    """Position of the latest change that a person agreed to; what was before it is history, not a measure."""

    @property
    def trusted(self) -> Sequence[Figures]:
        """What is usual since then."""
        return self.accepted[self.changed_at :]


Look = Callable[[], tuple[Contents, Contents] | None]
"""Looks closer at the parent and at the new snapshot, which takes time; None when they could not be read."""


def judge(
    now: Figures,
    parent: Figures,
    past: Past,
    emptied: Sequence[Emptied],
    usual_ratio: Callable[[], float | None],
    look: Look,
    settings: GuardSettings,
) -> tuple[str, ...]:
    """Say what is out of proportion, each in a sentence; nothing when all is as usual.

    ``usual_ratio`` gives stored to added bytes of what the source held before. ``look`` is called only when figures
    alone arouse suspicion.
    """
    trusted = past.trusted
    if settings.off or not trusted:
        return ()
    usual = median([figures.files for figures in trusted[-_LATELY:]])
    found = [_emptied(path) for path in emptied if path.files >= settings.at_least_files]
    if usual < settings.at_least_files:
        return tuple(found)
    found += _fewer_files(now, past, settings) or _fewer_bytes(now, past, look, settings)
    touched = touched_share(now, parent)
    if touched >= _SOME and parent.files >= settings.at_least_files:
        found += _rewritten(now, parent, touched, trusted, usual_ratio, settings)
        found += _renamed(parent, now, look, settings)
    return tuple(found)


def touched_share(now: Figures, parent: Figures) -> float:
    """Give the share of the parent's files that were changed, replaced or are gone. New files alone touch nothing."""
    return max(0, parent.files - now.unmodified) / parent.files if parent.files else 0.0


def rewritten_share(now: Figures, parent: Figures) -> float:
    """Give the share of the parent that was touched and filled with new data: a changed owner alone is none."""
    return min(touched_share(now, parent), now.added / parent.bytes) if parent.bytes else 0.0


def _emptied(path: Emptied) -> str:
    return Said(
        "%(path)s is empty or gone, and had %(count)s files, %(size)s, in the snapshot before: is its disk mounted?",
        path=path.path, count=path.files, size=format_size(path.bytes),
    )  # fmt: skip


def _fewer_files(now: Figures, past: Past, settings: GuardSettings) -> list[str]:
    usual = median([figures.files for figures in past.trusted[-_LATELY:]])
    if not _fell(now.files, usual, [figures.files for figures in past.accepted], settings.shrink):
        return []
    text = "%(share)s of the files are gone: %(count)s instead of about %(usual)s"
    return [Said(text, share=_percent(1 - now.files / usual), count=now.files, usual=f"{usual:.0f}")]


def _fewer_bytes(now: Figures, past: Past, look: Look, settings: GuardSettings) -> list[str]:
    usual = median([figures.bytes for figures in past.trusted[-_LATELY:]])
    if not _fell(now.bytes, usual, [figures.bytes for figures in past.accepted], settings.shrink):
        return []
    contents = look()
    if contents is not None:
        before, after = (content.bytes_beside_logs for content in contents)
        if after > (1 - settings.shrink) * min(before, usual):
            return []
    text, gone = "%(share)s of the bytes are gone: %(size)s instead of about %(usual)s", _percent(1 - now.bytes / usual)
    return [Said(text, share=gone, size=format_size(now.bytes), usual=format_size(usual))]


def _fell(value: float, usual: float, before: Sequence[float], share: float) -> bool:
    """Whether a value fell by more than a share below what is usual, and below what happened twice lately."""
    lows = sorted(before[-_LOWS:])
    low = lows[1] if len(lows) >= _ENOUGH else lows[0]
    return value < (1 - share) * usual and value < 0.9 * low


def _usual_change(touched: float, trusted: Sequence[Figures]) -> bool:
    """Whether this source changes as much as that all the time."""
    shares = [figures.rewritten for figures in trusted[-_LATELY:] if figures.rewritten is not None]
    return bool(shares) and touched < _TIMES_USUAL * median(shares)


def _rewritten(
    now: Figures,
    parent: Figures,
    touched: float,
    trusted: Sequence[Figures],
    usual_ratio: Callable[[], float | None],
    settings: GuardSettings,
) -> list[str]:
    """Much was touched: was it also filled with new data, and with what kind of data?"""
    if now.added < _REWRITTEN * touched * parent.bytes:
        return []
    found: list[str] = []
    if touched >= settings.change and not _usual_change(touched, trusted):
        found.append(
            Said(
                "%(share)s of the %(count)s files of the snapshot before were changed, replaced or are gone, with"
                " %(size)s of new data",
                share=_percent(touched), count=parent.files, size=format_size(now.added),
            )
        )  # fmt: skip
    ratio = now.stored / now.added if now.added else 0.0
    if now.added >= _LEAST_ADDED_BYTES and ratio >= settings.incompressible:
        usual = usual_ratio()
        if usual is not None and usual <= _BETTER * ratio:
            found.append(
                Said(
                    "new data does not compress any more: stored in %(share)s of its size, where %(usual)s was usual,"
                    " and %(touched)s of the files were touched; encrypted?",
                    share=_percent(ratio), usual=_percent(usual), touched=_percent(touched),
                )
            )  # fmt: skip
    return found


def _renamed(parent: Figures, now: Figures, look: Look, settings: GuardSettings) -> list[str]:
    """Files went and files came: do those that came have names as nobody had before?"""
    if now.unmodified > (1 - settings.change / 2) * parent.files or (contents := look()) is None:
        return []
    before, after = contents[0].endings, contents[1].endings
    strange = {ending: count for ending, count in after.items() if ending and ending not in before}
    count = sum(strange.values())
    if count < settings.at_least_files or count < settings.change / 2 * now.files:
        return []
    most = max(strange, key=lambda ending: (strange[ending], ending)).decode("utf-8", "replace")
    text = "%(count)s of %(all)s files have endings that no file had before, most of them %(ending)s; renamed?"
    return [Said(text, count=count, all=now.files, ending=repr(most))]


_ENDING: Final = re.compile(rb"[^.]\.([^.]{1,24})$")
_LOG: Final = re.compile(rb"(?:^|/)(?:logs?|journal)/|\.log(?:[^a-z]|$)", re.IGNORECASE)


def ending_of(name: bytes) -> bytes:
    """Give the ending of a file's name with its dot, lower case, digits as ``0``: rotation is no new ending."""
    found = _ENDING.search(name)
    return b"." + re.sub(rb"\d+", b"0", found[1].lower()) if found else b""


def is_log(path: bytes) -> bool:
    """Whether a path looks like that of a log, which may shrink at any time."""
    return _LOG.search(path) is not None


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
