"""Finding, merging and filling in: from files on a disk to whole settings."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from config.loading import find_config, find_state_dir, load, load_document
from config.machine import Machine
from config.problems import ConfigProblems, Problem
from config.settings import Settings
from config.showing import show

MACHINE = Machine("erp-1", "Europe/Berlin", Path("/var/lib/keepwatch"))
Write = Callable[..., Path]
Find = Callable[[Path], list[Problem]]
Load = Callable[..., Settings]

OPERATORS_EXAMPLE = """
[daemon]
host = "erp-1"
state_dir = "/var/lib/keepwatch"

[web]
listen = "127.0.0.1:9750"

[repositories.local]
url = "/srv/keepwatch/repository"
password_file = "/etc/keepwatch/repository.password"

[jobs.documents]
source = { type = "files", paths = ["/srv/invoices"], exclude = ["*.tmp", "cache/"], one_file_system = true }
repositories = ["local"]
incremental = "every 1h"
full = "sunday 02:00"
keep = { last = 3, hourly = 24, daily = 14, weekly = 8, monthly = 12, yearly = 3, within = "48h" }
rpo = "2h"
rto = "30m"
before = ["systemctl stop importer"]
drill = { schedule = "daily 04:30", level = "restore" }

[[checks]]
name = "root disk"
type = "disk"
path = "/"
warning = "> 85%"
critical = "> 95%"
for = "5m"
every = "30s"
depends_on = ["storage array"]
runbook = "disk-full"
on_critical = { run = "/usr/local/sbin/clean-tmp", at_most = "1 per 1h" }

[[checks]]
name = "storage array"
type = "command"
run = "/usr/lib/nagios/plugins/check_raid"

[[checks]]
name = "inodes"
type = "disk"
warning = { reading = "inodes_used", raise = "> 85%", clear = "< 80%" }

[[notify]]
name = "ops"
url = "mailtos://user:secret@mail.example.com?to=ops@example.com"
severities = ["warning", "critical"]

