"""Every fault an operator can write, planted, is reported with its line, in words that say what would be right."""

import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.explain import FORMS
from config.fields import key_of, models_of
from config.loading import load
from config.machine import Machine
from config.problems import ConfigProblems, Problem
from config.sample import sample
from config.settings import Settings

MACHINE = Machine("erp-1", "Europe/Berlin", Path("/var/lib/keepwatch"))

Write = Callable[..., Path]
Find = Callable[[Path], list[Problem]]

REPOSITORY = '[repositories.local]\nurl = "/r"\npassword_file = "/p"\n'
S3 = '[repositories.a]\nurl = "s3:https://host/bucket/x"\npassword_file = "/p"\n'
JOB = '[jobs.a]\nrepositories = ["local"]\nsource = { type = "files", paths = ["/x"] }\n'
DISK = '[[checks]]\nname = "disk"\ntype = "disk"\n'
HTTP = '[[checks]]\nname = "web"\ntype = "http"\nurl = "https://x"\n'


def test_five_faults_in_one_file_are_reported_at_once_each_with_its_line(write: Write, problems: Find) -> None:
    path = write("""\
[daemon]
hots = "erp-1"

[jobs.documents]
repositories = ["locl"]
source = { type = "files", paths = ["/srv"] }
rpo = "2 hours"

[repositories.local]
url = "/r"
password_file = "/p"

[[checks]]
name = "root disk"
type = "dsk"

[[checks]]
name = "memory"
type = "memory"
warning = [
  "> 80%",
  { reading = "usd", raise = "> 90%" },
]
""")
    expected = (
        "2: daemon.hots: unknown key; did you mean 'host'?\n"
        "5: jobs.documents.repositories[1]: no repository is named 'locl'; did you mean 'local'?\n"
        "7: jobs.documents.rpo: not a duration; write a number and a unit: ms, s, m, h, d, w or y,"
        ' such as 90s or 1h30m (got "2 hours")\n'
        "15: checks[root disk].type: unknown type; did you mean 'disk'? (got \"dsk\")\n"
        "22: checks[memory].warning[2].reading: a memory check has no such reading; did you mean 'used'?"
        ' (got "usd")'
    )
    assert "\n".join(str(problem).removeprefix(f"{path}:") for problem in problems(path)) == expected


