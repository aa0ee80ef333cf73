"""The plan of the house as a failing build: who may import whom, who reads the clock, prints or starts programs.

Each rule is a function from a module's path and source to the places where it is broken, so that each is also shown
source that breaks it. To start programs from one more module, add it to ``MAY_START_PROGRAMS`` with its reason.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("keepwatch", "monitor", "backup", "config")

MAY_IMPORT = {
    "keepwatch": {"keepwatch", "monitor", "backup", "config"},
    "monitor": {"monitor", "config"},
    "backup": {"backup", "config"},
    "config": {"config"},
}
WALL_CLOCK = {
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
    "time.time", "time.time_ns", "time.clock_gettime", "time.clock_gettime_ns",
}  # fmt: skip
STARTS_PROGRAMS = (
    "subprocess", "multiprocessing", "pty", "asyncio.create_subprocess", "concurrent.futures.ProcessPoolExecutor",
    "os.fork", "os.exec", "os.spawn", "os.posix_spawn", "os.system", "os.popen",
)  # fmt: skip
MAY_START_PROGRAMS: dict[str, str] = {
    "backup/applications/private.py": "restored data are proven by a server of their own kind, gone afterwards",
    "backup/crew.py": "workers that hash, compress and seal: the interpreter lock caps threads at one core",
    "backup/drills/assertions.py": "an operator's command judges what a drill restored",
    "backup/drills/bringing_up.py": "asks the kernel whether a command may be cut off from the network",
    "backup/storage/counting.py": "starts none: its counters lie in memory that forked workers share",
    "backup/sources/streams.py": "dumps and base backups are the output of the database's own programs",
    "config/secrets.py": "password_command: the operator's own way to a password, such as pass or vault",
    "keepwatch/cli/daemon_command.py": "becomes the daemon by exec, without the command line's libraries in memory",
    "keepwatch/wal/binlog_receiving.py": "mariadb-binlog is the server's own and knows how a replica asks",
    "keepwatch/wal/keeper.py": "a receiver holds a repository open for months, and the daemon must stay small",
    "keepwatch/wal/receiving.py": "pg_receivewal is PostgreSQL's own and knows its protocol",
    "keepwatch/job_runner.py": "each run is a child that can be limited and killed, and whose memory goes back",
    "monitor/probes/program.py": "operators' plugins, systemctl and journalctl are programs",
    "monitor/probes/file_systems.py": "a dead mount can hold a child for ever, but not a thread of the daemon",
    "keepwatch/diagnose/versions.py": "asks tools for their versions, and apt what waits, on a person's request only",
    "keepwatch/hooks.py": "hooks of a job are the operator's programs",
    "monitor/actions.py": "on_critical runs the operator's program",
    "monitor/node/units.py": "systemd is asked by its own program: no D-Bus library for two families of metrics",
    "monitor/notify.py": "Apprise lives in a child, so that its memory goes back after each message",
}
MAX_LINES = 500
NOT_IN_THE_DAEMON = ("boto3", "botocore", "cryptography", "zstandard", "fastcdc", "apprise", "typer", "rich")
"""What the idle daemon pays for in memory and never needs: jobs, messages and commands are processes of their own."""

Rule = Callable[[str, ast.Module], Iterator[str]]


def imports(tree: ast.Module) -> Iterator[tuple[int, str, str, str]]:
    """Every import, wherever it stands: line, what is imported, the local name it makes, what that name stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield node.lineno, alias.name, alias.asname or top, alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                target = f"{'.' * node.level}{node.module or ''}.{alias.name}"
                yield node.lineno, target, alias.asname or alias.name, target


