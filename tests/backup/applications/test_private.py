"""Servers of our own for restored data: whose they are, what they reach, and that they end."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.applications.private import program, quarters
from backup.errors import ApplicationError, RestoreError

REPOSITORY = Path(__file__).resolve().parents[3]


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_is_nobody_and_reaches_its_folders_through_closed_ones(tmp_path: Path) -> None:
    data, work = tmp_path / "closed" / "data", tmp_path / "closed" / "work"
    data.mkdir(parents=True), work.mkdir()
    data.parent.chmod(0o700)
    (data / "table").write_text("rows")
    with quarters(data, work) as place:
        script = 'id -u; cat "$1"; echo done > "$2"'
        words = ["sh", "-c", script, "sh", place.inside(data / "table"), place.inside(work / "out")]
        place.run(words, what="look", log=work / "log", timeout_seconds=20)
    user, said = (work / "log").read_text().split("\n")
    assert (int(user) != 0, said) == (True, "rows")
    assert (work / "out").read_text() == "done\n"


def test_a_server_has_no_network_where_root_may_take_it_away(tmp_path: Path) -> None:
    with quarters(tmp_path) as place:
        place.run(["cat", "/proc/net/dev"], what="look", log=tmp_path / "log", timeout_seconds=20)
        lines = (tmp_path / "log").read_text().splitlines()[2:]
        assert not place.moved or [line.split(":")[0].strip() for line in lines] == ["lo"]


def test_a_socket_has_a_short_name_however_deep_its_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with quarters(deep) as place:
        inside, outside = place.socket("s")
        assert max(len(inside), len(outside)) < 60
        code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])"
        place.run([sys.executable, "-c", code, inside], what="bind", log=deep / "log", timeout_seconds=20)
        assert Path(outside).is_socket()


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    why = "could not check: sh ended with status 3: no"
    with quarters(tmp_path) as place, pytest.raises(ApplicationError, match=why):
        place.run(["sh", "-c", "echo no; exit 3"], what="check", log=tmp_path / "log", timeout_seconds=20)


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    started = time.monotonic()
    with quarters(tmp_path) as place, pytest.raises(RestoreError, match=r"longer than 0\.2 s"):
        place.run(["sleep", "60"], what="check", log=tmp_path / "log", timeout_seconds=0.2)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("script", "seconds", "error", "why"),
    [
        ("echo broken; exit 1", 20, ApplicationError, "sh ended with status 1: broken"),
        ("echo 'mmap: Cannot allocate memory'; exit 1", 20, RestoreError, "sh ended with status 1: mmap"),
        ("kill -KILL $$", 20, RestoreError, "sh was killed by signal 9"),
        ("exec sleep 60", 0.1, RestoreError, r"did not answer within 0\.1 s"),
    ],
)
def test_a_server_that_never_answers_is_told_and_whose_fault_it_is(
    tmp_path: Path, script: str, seconds: float, error: type[Exception], why: str
) -> None:
    with (
        quarters(tmp_path) as place,
        place.serving(["sh", "-c", script], log=tmp_path / "log") as server,
        pytest.raises(error, match=why),
    ):
        server.wait_until(lambda: False, timeout_seconds=seconds)


def test_a_server_ends_with_its_context(tmp_path: Path) -> None:
    with quarters(tmp_path) as place, place.serving(["sleep", "60"], log=tmp_path / "log") as server:
        assert server.process.poll() is None
    assert server.process.returncode == -signal.SIGTERM


def test_a_server_dies_with_us(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from backup.applications.private import quarters
        folder = Path({os.fspath(tmp_path)!r})
        with quarters(folder) as place:
            command = ["sh", "-c", 'echo $$ > "$1"; exec sleep 60', "sh", place.inside(folder / "pid")]
            with place.serving(command, log=folder / "log") as server:
                begun = lambda: (folder / "pid").exists() and (folder / "pid").read_text()
                server.wait_until(begun, timeout_seconds=20)
                os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(gone)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(RestoreError, match="could not find no-such-server or nor-such-other"):
        program("no-such-server", "nor-such-other")