FAULTS = [
    # what is written; line, path, problem (a regular expression), value
    ('name = "x"', 1, "name", "unknown key; known are daemon, web, metrics, repositories, jobs, checks", None),
    ('daemon = "x"', 1, "daemon", "must be a table", '"x"'),
    ('[notify]\nname = "a"', 1, "notify", r"is a list of tables; write \[\[notify\]\]", "a table"),
    ("[[web]]", 1, "web", r"is one table; write \[web\]", "a list"),
    ("[daemon]\nhost = 5", 2, "daemon.host", "must be text in quotes", "5"),
    ('[daemon]\nmax_parallel_jobs = "3"', 2, "daemon.max_parallel_jobs", "must be a whole number", '"3"'),
    ("[daemon]\nmax_parallel_jobs = true", 2, "daemon.max_parallel_jobs", "must be a whole number", "true"),
    ("[daemon]\nmax_parallel_jobs = 0", 2, "daemon.max_parallel_jobs", "must be at least 1", "0"),
    ("[daemon]\nmax_parallel_jobs = 99", 2, "daemon.max_parallel_jobs", "must be at most 16", "99"),
    ('[daemon]\nlog_format = "xml"', 2, "daemon.log_format", "must be 'text' or 'json'", '"xml"'),
    ('[daemon]\ntimezone = "Mars/Base"', 2, "daemon.timezone", "not a known time zone", '"Mars/Base"'),
    ('[daemon]\nstate_dir = "state"', 2, "daemon.state_dir", "must be an absolute path", '"state"'),
    ('[daemon]\nhost = ""', 2, "daemon.host", "must not be empty", '""'),
    ('[web]\nlisten = "0.0.0.0:9750"', 2, "web.listen", "is no loopback address", '"0.0.0.0:9750"'),
    ('[web]\nlisten = "9750"', 2, "web.listen", "an address and a port", '"9750"'),
    ('[web]\nlisten = "127.0.0.1:99999"', 2, "web.listen", "at most 65535", '"127.0.0.1:99999"'),
    ('[repositories."a b"]\nurl = "/r"\npassword_file = "/p"', 1, 'repositories."a b"', "1 to 63 letters", None),
    ('[repositories.a]\nurl = "/r"', 1, "repositories.a", "exactly one of password_file and password_command", None),
    ('[repositories.a]\nurl = "s3:x"\npassword_file = "/p"', 2, "repositories.a.url", "must name a host and", None),
    (S3.replace("bucket/x", "B"), 2, "repositories.a.url", "a bucket of 3 to 63 lower-case", None),
    (S3.replace("https://", "https://id:key@"), 2, "repositories.a.url", "not have a user or password in it", None),
    (S3 + 'access_key_id_file = "/i"', 1, "repositories.a", "both of access_key_id_file and secret_access", None),
    (S3 + 'profile = "p"\naccess_key_id_file = "/i"\nsecret_access_key_file = "k"', 1, "repositories.a", "both", None),
    (S3 + 'server_side_encryption_key_id = "k"', 1, "repositories.a", "needs server_side_encryption", None),
    (S3 + 'server_side_encryption = "rot13"', 4, "repositories.a.server_side_encryption", "'aws:kms'", '"rot13"'),
    (S3 + 'storage_class = "cold"', 4, "repositories.a.storage_class", "S3's storage classes", '"cold"'),
    (S3 + 'addressing = "host"', 4, "repositories.a.addressing", "'auto' or 'path' or 'virtual'", '"host"'),
    (S3 + 'object_lock = "1h"', 1, "repositories.a", "an object_lock of less than a day", None),
    (S3 + 'extend = "daily 06:00"', 1, "repositories.a", "extend renews object_lock, which is not set", None),
    (REPOSITORY + 'read_all_within = "30d"', 1, "repositories.local", "read_all_within needs a verify schedule", None),
    (REPOSITORY + JOB + 'guard = { shrink = "half" }', 7, "jobs.a.guard.shrink", "not a share; write a perc", '"half"'),
    (S3 + 'upload_limit = "20 MiB"', 4, "repositories.a.upload_limit", "not a rate; write a size", '"20 MiB"'),
    (S3 + 'upload_limit = "0 MiB/s"', 4, "repositories.a.upload_limit", "nothing would ever arrive", '"0 MiB/s"'),
    (
        S3 + 'upload_limit_windows = { "mon-fry 08:00-19:00" = "2 MiB/s" }',
        4, 'repositories.a.upload_limit_windows."mon-fry 08:00-19:00"', "not a day of the week: 'mon-fry'", None,
    ),
    ('[repositories.a]\nurl = "/r"\nregion = "x"\npassword_file = "/p"', 3, "repositories.a.region", "S3 only", None),
    ('[repositories.a]\nurl = "/r"\npassword_file = "a/b"', 3, "repositories.a.password_file", "credential", '"a/b"'),
    (REPOSITORY + '[jobs.a]\nrepositories = ["local"]', 4, "jobs.a.source", "is missing: what is backed up", None),
    (REPOSITORY + JOB + 'full = "sundays"', 7, "jobs.a.full", "not a schedule; write 'every 1h'", '"sundays"'),
    (REPOSITORY + JOB + "keep = {}", 7, "jobs.a.keep", "would keep nothing", None),
    (REPOSITORY + JOB + 'before = "sync"', 7, "jobs.a.before", "must be a list in brackets", '"sync"'),
    (
        REPOSITORY + JOB + 'drill = { schedule = "daily 01:00", repository = "lcal" }',
        7, "jobs.a.drill.repository", "does not write to a repository named 'lcal'; did you mean 'local'", None,
    ),
    (
        REPOSITORY + JOB.replace('["local"]', '["local",\n  "local"]'),
        6, "jobs.a.repositories[2]", "repository 'local' is named twice", None,
    ),
    (REPOSITORY + JOB.replace('["/x"]', "[]"), 6, "jobs.a.source.paths", "must not be empty", "a list"),
    (REPOSITORY + JOB.replace('["/x"]', '["x"]'), 6, "jobs.a.source.paths[1]", "must be an absolute path", '"x"'),
    ("[[checks]]\nname = 'x'", 1, "checks[x].type", "is missing; known are cpu, load", None),
    (DISK + 'warning = "85%"', 4, "checks[disk].warning", "not a threshold; write an operator", '"85%"'),
    (DISK + 'warning = { rais = "> 85%", raise = "> 1%" }', 4, "checks[disk].warning.rais", "mean 'raise'", None),
    (DISK + "warning = {}", 4, "checks[disk].warning.raise", "is missing: where the status begins", None),
    (DISK + 'warning = "> 85"', 4, "checks[disk].warning", "used is a ratio, where 1 is everything; write > 85%", None),
    (DISK + 'warning = "> 5m"', 4, "checks[disk].warning", "used is measured in ratio, not in seconds", '"> 5m"'),
    (DISK + 'warning = { raise = "> 9%", clear = "> 8%" }', 4, "checks[disk].warning.clear", "same side", '"> 8%"'),
    (DISK + 'critical = { reading = "free", raise = "< 1" }', 4, "checks[disk].critical.reading", "_bytes", '"free"'),
    (DISK + 'every = 30', 4, "checks[disk].every", "not a duration", "30"),
    (DISK + 'fr = "5m"', 4, "checks[disk].fr", "did you mean 'for'", None),
    (DISK + 'on_critical = { run = "x", at_most = "1/h" }', 4, "checks[disk].on_critical.at_most", "1 per 1h", '"1/h"'),
    (DISK.replace('"disk"\nt', '"a/b"\nt'), 2, "checks[a/b].name", "1 to 100 characters without a slash", '"a/b"'),
    (DISK + 'depends_on = ["dsk"]', 4, "checks[disk].depends_on[1]", "named 'dsk'; did you mean 'disk'", None),
    (DISK + 'depends_on = ["disk"]', 4, "checks[disk].depends_on[1]", "in a circle: disk -> disk", None),
    (DISK + DISK, 5, "checks[disk].name", r"the name is already taken at .*:2", '"disk"'),
    (HTTP.replace("https", "ftp"), 4, "checks[web].url", "must begin with http:// or https://", None),
    ('[[notify]]\nname = "a"', 1, "notify[a].url", "is missing: any Apprise URL", None),
    ('[[notify]]\nname = "a"\nurl = "json://x"\n' * 2, 5, "notify[a].name", r"already taken at .*:2", '"a"'),
    (f'[[checks]]\nname = "{"n" * 101}"\ntype = "cpu"', 2, f"checks[{'n' * 101}].name", "at most 100 characters", None),
    ('[heartbeat]\nurl = "hc-ping.com"', 2, "heartbeat.url", "must begin with http:// or https://", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "where", "wording", "got"), FAULTS)
