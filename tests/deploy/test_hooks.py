"""The snapshot hooks: btrfs against a real file system where this machine lets us, all three against stand-ins that
record what they are asked and in which order.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.loading import load

HOOKS = Path(__file__).resolve().parents[2] / "deploy" / "hooks"
KINDS = ("btrfs", "zfs", "lvm")
TOOLS = ("findmnt", "mountpoint", "mount", "umount", "zfs", "lvs", "lvcreate", "lvremove", "btrfs", "stat")
REAL = os.geteuid() == 0 and "\tbtrfs\n" in Path("/proc/filesystems").read_text() and Path("/dev/loop-control").exists()
"""Whether a btrfs can be made and mounted here: a kernel that has it, loop devices, and the right to mount."""


class Machine:
    """A folder that lies on a file system of each kind, as far as the stand-ins tell."""

    def __init__(self, root: Path, kind: str) -> None:
        self.kind, self.folder, self.file = kind, root / "srv" / "invoices", root / "books.json"
        self.folder.mkdir(parents=True)
        self.places = root / "places"
        self.place = self.places / str(self.folder)[1:].replace("/", "-")
        self.bin = root / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            script = self.bin / tool
            stand_in = Path(__file__).with_name("snapshot_tools.py")
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {stand_in} {tool} "$@"\n')
            script.chmod(0o755)
        source, fstype = {
            "btrfs": ("/dev/sda", "btrfs"), "zfs": ("tank/invoices", "zfs"), "lvm": ("/dev/mapper/vg-data", "xfs")
        }[kind]  # fmt: skip
        self.books: dict[str, Any] = {
            "acts": [],
            "mounts": [{"SOURCE": source, "TARGET": str(self.folder), "FSTYPE": fstype}],
            "snapshots": {},
            "volumes": {"vg/data": {"lv_name": "data", "lv_full_name": "vg/data"}},
            "devices": {"vg-data": "vg/data"},
            "subvolumes": {str(self.folder): {"UUID": "u", "Parent UUID": "-", "Flags": "-"}},
        }

    def __call__(self, act: str, path: object = None) -> tuple[int, str]:
        """Run the hook; give its status and what it complained of."""
        self.file.write_text(json.dumps(self.books | {"acts": []}))
        variables = {
            "PATH": f"{self.bin}:{os.environ['PATH']}", "STAND_IN": str(self.file),
            "KEEPWATCH_SNAPSHOTS": str(self.places),
        }  # fmt: skip
        done = subprocess.run(
            [HOOKS / f"{self.kind}-snapshot", act, str(path or self.folder)], env=variables, capture_output=True,
            text=True, timeout=30, check=False,
        )  # fmt: skip
        self.books = json.loads(self.file.read_text())
        return done.returncode, done.stderr

    @property
    def acts(self) -> list[str]:
        """What the last run of the hook did, in order."""
        return [act.replace(str(self.place), "PLACE").replace(str(self.folder), "PATH") for act in self.books["acts"]]


@pytest.fixture(params=KINDS)
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    return Machine(tmp_path, request.param)


CREATES = {
    "btrfs": [
        "btrfs subvolume snapshot -r PATH PATH/.keepwatch-snapshot",
        "mount --bind PATH/.keepwatch-snapshot PLACE",
        "mount -o remount,bind,ro,nosuid,nodev PLACE",
    ],
    "zfs": [
        "zfs snapshot -o keepwatch:made=yes tank/invoices@keepwatch",
        "mount -t zfs -o ro,nosuid,nodev tank/invoices@keepwatch PLACE",
    ],
    "lvm": [
        "lvcreate --quiet --snapshot --extents 10%ORIGIN --addtag keepwatch --name data-keepwatch vg/data",
        "mount -t xfs -o ro,nosuid,nodev,nouuid /dev/vg/data-keepwatch PLACE",
    ],
}
REMOVES = {
    "btrfs": ["umount PLACE", "btrfs subvolume delete PATH/.keepwatch-snapshot"],
    "zfs": ["umount PLACE", "zfs destroy tank/invoices@keepwatch"],
    "lvm": ["umount PLACE", "lvremove --yes --quiet vg/data-keepwatch"],
}


def test_a_snapshot_is_made_before_it_is_mounted_and_unmounted_before_it_goes(machine: Machine) -> None:
    assert machine("create") == (0, "")
    assert machine.acts == CREATES[machine.kind]
    assert machine.place.is_dir()
    assert machine("remove") == (0, "")
    assert machine.acts == REMOVES[machine.kind]
    assert not machine.place.exists()
    assert machine("remove") == (0, ""), "nothing is there any more, and that is fine"
    assert machine.acts == []


def test_what_a_crash_left_behind_is_removed_first(machine: Machine) -> None:
    machine("create")
    assert machine("create") == (0, "")
    assert machine.acts == REMOVES[machine.kind] + CREATES[machine.kind]
    machine.books["mounts"].pop()  # the machine was started again: the snapshot is there, the mount is not
    assert machine("create") == (0, "")
    assert machine.acts == REMOVES[machine.kind][1:] + CREATES[machine.kind]


def test_a_mount_that_fails_is_told_and_cleaned_up_by_after(machine: Machine) -> None:
    machine.books["mount fails"] = True
    assert machine("create")[0] != 0
    assert machine("remove") == (0, "")
    assert machine.acts == REMOVES[machine.kind][1:]


def test_a_snapshot_that_is_read_is_not_torn_away(machine: Machine) -> None:
    machine("create")
    machine.books["busy"] = True
    code, complaint = machine("create")
    assert (code, "is another run reading it?" in complaint) == (1, True)
    assert [act.split()[0] for act in machine.acts] == ["umount"]


def test_what_they_did_not_make_is_left_alone(machine: Machine) -> None:
    hidden = machine.folder / ".keepwatch-snapshot"
    machine.books["snapshots"]["tank/invoices@keepwatch"] = "-"
    machine.books["volumes"]["vg/data-keepwatch"] = {"lv_name": "data-keepwatch", "lv_tags": "mine", "origin": "data"}
    hidden.mkdir()
    for act in ("create", "remove"):
        code, complaint = machine(act)
        assert (code, "refused to" in complaint, machine.acts) == (1, True, [])
    machine.books["volumes"]["vg/data-keepwatch"] |= {"lv_tags": "keepwatch", "origin": "other"}
    machine.books["subvolumes"][str(hidden)] = {"UUID": "x", "Parent UUID": "other", "Flags": "readonly"}
    assert machine("remove")[0] == 1
    machine.books["subvolumes"][str(hidden)] = {"UUID": "x", "Parent UUID": "u", "Flags": "-"}
    assert machine("remove")[0] == 1
    assert machine.acts == []


def test_a_foreign_mount_is_left_alone(machine: Machine) -> None:
    machine.place.mkdir(parents=True)
    machine.books["mounts"].append({"SOURCE": "/dev/sdb1", "TARGET": str(machine.place), "FSTYPE": "ext4"})
    for act in ("create", "remove"):
        code, complaint = machine(act)
        assert (code, "refused to unmount" in complaint, machine.acts) == (1, True, [])


def test_a_folder_that_holds_something_is_left_alone(machine: Machine) -> None:
    machine.place.mkdir(parents=True)
    (machine.place / "precious").touch()
    assert machine("create")[0] == 1
    assert (machine.place / "precious").exists()


def test_wrong_use_is_refused_before_anything_is_done(machine: Machine) -> None:
    for act, path in (("destroy", machine.folder), ("create", "srv"), ("create", "/no/such"), ("create", machine.bin)):
        code, complaint = machine(act, path)
        assert (code, complaint != "", machine.acts) == (1, True, [])


def test_a_thin_volume_needs_no_room_of_its_own(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "lvm")
    machine.books["volumes"]["vg/data"]["pool_lv"] = "pool"
    assert machine("create")[0] == 0
    assert machine.acts[0] == (
        "lvcreate --quiet --snapshot --setactivationskip n --addtag keepwatch --name data-keepwatch vg/data"
    )


def test_the_example_of_a_job_is_good(tmp_path: Path) -> None:
    page = (HOOKS / "README.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "keepwatch.toml"
    file.write_text(
        example + '[repositories.local]\nurl = "/srv/keepwatch/repository"\npassword_file = "/etc/keepwatch/password"\n'
    )
    job = load(file, environ={}).jobs["invoices"]
    assert [Path(command.split()[0]).name for command in (*job.before, *job.after)] == ["btrfs-snapshot"] * 2
    assert str(job.source.paths[0]) == "/run/keepwatch-snapshots/srv-invoices"


SCENE = """
set -eu
export KEEPWATCH_SNAPSHOTS="{root}/places"
hook() {{ "{hooks}/btrfs-snapshot" "$1" "{root}/disk/invoices"; }}
saved() {{ "{python}" -m keepwatch backup --json --quiet --config "{root}/keepwatch.toml" >"{root}/$1.json"; }}
truncate -s 256M "{root}/image"
mkfs.btrfs -q "{root}/image" >/dev/null 2>&1
mkdir "{root}/disk"
mount -o loop "{root}/image" "{root}/disk"
btrfs subvolume create "{root}/disk/invoices" >/dev/null
cd "{root}/disk/invoices"
mkdir 2026
for n in 1 2 3; do echo "invoice $n" >"2026/$n"; done
saved first
btrfs subvolume snapshot -r . ../other >/dev/null
ls ../other >/dev/null
saved second
[ ! -e .keepwatch-snapshot ]
[ ! -e "{root}"/places/* ]
hook create
btrfs subvolume create "{root}/disk/in-between" >/dev/null
hook create
echo changed >2026/1
cat "{root}"/places/*/2026/1
! touch "{root}"/places/*/2026/1 2>/dev/null
hook remove
hook remove
mkdir .keepwatch-snapshot
! hook create 2>"{root}/refused"
[ -d .keepwatch-snapshot ]
rmdir .keepwatch-snapshot
btrfs subvolume create .keepwatch-snapshot >/dev/null
! hook remove 2>>"{root}/refused"
[ -d .keepwatch-snapshot ]
"""
SETTINGS = """
[daemon]
state_dir = "{root}/state"
[repositories.local]
url = "{root}/repository"
password_file = "{root}/password"
[jobs.invoices]
source = {{ type = "files", paths = ["{place}"] }}
repositories = ["local"]
incremental = "every 1h"
before = [
  "{hooks}/btrfs-snapshot create {root}/disk/invoices",
  "echo later >{root}/disk/invoices/2026/3; stat -c %d {place} >>{root}/devices",
]
after = ["{hooks}/btrfs-snapshot remove {root}/disk/invoices"]
"""


@pytest.mark.skipif(not REAL, reason="needs root, loop devices and a kernel with btrfs")
def test_a_real_btrfs_is_saved_as_of_one_moment(tmp_path: Path) -> None:
    root = tmp_path / "b"
    root.mkdir()
    place = root / "places" / f"{root}/disk/invoices"[1:].replace("/", "-")
    (root / "keepwatch.toml").write_text(SETTINGS.format(root=root, place=place, hooks=HOOKS))
    (root / "password").write_text("secret\n")
    (root / "password").chmod(0o600)
    scene = SCENE.format(root=root, hooks=HOOKS, python=sys.executable)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", scene], capture_output=True, text=True,
        timeout=90, check=False, cwd=HOOKS.parents[1], env=os.environ | {"PYTHONPATH": str(HOOKS.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "invoice 1\n", "the snapshot's, not the changed one"
    refused = (root / "refused").read_text()
    assert "it is no subvolume" in refused
    assert "it is not read-only" in refused
    first, second = (json.loads((root / f"{name}.json").read_text())[0]["ending"] for name in ("first", "second"))
    assert (first["outcome"], second["outcome"]) == ("succeeded", "succeeded")
    assert first["figures"]["bytes_processed"] == 30, "what the second hook wrote came after the snapshot"
    assert second["figures"]["files_new"] == 0
    assert len(set((root / "devices").read_text().split())) == 2, "each snapshot is a device of its own"
    assert (second["figures"]["files_unmodified"], second["figures"]["files_changed"]) == (2, 1)
    assert second["figures"]["bytes_processed"] == 26
