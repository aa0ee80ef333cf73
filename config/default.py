"""The embedded default: what `keepwatch run` does on a machine where nobody has configured anything.

It is TOML text, so that it loads by the same way as an operator's file and `keepwatch config show` can print it.
It promises nothing that the machine may not have: probes without hardware report `absent`.
"""

from pathlib import Path

from config.writing import inline

REPOSITORY = "repository"
PASSWORD_FILE = "repository.password"  # noqa: S105 - a file's name
SCRATCH = "scratch"
LOCKS = "locks"
"""Names below the state directory."""

_TEXT = """\
# The embedded default. It watches this machine, backs up its configuration and keepwatch's own state
# into a local repository, and drills the restore every day.

[repositories.local]
url = @repository@
password_file = @password_file@
verify = "daily 03:30"
read_all_within = "30d"
prune = "sunday 05:30"

[jobs.system]
# Live databases are left out: consistent copies of them lie in `copies`.
source = { type = "files", paths = ["/etc", @state_dir@], exclude = @exclude@, skip_unreadable = true }
repositories = ["local"]
incremental = "every 1h"
full = "sunday 02:00"
keep = { last = 3, hourly = 24, daily = 14, weekly = 8, monthly = 12, yearly = 3 }
rpo = "2h"
rto = "10m"
drill = { schedule = "daily 04:30", level = "restore" }

[[checks]]
name = "cpu"
type = "cpu"
every = "10s"
warning = { raise = "> 90%", clear = "< 75%" }
for = "15m"
runbook = "cpu"

[[checks]]
name = "load"
type = "load"
every = "10s"
warning = "> 2"
critical = "> 8"
for = "15m"
runbook = "load"

[[checks]]
name = "memory"
type = "memory"
every = "10s"
warning = { raise = "> 90%", clear = "< 80%" }
critical = { raise = "> 97%", clear = "< 90%" }
for = "15m"
runbook = "memory"

[[checks]]
name = "swap"
type = "swap"
every = "10s"
warning = { raise = "> 80%", clear = "< 70%" }
for = "15m"
runbook = "swap"

[[checks]]
name = "root disk"
type = "disk"
path = "/"
every = "10s"
warning = [{ raise = "> 90%", clear = "< 80%" }, { reading = "inodes_used", raise = "> 90%", clear = "< 80%" }]
critical = [{ raise = "> 97%", clear = "< 95%" }, { reading = "inodes_used", raise = "> 97%", clear = "< 95%" }]
for = "5m"
forecast = [
    { reaches = "100%", warning = { within = "24h", when = "> 60%" }, critical = { within = "4h", when = "> 80%" } },
    { reading = "inodes_used", reaches = "100%", warning = { within = "24h", when = "> 60%" } },
]
runbook = "disk-full"

[[checks]]
name = "disk io"
type = "disk_io"
every = "10s"
warning = ["> 95%", { reading = "queue", raise = "> 10" }]
for = "30m"
runbook = "disk-io"

[[checks]]
name = "network"
type = "network"
every = "10s"
warning = "> 1%"
for = "1h"
runbook = "network"

[[checks]]
name = "temperature"
type = "temperature"
every = "10s"
warning = { reading = "share_of_critical", raise = "> 90%" }
critical = { reading = "share_of_critical", raise = ">= 100%", clear = "< 95%" }
for = "1m"
runbook = "temperature"

[[checks]]
name = "fans"
type = "fans"
every = "10s"
runbook = "fans"

[[checks]]
name = "uptime"
type = "uptime"
every = "10s"
warning = { raise = "< 10m", clear = "> 10m" }
runbook = "restarted"

[[checks]]
name = "processes"
type = "processes"
every = "10s"
warning = { reading = "zombies", raise = "> 50", clear = "< 20" }
for = "15m"
runbook = "processes"

[[checks]]
name = "file descriptors"
type = "file_descriptors"
every = "10s"
warning = "> 70%"
critical = "> 90%"
for = "5m"
runbook = "file-descriptors"

[[checks]]
name = "file systems"
type = "file_systems"
exclude = ["/"]
runbook = "file-systems"

[[checks]]
name = "pressure"
type = "pressure"
runbook = "pressure"

[[checks]]
name = "oom kills"
type = "oom_kills"
runbook = "oom-kill"

[[checks]]
name = "conntrack"
type = "conntrack"
runbook = "conntrack"

[[checks]]
name = "clock"
type = "clock"
# The kernel of a container or a virtual machine may not know who keeps its clock.
warning = "> 50ms"
critical = "> 1s"
runbook = "clock"

[[checks]]
name = "stuck processes"
type = "stuck_processes"
every = "1m"
warning = "> 0"
runbook = "stuck-processes"

[[checks]]
name = "md raid"
type = "md_raid"
runbook = "md-raid"

[[checks]]
name = "zfs"
type = "zfs"
runbook = "zfs"

[[checks]]
name = "btrfs"
type = "btrfs"
runbook = "btrfs"

[[checks]]
name = "memory errors"
type = "memory_errors"
runbook = "memory-errors"

[[checks]]
name = "machine checks"
type = "machine_checks"
runbook = "machine-checks"

[[checks]]
name = "links"
type = "link"
exclude = ["wl*"]
runbook = "link"

[[checks]]
name = "bonds"
type = "bond"
runbook = "bond"

[[checks]]
name = "units"
type = "systemd"
for = "5m"
runbook = "unit-failed"

[[checks]]
name = "timers"
type = "timers"
runbook = "timer-overdue"
"""


def text(state_dir: Path) -> str:
    """Return the default as TOML text for a state directory."""
    anchored = _as_pattern(state_dir)
    files = ("*.lock", "*.db", "*.db-wal", "*.db-shm", "*.reserve")
    left_out = (f"{REPOSITORY}/", f"{SCRATCH}/", f"{LOCKS}/", PASSWORD_FILE, *files)
    values = {
        "@repository@": str(state_dir / REPOSITORY),
        "@password_file@": str(state_dir / PASSWORD_FILE),
        "@state_dir@": str(state_dir),
        "@exclude@": [f"{anchored}/{name}" for name in left_out],
    }
    filled = _TEXT
    for mark, value in values.items():
        filled = filled.replace(mark, inline(value))
    return filled


def _as_pattern(path: Path) -> str:
    r"""Escape what gitignore patterns would read as wildcards (gitignore(5): ``* ? [ \``)."""
    return "".join(f"\\{letter}" if letter in "*?[\\" else letter for letter in str(path))
