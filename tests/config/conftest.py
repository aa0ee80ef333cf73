"""A folder to write configurations in, and a machine that is the same everywhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from config.loading import load
from config.machine import Machine
from config.problems import ConfigProblems, Problem
from config.settings import Settings

MACHINE = Machine("erp-1", "Europe/Berlin", Path("/var/lib/keepwatch"))

Write = Callable[..., Path]
Find = Callable[[Path], list[Problem]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write keepwatch.toml, and files below conf.d by their names; return the path of the first."""

    def write(text: str, **parts: str) -> Path:
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        for name, part in parts.items():
            (tmp_path / "conf.d" / f"{name}.toml").write_text(part, encoding="utf-8")
        path = tmp_path / "keepwatch.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def loaded() -> Callable[..., Settings]:
    """Load on a known machine with a given environment."""
    return lambda path, **environ: load(path, environ=environ, machine=MACHINE)


@pytest.fixture
def problems() -> Find:
    """Load what must not load; return what is wrong with it."""

    def problems(path: Path) -> list[Problem]:
        with pytest.raises(ConfigProblems) as caught:
            load(path, environ={}, machine=MACHINE)
        assert all(str(problem) in str(caught.value) for problem in caught.value.problems)
        return list(caught.value.problems)

    return problems
