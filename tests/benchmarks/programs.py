"""The two programs that are measured, each by its own command line: keepwatch and restic.

Both begin with copies of one empty repository that restic made, so that the password costs both the same, and both
compress at level 3 of zstd (restic calls it ``auto``). restic keeps its cache, in a folder of the world's own: that is
its fastest way of working. Neither is given an option that leaves a check or a sync out.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

from tests.backup.s3_servers import S3Server
from tests.benchmarks.measuring import Command

PASSWORD: Final = "correct horse"
KEPT_SNAPSHOTS: Final = 10


@dataclass(frozen=True, slots=True)
class World:
    """A folder with one repository and what its program keeps beside it."""

    directory: Path
    source: Path
    """What is backed up."""
    url: str = ""
    """Where the repository is, if not in the folder."""
    secrets: tuple[tuple[str, str], ...] = ()
    """Environment with the credentials that ``url`` wants."""

    @property
    def place(self) -> str:
        """The repository as both programs write it."""
        return self.url or str(self.directory / "repository")

    @property
    def password_file(self) -> Path:
        return self.directory / "password"

    def environment(self, **more: str) -> dict[str, str]:
        """The same for both: nothing of the caller's settings leaks in."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.directory), "TZ": "UTC", **dict(self.secrets), **more}

    def stored_bytes(self) -> int:
        """Size of all files of a repository in the folder, and of nothing beside it."""
        return sum(file.stat().st_size for file in (self.directory / "repository").rglob("*") if file.is_file())


class Program(Protocol):
    """What both can do; each call gives the commands that do it."""

    name: str

    def prepare(self, world: World) -> None:
        """Write the settings that the commands need."""
        ...

    def version(self) -> str: ...
    def backup(self, world: World) -> list[Command]: ...
    def restore(self, world: World, target: Path) -> list[Command]: ...
    def verify(self, world: World) -> list[Command]: ...
    def forget_and_prune(self, world: World) -> list[Command]: ...


class Keepwatch:
    """The command line, in the interpreter that runs this. What an operator waits for, imports and catalog included."""

    name = "keepwatch"

    def version(self) -> str:
        return f"keepwatch {version('keepwatch')}, Python {sys.version.split()[0]}"

    def prepare(self, world: World) -> None:
        quoted = {key: json.dumps(str(value)) for key, value in (
            ("state", world.directory / "state"), ("place", world.place), ("password", world.password_file),
            ("source", world.source),
        )}  # fmt: skip
        (world.directory / "keepwatch.toml").write_text(
            "[daemon]\nstate_dir = {state}\n"
            "[repositories.bench]\nurl = {place}\npassword_file = {password}\n"
            "[jobs.bench]\nsource = {{ type = 'files', paths = [{source}] }}\nrepositories = ['bench']\n"
            "incremental = 'every 1h'\nkeep = {{ last = {kept} }}\n".format(**quoted, kept=KEPT_SNAPSHOTS),
            encoding="utf-8",
        )

    def backup(self, world: World) -> list[Command]:
        return [self._command(world, "backup", "--quiet")]

    def restore(self, world: World, target: Path) -> list[Command]:
        return [self._command(world, "restore", "latest", "--quiet", "--target", str(target))]

    def verify(self, world: World) -> list[Command]:
        return [self._command(world, "verify", "--read-data")]

    def forget_and_prune(self, world: World) -> list[Command]:
        return [self._command(world, "forget"), self._command(world, "prune")]

    @staticmethod
    def _command(world: World, verb: str, *arguments: str) -> Command:
        program = (sys.executable, "-m", "keepwatch", verb, *arguments, "--config", "keepwatch.toml")
        return Command(program, world.environment(PYTHONPATH=os.getcwd()), world.directory)


class Restic:
    """The installed restic."""

    name = "restic"

    def version(self) -> str:
        done = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True)
        return " ".join(done.stdout.split()[:2])

    def prepare(self, world: World) -> None:
        """Everything is in the environment."""

    def backup(self, world: World) -> list[Command]:
        return [self._command(world, "backup", str(world.source))]

    def restore(self, world: World, target: Path) -> list[Command]:
        return [self._command(world, "restore", "latest", "--target", str(target))]

    def verify(self, world: World) -> list[Command]:
        return [self._command(world, "check", "--read-data")]

    def forget_and_prune(self, world: World) -> list[Command]:
        return [self._command(world, "forget", "--keep-last", str(KEPT_SNAPSHOTS), "--prune")]

    @staticmethod
    def _command(world: World, verb: str, *arguments: str) -> Command:
        environment = world.environment(
            RESTIC_REPOSITORY=world.place, RESTIC_PASSWORD_FILE=str(world.password_file),
            XDG_CACHE_HOME=str(world.directory / "cache"),
        )  # fmt: skip
        return Command(("restic", "--quiet", verb, *arguments), environment, world.directory)


class Worlds:
    """Makes worlds below a folder and forgets them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @cache  # noqa: B019 - one object for the whole run
    def _empty_repository(self) -> Path:
        place = self._directory / "empty"
        environment = os.environ | {"RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(place)}
        subprocess.run(["restic", "--quiet", "--no-cache", "init"], env=environment, check=True)
        return place

    def fresh(self, program: Program, name: str, source: Path) -> World:
        """Make a world with an empty repository."""
        return self._make(program, name, source, lambda to: _copy(self._empty_repository(), to))

    def copy(self, program: Program, world: World, name: str) -> World:
        """Make a world with the same repository: the files are linked, which is safe, as no program changes one."""
        made = self._make(program, name, world.source, lambda to: _copy(world.directory / "repository", to, "-l"))
        if (world.directory / "cache").exists():
            _copy(world.directory / "cache", made.directory / "cache")
        return made

    def lay_out(self, place: Path) -> None:
        """Lay an empty repository out in a folder that a server is to serve: before it starts, as it caches folders."""
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(self._empty_repository(), place)

    def remote(self, program: Program, name: str, source: Path, server: S3Server, prefix: str) -> World:
        """Make a world whose repository is on an S3 server, laid out before."""
        world = World(self._clear(program, name), source, server.url(prefix), tuple(server.environment.items()))
        self._furnish(program, world)
        return world

    def _make(self, program: Program, name: str, source: Path, fill: Callable[[Path], None]) -> World:
        world = World(self._clear(program, name), source)
        fill(world.directory / "repository")
        self._furnish(program, world)
        return world

    @staticmethod
    def _furnish(program: Program, world: World) -> None:
        world.password_file.write_text(PASSWORD + "\n", encoding="utf-8")
        world.password_file.chmod(0o600)
        program.prepare(world)

    def _clear(self, program: Program, name: str) -> Path:
        directory = self._directory / program.name / name
        remove(directory)
        directory.mkdir(parents=True)
        return directory


def remove(directory: Path) -> None:
    """Remove a folder if it is there."""
    if directory.exists():
        shutil.rmtree(directory)


def _copy(here: Path, there: Path, *options: str) -> None:
    subprocess.run(["cp", "-a", *options, str(here), str(there)], check=True)