[heartbeat]
url = "https://hc-ping.com/UUID"
"""


def test_the_operators_example_loads(write: Write, loaded: Load) -> None:
    settings = loaded(write(OPERATORS_EXAMPLE))
    documents = settings.jobs["documents"]
    assert documents.source.one_file_system
    assert documents.keep is not None
    assert (documents.keep.yearly, documents.keep.within) == (3, timedelta(hours=48))
    assert (documents.rpo, documents.rto) == (timedelta(hours=2), timedelta(minutes=30))
    disk = settings.checks[0]
    assert (disk.for_, disk.every, disk.warning[0].raise_.bound) == (timedelta(minutes=5), timedelta(seconds=30), 0.85)
    assert settings.heartbeat is not None
    assert settings.heartbeat.url.get_secret_value() == "https://hc-ping.com/UUID"


def test_the_embedded_default_watches_backs_up_and_drills() -> None:
    settings = load(None, environ={}, machine=MACHINE)
    assert {check.type for check in settings.checks} >= {
        "cpu", "load", "memory", "swap", "disk", "disk_io", "network", "temperature", "fans", "uptime", "processes",
        "file_descriptors", "file_systems", "pressure", "oom_kills", "conntrack", "clock", "stuck_processes", "md_raid",
        "zfs", "btrfs", "memory_errors", "machine_checks", "link", "bond",
    }  # fmt: skip
    assert max(check.every for check in settings.checks) <= timedelta(minutes=1)
    job, repository = settings.jobs["system"], settings.repositories["local"]
    assert job.source.paths == [Path("/etc"), Path("/var/lib/keepwatch")]
    assert (job.rpo, job.rto) == (timedelta(hours=2), timedelta(minutes=10))
    assert job.drill is not None
    assert repository.password_file == Path("/var/lib/keepwatch/repository.password")
    assert repository.verify is not None


def test_the_embedded_default_leaves_out_what_changes_under_it_and_what_opens_it() -> None:
    exclude = load(None, environ={}, machine=MACHINE).jobs["system"].source.exclude
    assert {name.removeprefix("/var/lib/keepwatch/") for name in exclude} == {
        "repository/", "scratch/", "locks/", "repository.password", "*.lock", "*.db", "*.db-wal", "*.db-shm",
        "*.reserve",
    }  # fmt: skip


def test_every_runbook_that_the_embedded_default_names_is_there() -> None:
    runbooks = Path(__file__).resolve().parents[2] / "deploy" / "runbooks"
    for check in load(None, environ={}, machine=MACHINE).checks:
        assert check.runbook
        assert (runbooks / f"{check.runbook}.md").is_file(), check.name


def test_a_state_directory_with_odd_letters_survives_patterns_and_quoting(tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" [c]*\\d'
    source = load(None, environ={}, state_dir=odd, machine=MACHINE).jobs["system"].source
    assert source.paths[1] == odd
    assert source.exclude[0] == f"{tmp_path}/a \"b\" \\[c]\\*\\\\d/repository/"


def test_gaps_of_the_daemon_are_filled_from_the_machine(write: Write, loaded: Load) -> None:
    daemon = loaded(write("")).daemon
    assert (daemon.host, daemon.timezone, daemon.state_dir) == ("erp-1", "Europe/Berlin", Path("/var/lib/keepwatch"))
    assert daemon.zone == ZoneInfo("Europe/Berlin")
    written = loaded(write('[daemon]\nhost = "mine"\ntimezone = "UTC"\nstate_dir = "/s"\n')).daemon
    assert (written.host, written.timezone, written.state_dir) == ("mine", "UTC", Path("/s"))


def test_the_state_directory_is_the_arguments_then_the_environments_then_the_files(write: Write) -> None:
    path = write('[daemon]\nstate_dir = "/file"')
    by_environment = {"KEEPWATCH_STATE_DIR": "/environment"}
    argument = load(path, environ=by_environment, state_dir=Path("/argument"), machine=MACHINE)
    assert argument.daemon.state_dir == Path("/argument")
    assert load(path, environ=by_environment, machine=MACHINE).daemon.state_dir == Path("/environment")
    assert load(path, environ={}, machine=MACHINE).daemon.state_dir == Path("/file")


def test_without_settings_the_state_that_make_run_left_here_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_state_dir(None, None, {}) is None
    (tmp_path / ".keepwatch").mkdir()
    assert find_state_dir(None, None, {}) == Path(".keepwatch")
    assert find_state_dir(Path("/x"), None, {}) == Path("/x")
    assert find_state_dir(None, None, {"KEEPWATCH_STATE_DIR": "/y"}) is None
    assert find_state_dir(None, Path("keepwatch.toml"), {}) is None


def test_root_keeps_state_in_var_lib_and_others_at_home() -> None:
    assert Machine.here({}, uid=0).state_dir == Path("/var/lib/keepwatch")
    assert Machine.here({"HOME": "/home/ann"}, uid=1000).state_dir == Path("/home/ann/.local/state/keepwatch")
    state_home = {"HOME": "/home/ann", "XDG_STATE_HOME": "/state"}
    assert Machine.here(state_home, uid=1000).state_dir == Path("/state/keepwatch")


def test_the_machine_names_itself_and_its_zone() -> None:
    here = Machine.here(os.environ)
    assert here.host
    assert ZoneInfo(here.timezone)


def test_a_named_file_is_taken_even_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keepwatch.toml").touch()
    assert find_config(Path("/x.toml"), {"KEEPWATCH_CONFIG": "/y.toml"}) == Path("/x.toml")
    assert find_config(None, {"KEEPWATCH_CONFIG": "/y.toml"}) == Path("/y.toml")
    assert find_config(None, {}) == Path("keepwatch.toml")


def test_without_any_file_the_embedded_default_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("config.loading.PLACES", (Path("keepwatch.toml"), tmp_path / "etc" / "keepwatch.toml"))
    assert find_config(None, {}) is None


def test_conf_d_is_merged_tables_by_table_and_lists_of_tables_by_appending(write: Write, loaded: Load) -> None:
    path = write(
        '[web]\nlisten = "127.0.0.1:1"\n[[checks]]\nname = "a"\ntype = "cpu"\n',
        **{
            "10-more": '[daemon]\nlog_format = "json"\n[[checks]]\nname = "b"\ntype = "load"\n',
            "20-last": 'checks = [{ name = "c", type = "swap" }]\n[daemon]\nmax_parallel_jobs = 2\n',
        },
    )
    settings = loaded(path)
    assert [check.name for check in settings.checks] == ["a", "b", "c"]
    assert (settings.daemon.log_format, settings.daemon.max_parallel_jobs, settings.web.port) == ("json", 2, 1)


def test_the_same_value_in_two_files_is_a_problem_that_names_both_places(write: Write, problems: Find) -> None:
    path = write('[web]\nlisten = "127.0.0.1:1"\n', extra='\n[web]\n\nlisten = "127.0.0.1:2"\n')
    [problem] = problems(path)
    assert (problem.file, problem.line, problem.path) == (path.parent / "conf.d" / "extra.toml", 4, "web.listen")
    assert problem.problem == f"already set at {path}:2; remove one of them"


def test_a_problem_in_conf_d_has_that_files_name_and_line(write: Write, problems: Find) -> None:
    path = write('[[checks]]\nname = "a"\ntype = "cpu"\n', extra='\n[[checks]]\nname = "b"\ntype = "cpu"\nfro = "1m"\n')
    [problem] = problems(path)
    assert (problem.file, problem.line) == (path.parent / "conf.d" / "extra.toml", 5)
    assert (problem.path, problem.problem) == ("checks[b].fro", "unknown key; did you mean 'for'?")


def test_syntax_errors_of_several_files_come_at_once_with_their_lines(write: Write, problems: Find) -> None:
    path = write('[web]\nlisten = \n', extra="a = 1\na = 2\n", open_end='x = """\n')
    assert [(problem.file and problem.file.name, problem.line) for problem in problems(path)] == [
        ("keepwatch.toml", 2), ("extra.toml", 2), ("open_end.toml", 2),
    ]  # fmt: skip
    assert all(problem.problem.startswith("not valid TOML: ") for problem in problems(path))


