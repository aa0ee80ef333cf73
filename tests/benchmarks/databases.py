"""keepwatch against Debian's pgbackrest and against pg_dump/pg_restore, in pairs on one PostgreSQL server.

    python -m tests.benchmarks.databases [--scale 50] [--rounds 3]

pgbench's tables at the scale (50: about 750 MB). pgbackrest works with two processes and zstd, as the server's user and
without encryption; keepwatch encrypts. Each round begins with empty repositories:

    backup       a base backup of everything
    incremental  another one after a row changed on each of 1 % of the pages of the largest table, at random; pages
                 have room for it (fillfactor 90), or indexes would change, too
    restore      the second one into an empty folder, until a server on it answers
    push         a segment of 16 MiB of real WAL, durable when the command returns; several a round
    dump, load   dumps, and those into a new server, against ``pg_dump -Fd -j2`` and ``pg_restore -j2``
    drill        one of the level ``application`` of each kind, against our own bare restore until a server answers: on
                 the base backup, or a new one with the dumps in it; and one of the level ``restore``, which compares
                 every byte and starts nothing, against the command ``restore`` alone

Nothing is removed in between: for a minute after files went, ext4 without a journal makes new ones ten times slower.

Exit status 1 when a target of ``TARGETS`` is missed.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.postgres import OWNER, Postgres, program
from tests.servers.private import free_port, hand_over, path_of, private_folder, run

ROOT = Path(__file__).resolve().parents[2]
KEEPWATCH = str(Path(sys.executable).with_name("keepwatch"))
TARGETS = {
    "backup": 1.0, "incremental": 1.0, "restore": 1.0, "push": 1.0, "dump": 1.0, "load": 1.0,
    "drill of a base backup": 1.15, "drill of its files": 1.15, "drill of dumps": 1.15, "stored": 0.10,
}  # fmt: skip
"""Largest ratio, ours to theirs; ``stored``: bytes of the second base backup to those of the first."""
PUSHES = 5


@dataclass
class Scene:
    """A server and where the copies go."""

    server: Postgres
    folder: Path
    """For the server's user."""
    ours: Path
    """For keepwatch."""
    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    stored: list[float] = field(default_factory=list)
    restored: int = 0
    restore_alone: float = 0.0
    """What the command took in our last restore."""

    def pair(self, name: str, ours: Callable[[], float], theirs: Callable[[], float], *, first: bool) -> None:
        """Measure both, in an order that changes by round."""
        if first:
            mine, other = ours(), theirs()
        else:
            other, mine = theirs(), ours()
        self.pairs.setdefault(name, []).append((mine, other))

    # ---- theirs

    def pgbackrest(self, command: str, *more: str, data: Path | None = None, repository: str = "pgbackrest") -> float:
        options: dict[str, object] = {
            "stanza": "bench", "repo1-path": self.folder / repository, "pg1-path": data or self.server.data,
            "lock-path": self.folder / "lock", "log-level-file": "off", "log-level-console": "warn",
        }  # fmt: skip
        server: dict[str, object] = {
            "pg1-socket-path": self.server.folder, "pg1-port": self.server.port, "pg1-user": OWNER,
            "pg1-database": "postgres",
        }  # fmt: skip
        saving = {"process-max": 2, "compress-type": "zst", "start-fast": "y", "repo1-retention-full": 9}
        options |= {
            "stanza-create": server,
            "backup": server | saving,
            "restore": {
                "process-max": 2, "spool-path": self.folder / "spool",
                "recovery-option": "restore_command=" + " ".join([
                    path_of("pgbackrest"), "--no-config --stanza=bench --log-level-file=off",
                    f"--repo1-path={self.folder}/pgbackrest --pg1-path={data} --lock-path={self.folder}/lock",
                    "archive-get %f %p",
                ]),
            },
            "archive-push": {"compress-type": "zst"},
        }[command]  # fmt: skip
        words = [
            path_of("pgbackrest"),
            "--no-config",
            *(f"--{key}={value}" for key, value in options.items()),
            command,
            *more,
        ]
        return timed(words, self.folder)

    # ---- ours

    def keepwatch(self, *words: str) -> float:
        began = time.perf_counter()
        done = subprocess.run(
            [KEEPWATCH, *words, "--config", str(self.ours / "keepwatch.toml")], cwd=ROOT, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"keepwatch {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return time.perf_counter() - began

    def configure(self) -> None:
        """Have an empty repository."""
        self.put_aside(self.ours)
        self.ours.mkdir(mode=0o711)
        (self.ours / "password").write_text("benchmark\n")
        (self.ours / "password").chmod(0o600)
        dsn = self.server.socket_dsn
        jobs = "".join(
            f'[jobs.{name}]\nsource = {{ type = "postgres", dsn = "{dsn}", {more} }}\nrepositories = ["local"]\n'
            'incremental = "every 1h"\n'
            for name, more in (("ledger", f'wal = "push", wal_socket = "{self.ours}/wal.sock", wal_users = ["nobody"]'),
                               ("dumps", 'method = "logical", databases = ["bench"]'))
        )  # fmt: skip
        (self.ours / "keepwatch.toml").write_text(
            f'[daemon]\nstate_dir = "{self.ours}/state"\n[repositories.local]\nurl = "{self.ours}/repository"\n'
            f'password_file = "{self.ours}/password"\n{jobs}'
        )

    @staticmethod
    def put_aside(folder: Path) -> None:
        """Give its name free."""
        if folder.exists():
            folder.rename(folder.with_name(f"{folder.name}-{time.monotonic_ns()}"))

    def size(self) -> int:
        return sum(file.stat().st_size for file in (self.ours / "repository").rglob("*") if file.is_file())

    # ---- both

    def change(self) -> None:
        """Change a row on each of 1 % of the pages."""
        pages = int(self.server.sql("select relpages from pg_class where relname = 'pgbench_accounts'", "bench"))
        self.server.sql(
            "update pgbench_accounts set abalance = abalance + 1 where ctid = any(array(select format('(%s,1)',"
            f" (random() * {pages - 1})::int)::tid from generate_series(1, {pages // 100}))); checkpoint",
            "bench",
        )

    @contextmanager
    def running(self, data: Path) -> Iterator[None]:
        """Wait until a server on restored data answers."""
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:", str(data)], check=True)
        (data / "pg_hba.conf").write_text("local all all trust\n")
        back = Postgres(self.folder, free_port())
        back.data = data
        back.configure({"archive_mode": "off", "shared_buffers": "64MB"})
        hand_over(data / "postgresql.conf")
        back.start()
        try:
            while back.sql("select pg_is_in_recovery()") == "t":
                time.sleep(0.01)
            yield
        finally:
            back.stop(signal.SIGQUIT)

    def restore_ours(self) -> float:
        self.restored += 1
        target = self.folder / f"ours-{self.restored}"
        began = time.perf_counter()
        self.restore_alone = self.keepwatch("restore", "latest", "--job", "ledger", "--target", str(target), "--quiet")
        hand_over(target)
        hand_over(target / "ledger")
        with self.running(target / "ledger/data"):
            return time.perf_counter() - began

    def drill(self, job: str, level: str = "application") -> float:
        return self.keepwatch("drill", "run", job, "--level", level, "--quiet")

    def load_into(self, server: Postgres) -> float:
        return self.keepwatch("restore", "latest", "--job", "dumps", "--into", server.socket_dsn, "--quiet")

    def restore_theirs(self) -> float:
        self.restored += 1
        target = self.folder / f"theirs-{self.restored}"
        target.mkdir()
        hand_over(target)
        began = time.perf_counter()
        self.pgbackrest("restore", data=target)
        with self.running(target):
            return time.perf_counter() - began


def timed(words: list[object], folder: Path) -> float:
    began = time.perf_counter()
    run(words, folder)
    return time.perf_counter() - began


@contextmanager
def receiver(scene: Scene) -> Iterator[None]:
    """Have keepwatch's receiver at work, as a daemon has."""
    command = [KEEPWATCH, "wal", "receive", "--config", str(scene.ours / "keepwatch.toml")]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        while not (scene.ours / "wal.sock").exists():
            if child.poll() is not None:
                raise RuntimeError("the receiver ended")
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait()


def segments(scene: Scene) -> Iterator[Path]:
    """Write WAL, and give whole segments of it, each once."""
    given: set[str] = set()
    while True:
        there = sorted(path for path in (scene.server.data / "pg_wal").iterdir() if len(path.name) == 24)
        current = scene.server.sql("select pg_walfile_name(pg_current_wal_lsn())")
        fresh = [path for path in there if path.name < current and path.name not in given]
        if not fresh:
            bench(scene, "-n", "-c", "4", "-t", "3000")
            continue
        given.add(fresh[-1].name)
        yield fresh[-1]


def bench(scene: Scene, *options: str) -> None:
    run([program("pgbench"), "-q" if "-i" in options else "-n", *options, "-h", scene.server.folder,
         "-p", scene.server.port, "-U", OWNER, "bench"], scene.folder)  # fmt: skip


def physical(scene: Scene, *, first: bool) -> None:
    """Base backups and their restore."""
    scene.put_aside(scene.folder / "pgbackrest")
    scene.pgbackrest("stanza-create")
    scene.pair("backup", lambda: scene.keepwatch("backup", "ledger", "--full", "--quiet"),
               lambda: scene.pgbackrest("backup", "--type=full"), first=first)  # fmt: skip
    before = scene.size()
    scene.change()
    scene.pair("incremental", lambda: scene.keepwatch("backup", "ledger", "--quiet"),
               lambda: scene.pgbackrest("backup", "--type=incr"), first=first)  # fmt: skip
    scene.stored.append((scene.size() - before) / before)
    scene.pair("restore", scene.restore_ours, scene.restore_theirs, first=first)
    bare = {"application": scene.pairs["restore"][-1][0], "restore": scene.restore_alone}
    for name, level in (("drill of a base backup", "application"), ("drill of its files", "restore")):
        scene.pairs.setdefault(name, []).append((scene.drill("ledger", level), bare[level]))


def pushes(scene: Scene, source: Iterator[Path]) -> None:
    """Single segments, as archive_command is run for each."""
    client = [KEEPWATCH, "wal", "push", "--socket", str(scene.ours / "wal.sock")]

    def ours(path: Path) -> float:
        began = time.perf_counter()
        subprocess.run([*client, str(path)], cwd=ROOT, check=True)
        return time.perf_counter() - began

    # the server itself archives into the other repository, where each segment would be found already
    scene.put_aside(scene.folder / "pushed")
    scene.pgbackrest("stanza-create", repository="pushed")
    with receiver(scene):
        for number in range(PUSHES + 1):
            path = next(source)

            def theirs(path: Path = path) -> float:
                return scene.pgbackrest("archive-push", str(path), repository="pushed")

            name = "push" if number else "first push"  # which opens the repository's lock
            scene.pair(name, lambda path=path: ours(path), theirs, first=bool(number % 2))  # type: ignore[misc]


def logical(scene: Scene, *, first: bool) -> None:
    """Dumps, and their way into a new server."""
    dumped = scene.folder / "dumped"
    scene.put_aside(dumped)
    where = ["-h", scene.server.folder, "-p", scene.server.port, "-U", OWNER]
    dump = [program("pg_dump"), "-Fd", "-j2", *where, "-f", dumped, "bench"]
    scene.pair("dump", lambda: scene.keepwatch("backup", "dumps", "--full", "--quiet"),
               lambda: timed(dump, scene.folder), first=first)  # fmt: skip
    with new_server() as other:
        there = ["-h", other.folder, "-p", other.port, "-U", OWNER]

        def ours() -> float:
            other.sql("drop database if exists bench")
            return scene.load_into(other)

        def theirs() -> float:
            other.sql("drop database if exists bench")
            return timed([program("pg_restore"), "-j2", *there, "--create", "-d", "postgres", dumped], scene.folder)

        scene.pair("load", ours, theirs, first=first)

    def bare() -> float:
        began = time.perf_counter()
        with new_server() as fresh:
            scene.load_into(fresh)
            return time.perf_counter() - began

    scene.pair("drill of dumps", lambda: scene.drill("dumps"), bare, first=first)


@contextmanager
def new_server() -> Iterator[Postgres]:
    """Have an empty server."""
    with private_folder("new") as folder:
        server = Postgres(folder)
        server.create({"max_wal_size": "4GB", "shared_buffers": "128MB"})
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


def report(scene: Scene) -> bool:
    """Print the table; gives whether all targets are met."""
    met = True
    lines = ["| figure | ours s | theirs s | ratio: least, **median**, largest | target |", "|---|---|---|---|---|"]
    for name, pairs in scene.pairs.items():
        ratios = sorted(mine / other for mine, other in pairs)
        mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        middle, target = statistics.median(ratios), TARGETS.get(name)
        spread = f"{ratios[0]:.2f} **{middle:.2f}** {ratios[-1]:.2f}"
        lines.append(f"| {name} | {mine:.2f} | {other:.2f} | {spread} | {target or ''} |")
        met &= target is None or middle <= target
    share = statistics.median(scene.stored or [0.0])
    lines += ["", f"the second base backup stored {share:.1%} of the first (target: {TARGETS['stored']:.0%})"]
    sys.stdout.write("\n".join(lines) + "\n")
    return met and share <= TARGETS["stored"]


def main() -> int:
    """Run all rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("physical", "push", "logical"))
    chosen = parser.parse_args()
    with private_folder("bench") as folder, tempfile.TemporaryDirectory(prefix="kw-bench-") as ours:
        os.chmod(ours, 0o711)
        (folder / "server").mkdir()
        hand_over(folder / "server")
        server = Postgres(folder / "server")
        scene = Scene(server, folder, Path(ours) / "keepwatch")
        archive = " ".join([
            path_of("pgbackrest"), "--no-config --stanza=bench --compress-type=zst --log-level-file=off",
            f"--repo1-path={folder}/pgbackrest --pg1-path={server.data} --lock-path={folder}/lock archive-push %p",
        ])  # fmt: skip
        server.create({
            "archive_mode": "on", "archive_command": archive, "wal_level": "replica", "full_page_writes": "on",
            "shared_buffers": "128MB", "max_wal_size": "2GB",
        })  # fmt: skip
        server.start()
        try:
            server.sql("create database bench")
            scene.pgbackrest("stanza-create")
            bench(scene, "-i", "-F", "90", "-s", str(chosen.scale))  # room in each page: a changed row stays in its own
            server.sql("vacuum analyze", "bench")
            server.sql("alter system set autovacuum = off")
            server.sql("checkpoint; select pg_reload_conf()")
            source = segments(scene)
            for number in range(chosen.rounds):
                scene.configure()
                if chosen.only in (None, "physical"):
                    physical(scene, first=bool(number % 2))
                if chosen.only in (None, "push"):
                    pushes(scene, source)
                if chosen.only in (None, "logical"):
                    logical(scene, first=bool(number % 2))
                sys.stderr.write(f"round {number + 1} of {chosen.rounds} done, load {os.getloadavg()[0]:.1f}\n")
        finally:
            server.stop(signal.SIGQUIT)
    return 0 if report(scene) else 1


if __name__ == "__main__":
    sys.exit(main())
