"""The backup engine against restic: the same work, in turn, on the same machine.

``make bench`` or ``python -m tests.benchmarks.engine [--size quick|standard|full] [--only WORK ...] [--pairs N]
[--json FILE]``.
Makes the trees of :mod:`tests.benchmarks.trees`, then lets the two programs of :mod:`tests.benchmarks.programs` do
each work in pairs, changing who goes first (some of it for an S3 server on this machine, too: rclone's), and prints
for each work the medians and, of the pairs, the ratio of wall times with its spread. The page cache is left warm for
both, as it is after the trees were made; dirty pages are written out before each run, so that nobody pays for the
other's. Small files are restored into one new folder after the other, and none is removed in between: ext4 avoids
inodes that were freed in the last seconds, and searching for others makes the creation of a file several times slower
for whoever comes next. What the first pair restores is compared with the source, and restic checks what it pruned.
Exits with 1 when a target is missed, unless the size is ``quick``, whose runs are so short that starting the programs
weighs more than the work.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from tests.backup.s3_servers import BUCKET, S3Server, rclone_server
from tests.benchmarks import trees
from tests.benchmarks.measuring import Command, Figures, measure
from tests.benchmarks.programs import Keepwatch, Program, Restic, World, Worlds, remove

_MIB: Final = 1 << 20
SNAPSHOTS: Final = 20
MOST_PSS_BYTES: Final = 250 * _MIB
MOST_STORED: Final = 1.02
MOST_OF_CP: Final = 1.3


@dataclass(frozen=True, slots=True)
class Size:
    """How much work, and how often."""

    big_mib: int
    small: int
    pairs: int
    many: int = 0
    """Files of the largest tree; 0 leaves that work out."""


SIZES: Final = {
    "quick": Size(256, 10_000, 3),
    "standard": Size(2048, 100_000, 5),
    "full": Size(2048, 100_000, 5, many=1_000_000),
}
TARGETS: Final = {
    "first big": 0.35,
    "first small": 0.45,
    "unchanged small": 0.20,
    "after touch 1": 0.25,
    "restore big": 0.5,
    "restore small": 0.8,
    "verify": 0.7,
    "forget and prune": 0.6,
    "S3 first big": 1.0,
    "S3 first small": 1.0,
    "S3 restore big": 1.0,
    "first many": 0.5,
    "unchanged many": 0.25,
}
"""Each work, and the most that the ratio of wall times may be."""


@dataclass(slots=True)
class Result:
    """All runs of one work, by program."""

    runs: dict[str, list[Figures]] = field(default_factory=dict)
    stored_bytes: dict[str, int] = field(default_factory=dict)
    """Size of the repository afterwards, where the work makes one."""

    def ratios(self, one: str, other: str) -> list[float]:
        """Wall time of one by that of the other, pair by pair, sorted."""
        pairs = zip(self.runs[one], self.runs[other], strict=True)
        return sorted(mine.wall_seconds / theirs.wall_seconds for mine, theirs in pairs)

    def median(self, program: str, figure: str) -> float:
        return float(statistics.median(getattr(run, figure) for run in self.runs[program]))

    def most_pss(self, program: str) -> int:
        return max(run.pss_bytes for run in self.runs[program])


Prepare = Callable[[Program, int], list[Command]]
After = Callable[[Program, int], None]


class Bench:
    """All works, in the order in which one needs what another left."""

    def __init__(self, directory: Path, size: Size, wanted: Iterable[str]) -> None:
        self.results: dict[str, Result] = {}
        self._directory = directory
        self._size = size
        self._wanted = set(wanted)
        self._trees = directory / "trees"
        self._worlds = Worlds(directory)
        self._programs: tuple[Program, Program] = (Keepwatch(), Restic())
        self._kept: dict[tuple[str, str], World] = {}

    def run(self) -> None:
        """Do every wanted work. Raises CommandFailed."""
        if self._wants("first big", "restore big", "first small", "unchanged small", "restore small", "after touch 1",
                       "verify", "S3 first big", "S3 first small", "S3 restore big"):  # fmt: skip
            self._say(f"making the trees: {self._size.big_mib} MiB big, {self._size.small} small")
            trees.make(self._trees, big_mib=self._size.big_mib, small=self._size.small)
        for tree in ("big", "small"):
            self._first(f"first {tree}", self._trees / tree, needed_by=(f"restore {tree}", f"unchanged {tree}"))
            self._unchanged(f"unchanged {tree}", f"first {tree}")
            self._restore(f"restore {tree}", f"first {tree}", with_copy=tree == "small")
        self._touch_and_verify()
        self._forget_and_prune()
        self._on_s3()
        if self._size.many and self._wants("first many", "unchanged many"):
            self._say(f"making a tree of {self._size.many} small files")
            trees.make(self._directory / "many", big_mib=0, small=self._size.many)
            self._first("first many", self._directory / "many" / "small", needed_by=("unchanged many",))
            self._unchanged("unchanged many", "first many")

    # ---- works

    def _first(self, key: str, source: Path, needed_by: tuple[str, ...]) -> None:
        """First backup into an empty repository."""
        if not self._wants(key, *needed_by):
            return

        def prepare(program: Program, _pair: int) -> list[Command]:
            world = self._kept[key, program.name] = self._worlds.fresh(program, key.replace(" ", "-"), source)
            return program.backup(world)

        if self._wants(key):
            self._compete(key, prepare)
            for program in self._programs:
                self.results[key].stored_bytes[program.name] = self._kept[key, program.name].stored_bytes()
        else:
            for program in self._programs:
                self._do(prepare(program, 0))

    def _unchanged(self, key: str, first: str) -> None:
        """The same source once more, into the repository that has it."""
        if self._wants(key):
            self._compete(key, lambda program, _pair: program.backup(self._kept[first, program.name]))

    def _restore(self, key: str, first: str, *, with_copy: bool) -> None:
        """Restore into an empty folder; the first pair's result is compared with the source."""
        if not self._wants(key):
            return
        targets = self._directory / "targets"
        targets.mkdir()

        def prepare(program: Program, pair: int) -> list[Command]:
            return program.restore(self._kept[first, program.name], targets / f"{program.name}-{pair}")

        def after(program: Program, pair: int) -> None:
            source = self._kept[first, program.name].source
            if pair == 0:
                restored = str(targets / f"{program.name}-{pair}") + str(source)
                subprocess.run(["diff", "-rq", str(source), restored], check=True)
            if with_copy and program is self._programs[pair % 2 - 1]:  # the last of this pair
                copy = Command(("cp", "-a", str(source), str(targets / f"copy-{pair}")), dict(os.environ), targets)
                self._measure(key, "cp -a", [copy])
            if not with_copy:
                remove(targets / f"{program.name}-{pair}")

        self._compete(key, prepare, after)
        remove(targets)

    def _touch_and_verify(self) -> None:
        """Back up both trees after a hundredth of the small one and the middle of a big file changed; then verify."""
        touched, verified = "after touch 1", "verify"
        if not self._wants(touched, verified):
            return
        for program in self._programs:
            world = self._kept["all", program.name] = self._worlds.fresh(program, "all", self._trees)
            self._do(program.backup(world))
        if self._wants(touched):
            self._compete(
                touched,
                lambda program, _pair: program.backup(self._kept["all", program.name]),
                before_pair=lambda pair: trees.touch(self._trees, 1, seed=100 + pair),
            )
        if self._wants(verified):
            self._compete(verified, lambda program, _pair: program.verify(self._kept["all", program.name]))

    def _forget_and_prune(self) -> None:
        """Forget the older half of 20 snapshots, each after a touch, and prune; restic checks the first result."""
        key, history = "forget and prune", self._directory / "history"
        if not self._wants(key):
            return
        self._say(f"making a history of {SNAPSHOTS} snapshots")
        trees.make(history, big_mib=0, small=self._size.small)
        for program in self._programs:
            self._kept[key, program.name] = self._worlds.fresh(program, "history", history / "small")
        for number in range(SNAPSHOTS):
            if number:
                trees.touch(history, 1, seed=200 + number)
            for program in self._programs:
                self._do(program.backup(self._kept[key, program.name]))

        def prepare(program: Program, _pair: int) -> list[Command]:
            world = self._worlds.copy(program, self._kept[key, program.name], "pruned")
            return program.forget_and_prune(world)

        def after(program: Program, pair: int) -> None:
            if pair == 0:
                world = World(self._directory / program.name / "pruned", history)
                self.results[key].stored_bytes[program.name] = world.stored_bytes()
                self._do(Restic().verify(world))

        self._compete(key, prepare, after)

    def _on_s3(self) -> None:
        """First backups to the same S3 server, and the way back."""
        if not self._wants("S3 first big", "S3 first small", "S3 restore big"):
            return
        place = self._directory / "s3"
        for key in ("S3 first big", "S3 first small"):
            for pair in range(self._size.pairs):
                for program in self._programs:
                    self._worlds.lay_out(place / "objects" / BUCKET / _prefix(key, program, pair))
        with rclone_server(place) as server:
            self._first_on_s3("S3 first big", self._trees / "big", server, needed_by="S3 restore big")
            self._first_on_s3("S3 first small", self._trees / "small", server)
            self._restore("S3 restore big", "S3 first big", with_copy=False)

    def _first_on_s3(self, key: str, source: Path, server: S3Server, needed_by: str = "") -> None:
        def prepare(program: Program, pair: int) -> list[Command]:
            world = self._worlds.remote(program, _prefix(key, program, 0), source, server, _prefix(key, program, pair))
            self._kept[key, program.name] = world
            return program.backup(world)

        if self._wants(key):
            self._compete(key, prepare)
        elif self._wants(needed_by):
            for program in self._programs:
                self._do(prepare(program, 0))

    # ---- measuring

    def _wants(self, *keys: str) -> bool:
        return not self._wanted.isdisjoint(keys)

    def _compete(
        self,
        key: str,
        prepare: Prepare,
        after: After = lambda _program, _pair: None,
        before_pair: Callable[[int], object] = lambda _pair: None,
    ) -> None:
        for pair in range(self._size.pairs):
            before_pair(pair)
            for program in self._programs[:: -1 if pair % 2 else 1]:
                self._measure(key, program.name, prepare(program, pair))
                after(program, pair)

    def _measure(self, key: str, name: str, commands: list[Command]) -> None:
        os.sync()
        figures = measure(commands, self._directory / "log")
        self.results.setdefault(key, Result()).runs.setdefault(name, []).append(figures)
        self._say(f"{key}: {name} {figures.wall_seconds:.2f} s")

    def _do(self, commands: list[Command]) -> None:
        measure(commands, self._directory / "log")

    @staticmethod
    def _say(line: str) -> None:
        sys.stderr.write(line + "\n")


