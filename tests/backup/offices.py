"""An office's files as numbers: what people and machines do to them, and the figures that a snapshot would have."""

from collections import Counter
from dataclasses import dataclass, field, replace

from backup.guard import Contents, Figures, Past, ending_of, is_log, judge, rewritten_share
from config.jobs import GuardSettings

TEXT, PACKED = 0.3, 1.0
"""Stored share of what people write, and of photos, archives and ciphertext."""
KIB = 1 << 10


@dataclass(frozen=True)
class File:
    size: int
    ratio: float
    content: int
    metadata: int = 0


@dataclass
class Office:
    """Files by path; every act changes them, every snapshot is judged as the guard does."""

    settings: GuardSettings = field(default_factory=GuardSettings)
    files: dict[str, File] = field(default_factory=dict)
    past: list[tuple[Figures, dict[str, File]]] = field(default_factory=list)
    changed_at: int = 0
    stored: set[int] = field(default_factory=set)
    written: int = 0
    latest: tuple[Figures, dict[str, File]] | None = None

    def write(self, path: str, size: int, ratio: float = TEXT) -> None:
        self.written += 1
        self.files[path] = File(size, ratio, self.written)

    def some(self, share: float) -> list[str]:
        """Every n-th path, so that the choice is fixed."""
        paths = sorted(self.files)
        return paths[:: max(1, round(1 / share))] if share else []

    # ---- ordinary life

    def work(self, share: float) -> None:
        for path in self.some(share):
            self.write(path, self.files[path].size + 100)

    def add(self, count: int, size: int, ratio: float, ending: str) -> None:
        for number in range(count):
            self.write(f"new/{self.written}-{number}{ending}", size, ratio)

    def tidy(self, share: float) -> None:
        for path in self.some(share):
            del self.files[path]

    def change_owner(self) -> None:
        self.files = {path: replace(file, metadata=file.metadata + 1) for path, file in self.files.items()}

    def rotate(self, kept: int) -> None:
        """What logrotate does with delaycompress: all names move on, one file is compressed, one is begun."""
        log = self.files.get("log/app.log", File(10 * KIB, TEXT, 0))
        for number in range(kept, 2, -1):
            if older := self.files.get(f"log/app.log.{number - 1}.gz"):
                self.files[f"log/app.log.{number}.gz"] = replace(older, metadata=older.metadata + 1)
        if older := self.files.get("log/app.log.1"):
            self.write("log/app.log.2.gz", int(older.size * TEXT), PACKED)
        self.files["log/app.log.1"] = replace(log, metadata=log.metadata + 1)
        self.write("log/app.log", 10 * KIB)

    def log(self, size: int) -> None:
        old = self.files.get("log/app.log", File(0, TEXT, 0))
        self.write("log/app.log", old.size + size)

    # ---- disaster

    def encrypt(self, share: float, ending: str = "") -> None:
        for path in self.some(share):
            file = self.files.pop(path)
            self.write(path + ending, file.size + 64, PACKED)

    # ---- the guard

    def snapshot(self) -> tuple[str, ...]:
        """Take one; an unsuspicious one is remembered as a measure."""
        before = self.past[-1][1] if self.past else {}
        unmodified = sum(before.get(path) == file for path, file in self.files.items())
        fresh = {file.content: file for file in self.files.values() if file.content not in self.stored}
        self.stored |= fresh.keys()
        added = sum(file.size for file in fresh.values())
        stored = sum(int(file.size * file.ratio) for file in fresh.values())
        total = sum(file.size for file in self.files.values())
        trusted = [figures for figures, _ in self.past]
        now = Figures(len(self.files), total, unmodified, added, stored)
        if trusted:
            now = replace(now, rewritten=rewritten_share(now, trusted[-1]))
        ratio = sum(f.stored for f in trusted) / max(1, sum(f.added for f in trusted))
        reasons = judge(
            now, trusted[-1] if trusted else now, Past(trusted, self.changed_at), (), lambda: ratio,
            lambda: (_contents(before), _contents(self.files)), self.settings,
        )  # fmt: skip
        self.latest = now, dict(self.files)
        if not reasons:
            self.past.append(self.latest)
        return reasons

    def agree(self) -> None:
        """The latest snapshot is right: what was before is no measure any more."""
        assert self.latest
        self.changed_at = len(self.past)
        self.past.append(self.latest)


def _contents(files: dict[str, File]) -> Contents:
    beside_logs = sum(file.size for path, file in files.items() if not is_log(path.encode()))
    return Contents(beside_logs, Counter(ending_of(path.encode()) for path in files))


def office(files: int = 200, *, settings: GuardSettings | None = None) -> Office:
    """An office at work for three days."""
    made = Office(settings or GuardSettings())
    for number in range(files):
        made.write(f"documents/{number}.{('txt', 'odt', 'csv')[number % 3]}", 40 * KIB)
    for _ in range(3):
        assert made.snapshot() == ()
        made.work(0.05)
    return made