def test_a_broken_file_hides_no_fault_of_another_and_invents_none(write: Write, problems: Find) -> None:
    job = '[jobs.a]\nrepositories = ["elsewhere"]\nsource = { type = "files", paths = ["/x"] }\nrpo = "soon"\n'
    found = problems(write(job, repositories="[repositories\n"))
    assert [problem.path for problem in found] == ["jobs.a.rpo", ""]


def test_a_missing_file_is_a_problem(tmp_path: Path, problems: Find) -> None:
    [problem] = problems(tmp_path / "none.toml")
    assert str(problem) == f"{tmp_path}/none.toml: cannot be read: no such file or directory"


def test_a_file_that_is_not_utf_8_is_a_problem_with_its_line(tmp_path: Path, problems: Find) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'[daemon]\nhost = "B\xfcro"\n')
    [problem] = problems(path)
    assert str(problem) == f"{path}:2: not UTF-8 text; save the file as UTF-8"


def test_variables_are_expanded_where_addresses_and_secrets_stand(write: Write, loaded: Load) -> None:
    text = """
    [repositories.a]
    url = "/srv/${WHERE}"
    password_command = "pass ${WHERE}"
    [heartbeat]
    url = "https://ping.example/${UUID}?literal=$${UUID}"
    [[checks]]
    name = "${WHERE}"
    type = "http"
    url = "https://${WHERE}/"
    headers = { Authorization = "Bearer ${UUID}" }
    """
    settings = loaded(write(text), WHERE="there", UUID="1-2")
    assert settings.repositories["a"].url == "/srv/there"
    assert settings.heartbeat is not None
    assert settings.heartbeat.url.get_secret_value() == "https://ping.example/1-2?literal=${UUID}"
    [check] = settings.checks
    assert check.type == "http"
    assert (check.name, check.url) == ("${WHERE}", "https://there/")
    assert check.headers["Authorization"].get_secret_value() == "Bearer 1-2"


def test_a_variable_that_is_not_set_is_a_problem_naming_it(write: Write, problems: Find) -> None:
    [problem] = problems(write('[heartbeat]\nurl = "https://ping.example/${UUID}"\n'))
    assert (problem.line, problem.path) == (2, "heartbeat.url")
    assert problem.problem == "the environment variable UUID is not set"


def test_where_the_page_is_may_be_said_at_the_start_and_is_judged_as_if_written(tmp_path: Path) -> None:
    file = tmp_path / "keepwatch.toml"
    file.write_text('[web]\nlisten = "127.0.0.1:9750"\n')
    assert load(file, environ={}, listen="127.0.0.1:80").web.listen == "127.0.0.1:80"
    assert load(None, environ={}, listen="[::1]:80").web.listen == "[::1]:80"
    for wrong in ("0.0.0.0:80", "nonsense", "127.0.0.1:99999"):
        with pytest.raises(ConfigProblems) as caught:
            load(file, environ={}, listen=wrong)
        [problem] = caught.value.problems
        assert str(problem).startswith("command line:1: web.listen: ")


def test_what_was_said_at_the_start_is_not_marked_as_a_default(tmp_path: Path) -> None:
    settings, document = load_document(None, environ={}, state_dir=tmp_path)
    [line] = [line for line in show(settings, document).as_toml().splitlines() if line.startswith("state_dir")]
    assert line == f'state_dir = "{tmp_path}"'