def _prefix(key: str, program: Program, pair: int) -> str:
    return f"{program.name}-{key.replace(' ', '-')}-{pair}"


def judge(key: str, result: Result) -> list[tuple[str, float, float]]:
    """Give what is demanded of one work: what, the figure, and the most that it may be."""
    judged = [("wall", statistics.median(result.ratios("keepwatch", "restic")), TARGETS[key])]
    if "cp -a" in result.runs:
        judged.append(("wall of cp -a", statistics.median(result.ratios("keepwatch", "cp -a")), MOST_OF_CP))
    if result.stored_bytes:
        stored = result.stored_bytes
        judged.append(("stored", stored["keepwatch"] / stored["restic"], MOST_STORED))
    most = result.most_pss("restic") if key.endswith("many") else MOST_PSS_BYTES
    judged.append(("PSS MiB", result.most_pss("keepwatch") / _MIB, most / _MIB))
    return judged


def table(results: dict[str, Result]) -> str:
    """Make a Markdown table."""
    lines = [
        "| work | keepwatch s | restic s | ratio: min median max | target | met | CPU s | PSS MiB | stored MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, result in results.items():
        low, middle, high = _spread(result.ratios("keepwatch", "restic"))
        missed = [f"{what} {figure:.2f} > {most:.2f}" for what, figure, most in judge(key, result) if figure > most]
        times = [f"{result.median(name, 'wall_seconds'):.2f}" for name in ("keepwatch", "restic")]
        cpu, pss, stored = (
            f"{result.median('keepwatch', 'cpu_seconds'):.1f} / {result.median('restic', 'cpu_seconds'):.1f}",
            f"{result.most_pss('keepwatch') / _MIB:.0f} / {result.most_pss('restic') / _MIB:.0f}",
            " / ".join(f"{size / _MIB:.1f}" for size in result.stored_bytes.values()),
        )
        met = "no: " + "; ".join(missed) if missed else "yes"
        lines.append(
            f"| {key} | {times[0]} | {times[1]} | {low:.2f} **{middle:.2f}** {high:.2f} | {TARGETS[key]:.2f} | {met}"
            f" | {cpu} | {pss} | {stored} |"
        )
        if "cp -a" in result.runs:
            low, middle, high = _spread(result.ratios("keepwatch", "cp -a"))
            copied = f"{result.median('cp -a', 'wall_seconds'):.2f}"
            lines.append(
                f"| … against `cp -a` | {times[0]} | {copied} | {low:.2f} **{middle:.2f}** {high:.2f} | {MOST_OF_CP} |"
                f" {'yes' if middle <= MOST_OF_CP else 'no'} | | | |"
            )
    return "\n".join(lines) + "\n"


def _spread(ratios: list[float]) -> tuple[float, float, float]:
    return ratios[0], statistics.median(ratios), ratios[-1]


def circumstances(size: str, directory: Path) -> dict[str, str]:
    """Say when, on what, and with which versions the figures were taken."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{len(os.sched_getaffinity(0))} cores of {models[0] if models else platform.machine()},"
        f" {psutil.virtual_memory().total / 2**30:.0f} GiB memory",
        "system": f"{platform.system()} {platform.release()}, {_file_system(directory)}",
        "versions": f"{Keepwatch().version()}; {Restic().version()}",
        "size": size,
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _file_system(directory: Path) -> str:
    inside = [part for part in psutil.disk_partitions(all=True) if directory.is_relative_to(part.mountpoint)]
    return max(inside, key=lambda part: len(part.mountpoint)).fstype if inside else "unknown file system"


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="standard")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="WORK")
    parser.add_argument("--pairs", type=int, metavar="N", help="five are the least to judge by")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where trees and repositories go")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's figures there, too")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    size = replace(size, pairs=arguments.pairs or size.pairs)
    about = circumstances(f"{arguments.size}: {size}", arguments.directory.resolve())
    with tempfile.TemporaryDirectory(prefix="keepwatch-bench.", dir=arguments.directory) as name:
        bench = Bench(Path(name), size, arguments.only)
        bench.run()
    sys.stdout.writelines(f"{key}: {value}\n" for key, value in about.items())
    sys.stdout.write("\n" + table(bench.results))
    if arguments.json:
        document = about | {"works": {key: asdict(result) for key, result in bench.results.items()}}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    missed = any(figure > most for key, result in bench.results.items() for _, figure, most in judge(key, result))
    return int(missed and arguments.size != "quick")


if __name__ == "__main__":
    sys.exit(main())
