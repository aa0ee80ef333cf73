"""A real child is killed (SIGKILL, with its workers at work) at random moments of a backup, a forget, a prune, a copy.

The campaign kills 200 times, the default run a few; moments are drawn from a seeded generator, uniformly over the time
that the act takes when nobody disturbs it. After each: what a run of ``verify --read-data`` says, restores of every
listed snapshot and the next runs are judged as in `test_dying.py`; restic checks all data every time and restores every
listed snapshot after every ``RESTIC_RESTORES_EVERY``-th kill.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil
import pytest

from backup.storage.base import FileKind
from backup.storage.local import LocalStorage
from tests.backup.trees import picture
from tests.faults import scene as stage
from tests.faults.scene import PARTS, Scene, now
from tests.faults.victim import open_at

Restic = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).resolve().parents[2]
KILLS = 200
SEED = 9
RESTIC_RESTORES_EVERY = 5
DEADLINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Yard:
    """Where children are killed: the scene's repositories in folders, to be copied for each child."""

    scene: Scene
    directory: Path

    def lay_out(self, name: str) -> Path:
        """Make a fresh repository for an act."""
        place = self.directory / "repository"
        stage.empty_if_there(place)
        template = self.directory / f"template-{name}"
        if not template.exists():
            stage.write_out(PARTS[name].stage(self.scene), template)
        shutil.copytree(template, place, copy_function=os.link)  # no program changes a file, so links are safe
        return place

    def origin(self) -> Path:
        """The repository that is copied from."""
        template = self.directory / "origin"
        if not template.exists():
            stage.write_out(self.scene.main, template)
        return template


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    directory = tmp_path_factory.mktemp("yard")
    with pytest.MonkeyPatch.context() as patch:
        stage.shrink(patch)
        yield Yard(stage.make_scene(directory), directory)


def start(yard: Yard, name: str, place: Path) -> "subprocess.Popen[bytes]":
    """Start a child; returns when it begins."""
    command = [sys.executable, "-m", "tests.faults.victim", name, place, yard.scene.source, yard.origin()]
    with (yard.directory / "child.log").open("wb") as log:
        child = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
    assert child.stdout is not None
    with child.stdout as output:
        assert output.readline() == b"begin\n", (yard.directory / "child.log").read_text()
    return child


def time_undisturbed(yard: Yard, name: str) -> float:
    """Seconds that an act takes in a child, from its beginning to its end."""
    child = start(yard, name, yard.lay_out(name))
    began = time.monotonic()
    assert child.wait(DEADLINE_SECONDS) == 0, (yard.directory / "child.log").read_text()
    return time.monotonic() - began


def kill_after(child: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Kill a child at a moment, and wait until its workers are gone too; whether it was still at work."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        workers = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(signal.SIGKILL)
        child.wait(DEADLINE_SECONDS)
        _, alive = psutil.wait_procs(workers, DEADLINE_SECONDS)
        assert alive == [], "a worker outlived its parent"
        return True
    assert child.returncode == 0
    return False


def judge(yard: Yard, name: str, place: Path, restic: Restic, *, restic_restores: bool) -> None:
    part, scene, storage = PARTS[name], yard.scene, LocalStorage(place)
    assert "no errors were found" in restic("--no-lock", "check", "--read-data").stdout
    listed = {file.name for file in storage.list(FileKind.SNAPSHOT)}
    assert part.must_stay(scene) <= listed, "an earlier snapshot is gone"
    if restic_restores:
        for snapshot in open_at(str(place)).snapshots():
            target = scene.scratch / "by-restic"
            restic("--no-lock", "restore", snapshot.id, "--target", str(target))
            assert picture(target / str(scene.source)[1:]) == scene.expected(snapshot.id, snapshot.original)
            stage.empty(target)
    scene.require_sound(storage, now, part.must_stay(scene))
    part.act(scene, storage, now)
    scene.finish(storage, now)


@pytest.fixture
def kill(yard: Yard, tmp_path: Path, restic: Restic) -> Callable[[str, int, int], int]:
    """Kill an act some times; gives how often the child was still at work."""

    def run(name: str, times: int, seed: int) -> int:
        whole = max(time_undisturbed(yard, name) for _ in range(2))
        random, killed = Random(seed), 0
        (tmp_path / "repository").symlink_to(yard.directory / "repository")
        for number in range(times):
            moment = random.uniform(0, whole)
            place = yard.lay_out(name)
            killed += kill_after(start(yard, name, place), moment)
            try:
                judge(yard, name, place, restic, restic_restores=number % RESTIC_RESTORES_EVERY == 0)
            except AssertionError as error:
                error.add_note(f"kill {number} of {name}, {moment:.3f} s after it began, of {whole:.3f} s")
                raise
        return killed

    return run


@pytest.mark.parametrize("name", ["backup", "prune"])
def test_a_child_killed_at_a_few_random_moments_harms_nothing(kill: Callable[[str, int, int], int], name: str) -> None:
    assert kill(name, 2, SEED) >= 1, "it was over before it could be killed"


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", PARTS)
def test_a_child_killed_at_any_of_200_random_moments_harms_nothing(
    kill: Callable[[str, int, int], int], name: str
) -> None:
    times = KILLS // len(PARTS)
    assert kill(name, times, SEED + list(PARTS).index(name)) > times // 2, "most were over before they could be killed"