def names_used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every dotted name that is imported or used, with its line; local names are resolved to what they stand for."""
    stands_for: dict[str, str] = {}
    for line, target, local, meaning in imports(tree):
        stands_for[local] = meaning
        yield line, target
    for node in ast.walk(tree):
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield inner.lineno, ".".join([stands_for.get(inner.id, inner.id), *reversed(parts)])


def arrows_run_down(path: str, tree: ast.Module) -> Iterator[str]:
    room = path.partition("/")[0]
    for line, target, *_ in imports(tree):
        top = target.partition(".")[0]
        if not top:
            yield f"{path}:{line}: relative import of {target}; write the room's name"
        elif top in ROOMS and top not in MAY_IMPORT[room]:
            yield f"{path}:{line}: {room} imports {target}"


def one_module_reads_the_clock(path: str, tree: ast.Module) -> Iterator[str]:
    if path != "keepwatch/clock.py":
        yield from (f"{path}:{line}: reads {name}" for line, name in names_used(tree) if name in WALL_CLOCK)


def only_the_command_line_prints(path: str, tree: ast.Module) -> Iterator[str]:
    if not path.startswith("keepwatch/cli/"):
        yield from (f"{path}:{line}: prints" for line, name in names_used(tree) if name in ("print", "builtins.print"))


def programs_are_started_by_few(path: str, tree: ast.Module) -> Iterator[str]:
    if path not in MAY_START_PROGRAMS:
        yield from starts_programs(path, tree)


def starts_programs(path: str, tree: ast.Module) -> Iterator[str]:
    for line, name in names_used(tree):
        if name.startswith(STARTS_PROGRAMS):
            yield f"{path}:{line}: starts programs by {name}"


def a_module_says_what_it_is_for(path: str, tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield f"{path}: no docstring"


RULES: tuple[Rule, ...] = (
    arrows_run_down,
    one_module_reads_the_clock,
    only_the_command_line_prints,
    programs_are_started_by_few,
    a_module_says_what_it_is_for,
)
BROKEN: tuple[tuple[Rule, str, str], ...] = (
    (arrows_run_down, "monitor/a.py", "import backup.catalog"),
    (arrows_run_down, "backup/a.py", "def f():\n    from monitor.result import Status"),
    (arrows_run_down, "monitor/a.py", "from keepwatch import view"),
    (arrows_run_down, "config/a.py", "import monitor"),
    (arrows_run_down, "monitor/a.py", "from ..backup import catalog"),
    (one_module_reads_the_clock, "backup/a.py", "from datetime import UTC, datetime\nx = datetime.now(UTC)"),
    (one_module_reads_the_clock, "backup/a.py", "import datetime as dt\nx = dt.datetime.utcnow()"),
    (one_module_reads_the_clock, "backup/a.py", "from datetime import date\nx = date.today()"),
    (one_module_reads_the_clock, "keepwatch/a.py", "import time\nx = time.time()"),
    (one_module_reads_the_clock, "keepwatch/a.py", "from time import time as now\nx = now()"),
    (one_module_reads_the_clock, "keepwatch/a.py", "import time\nclock = time.time"),
    (only_the_command_line_prints, "keepwatch/daemon.py", "print('hello')"),
    (programs_are_started_by_few, "backup/a.py", "import subprocess\nsubprocess.run(['true'])"),
    (programs_are_started_by_few, "backup/a.py", "from subprocess import run"),
    (programs_are_started_by_few, "backup/a.py", "import os\npid = os.fork()"),
    (programs_are_started_by_few, "backup/a.py", "from os import execvp"),
    (programs_are_started_by_few, "backup/a.py", "from concurrent import futures\nfutures.ProcessPoolExecutor()"),
    (programs_are_started_by_few, "backup/a.py", "from concurrent.futures import ProcessPoolExecutor"),
    (programs_are_started_by_few, "backup/a.py", "import multiprocessing.pool"),
    (a_module_says_what_it_is_for, "backup/a.py", "x = 1"),
)
FINE = """'''A module.'''
import time
from datetime import UTC, datetime, timedelta
def age(now: datetime, then: datetime) -> timedelta:
    started = time.monotonic()
    return now - then
"""


def modules() -> list[tuple[str, str]]:
    found = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(found) > len(ROOMS), "no modules found: this test would pass on an empty house"
    return [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in found]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    assert [place for path, source in modules() for place in rule(path, ast.parse(source))] == []


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN)
def test_a_rule_sees_the_planted_breach(rule: Rule, path: str, source: str) -> None:
    assert list(rule(path, ast.parse(source)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_leaves_an_ordinary_module_alone(rule: Rule) -> None:
    assert list(rule("backup/a.py", ast.parse(FINE))) == []


def test_every_rule_is_shown_a_breach() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_the_table_of_program_starters_names_only_modules_that_start_programs() -> None:
    for path, reason in MAY_START_PROGRAMS.items():
        assert reason
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert list(starts_programs(path, tree)), f"{path} no longer does"


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    outside = [path for place in ("deploy", "tests") for path in (ROOT / place).rglob("*.py")]
    sources = modules() + [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in outside]
    assert {path: lines for path, text in sources if (lines := len(text.splitlines())) > MAX_LINES} == {}


def test_there_is_no_room_for_odds_and_ends() -> None:
    odds_and_ends = {"common", "utils", "util", "helpers", "misc"}
    assert [path for path, _ in modules() if odds_and_ends & set(Path(path).with_suffix("").parts)] == []


def imported_by(statement: str) -> set[str]:
    """What a fresh interpreter has in sys.modules after ``statement``."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_daemon_never_loads_what_only_jobs_messages_and_commands_need() -> None:
    assert imported_by("import keepwatch.daemon") & set(NOT_IN_THE_DAEMON) == set()


def test_a_heavy_import_would_be_seen() -> None:
    assert "zstandard" in imported_by("import zstandard")