def test_a_planted_fault_is_found_on_its_line(
    write: Write, problems: Find, text: str, line: int, where: str, wording: str, got: str | None
) -> None:
    [problem] = problems(write(text))
    assert (problem.line, problem.path) == (line, where)
    assert re.search(wording, problem.problem), problem.problem
    assert got is None or problem.got == got


def test_a_longer_circle_is_told_once_with_its_path(write: Write, problems: Find) -> None:
    links = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": []}
    text = "".join(f'[[checks]]\nname = "{name}"\ntype = "cpu"\ndepends_on = {on}\n' for name, on in links.items())
    [problem] = problems(write(text))
    assert (problem.line, problem.problem) == (4, "checks depend on each other in a circle: a -> b -> c -> a")


def test_a_check_reached_by_two_ways_is_no_circle(write: Write, loaded: Callable[[Path], Settings]) -> None:
    links = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    text = "".join(f'[[checks]]\nname = "{name}"\ntype = "cpu"\ndepends_on = {on}\n' for name, on in links.items())
    assert len(loaded(write(text)).checks) == 4


SECRET = "hunter2hunter2"
LEAKS = [
    f'[repositories.a]\nurl = "/r"\npassword = "{SECRET}"\n',
    f'[repositories.a]\nurl = "/r"\npassword_command = ["{SECRET}"]\n',
    f'[repositories.a]\nurl = "rest:https://u:{SECRET}@host"\npassword_file = "/p"\n',
    f'[[notify]]\nname = "a"\nurl = ["{SECRET}"]\n',
    f'[[notify]]\nname = "a"\nulr = "{SECRET}"\n',
    f'[heartbeat]\nurl = "{SECRET}"\n',
    f'[heartbeat]\nurl = "{SECRET}${{NONE}}"\n',
    HTTP + f'headers = "{SECRET}"\n',
    HTTP + f'headers = {{ A = ["{SECRET}"] }}\n',
    HTTP + f'body = ["{SECRET}"]\n',
    HTTP.replace("https://x", f"ftp://{SECRET}@x"),
    f'heartbeat = "{SECRET}"\nheartbeat = "x"\n',
    f'token = "{SECRET}"\n',
]


