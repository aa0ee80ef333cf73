"""The benchmarks measure what they say: the trees are the same for ever, and figures are of the whole program."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from tests.benchmarks import engine, trees
from tests.benchmarks.measuring import Command, CommandFailed, Figures, measure


def digest(top: Path) -> str:
    """One hash over all files below, with their names."""
    every = hashlib.sha256()
    for file in sorted(top.rglob("*")):
        if file.is_file():
            every.update(str(file.relative_to(top)).encode() + b"\0" + file.read_bytes())
    return every.hexdigest()


def test_the_trees_are_the_same_bytes_for_ever(tmp_path: Path) -> None:
    trees.make(tmp_path, big_mib=4, small=401, seed=5)
    assert digest(tmp_path) == "ec63074688a47b5eaa822cf2c032fc1244727bcf7d767edd09bdd298819212b7"
    trees.touch(tmp_path, 1, seed=5)
    assert digest(tmp_path) == "cbfb57903107a2b9af0e7a9dc528b7b3982c8b1da1410cd01b7c2288716ecd7b"


def python(code: str, directory: Path) -> Command:
    return Command((sys.executable, "-c", code), dict(os.environ), directory)


def test_memory_and_processor_time_of_children_count(tmp_path: Path) -> None:
    busy = "import time; x = bytearray(b'x') * (48 << 20)\nwhile time.process_time() < 0.5: pass\ntime.sleep(0.3)"
    alone = measure([python(busy, tmp_path)], tmp_path / "log")
    in_child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}], check=True)"
    below = measure([python(in_child, tmp_path)], tmp_path / "log")
    for figures in (alone, below):
        assert figures.cpu_seconds >= 0.5
        assert figures.wall_seconds >= 0.8
        assert 48 << 20 < figures.pss_bytes < 96 << 20


def test_a_program_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="no such thing"):
        measure([python("raise SystemExit('no such thing')", tmp_path)], tmp_path / "log")


def figures(*walls: float, pss: int = 1) -> list[Figures]:
    return [Figures(wall, wall, pss, 0.0) for wall in walls]


def test_a_missed_target_is_told_and_so_is_a_met_one() -> None:
    good = engine.Result({"keepwatch": figures(1, 3, 2), "restic": figures(10, 10, 10)}, {"keepwatch": 1, "restic": 1})
    slow = engine.Result({"keepwatch": figures(4, 4), "restic": figures(10, 10)})
    fat = engine.Result({"keepwatch": figures(1, 1, pss=300 << 20), "restic": figures(10, 10)})
    large = engine.Result({"keepwatch": figures(1), "restic": figures(9)}, {"keepwatch": 103, "restic": 100})
    rows = {
        key: engine.table({"first big": result}).splitlines()[-1]
        for key, result in {"good": good, "slow": slow, "fat": fat, "large": large}.items()
    }
    assert "0.10 **0.20** 0.30 | 0.35 | yes |" in rows["good"]
    assert "no: wall 0.40 > 0.35" in rows["slow"]
    assert "no: PSS MiB 300.00 > 250.00" in rows["fat"]
    assert "no: stored 1.03 > 1.02" in rows["large"]


@pytest.mark.parametrize(
    "works",
    [["first small", "restore small"], pytest.param(list(engine.TARGETS), marks=pytest.mark.campaign)],
    ids=["two works", "all works"],
)
def test_each_program_does_each_work_and_restores_what_it_saved(tmp_path: Path, works: list[str]) -> None:
    """All but the largest tree; the benchmark itself compares what is restored and lets restic check what is pruned."""
    works = [key for key in works if not key.endswith("many")]
    bench = engine.Bench(tmp_path, engine.Size(big_mib=4, small=50, pairs=1), works)
    bench.run()
    assert set(bench.results) == set(works)
    assert all(len(runs) == 1 for result in bench.results.values() for runs in result.runs.values())
    assert engine.table(bench.results).count("\n") == 2 + len(works) + 1