@pytest.mark.parametrize("text", LEAKS)
def test_what_may_be_a_secret_is_in_no_problem(write: Write, problems: Find, text: str) -> None:
    assert SECRET not in "\n".join(map(str, problems(write(text))))


def test_every_pattern_of_the_models_is_told_in_words() -> None:
    def patterns(schema: object) -> set[str]:
        if isinstance(schema, dict):
            own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
            return own.union(*map(patterns, schema.values()))
        return set().union(*map(patterns, schema)) if isinstance(schema, list) else set()

    own_types = {r"^\s*(>=|<=|==|!=|>|<).+$", r"^(\d+(\.\d+)?\s*(ms|[smhdwy])\s*)+$"}  # they raise their own words
    assert patterns(Settings.json_schema()) - own_types <= set(FORMS)


KNOWN = sorted({key_of(name, field) for model in models_of(Settings) for name, field in model.model_fields.items()})
PLAUSIBLE = ["local", "a", "> 85%", "every 1h", "daily 02:00", "5m", "/r", "disk", "cpu", "files", "${NONE}", "", "x"]
anything = st.recursive(
    st.one_of(st.sampled_from(PLAUSIBLE), st.integers(-1, 99), st.booleans(), st.floats(), st.datetimes()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN), inner, max_size=4),
    max_leaves=8,
)


def damaged(data: object, draw: st.DrawFn) -> object:
    """Walk down a random way and put anything there: in place of what is, or beside it."""
    if isinstance(data, dict | list) and data and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(list(data) if isinstance(data, dict) else range(len(data))))
        data[key] = damaged(data[key], draw)
        return data
    if isinstance(data, dict) and draw(st.booleans()):
        data[draw(st.sampled_from(KNOWN))] = draw(anything)
        return data
    return draw(anything)


@st.composite
def damaged_configurations(draw: st.DrawFn) -> object:
    data: object = tomllib.loads(sample_with_everything())
    for _ in range(draw(st.integers(1, 4))):
        data = damaged(data, draw)
    return data


@cache
def sample_with_everything() -> str:
    """The sample with every commented example in force, as far as they stand beside each other."""
    text = re.sub(r"^#(?! )", "", sample(MACHINE.state_dir), flags=re.MULTILINE)
    return re.sub(r"# Every check may have:.*?(?=\n\n)", "", text, flags=re.DOTALL)


@given(damaged_configurations())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_whatever_is_written_is_loaded_or_told_with_lines_never_a_crash(tmp_path: Path, data: object) -> None:
    path = tmp_path / "keepwatch.toml"
    text = tomli_w.dumps(data if isinstance(data, dict) else {"checks": data})
    path.write_text(text, encoding="utf-8")
    try:
        load(path, environ={}, machine=MACHINE)
    except ConfigProblems as found:
        for problem in found.problems:
            assert problem.line is not None
            assert 1 <= problem.line <= max(text.count("\n"), 1)
            assert "input" not in problem.problem.lower(), "pydantic's words, not an operator's"
