"""Software RAID, ZFS, btrfs and LVM: well, ill, absent, and what is not as expected."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.selection import Selection
from monitor.memory import Memories
from monitor.probes.btrfs import BtrfsProbe
from monitor.probes.lvm import LvmProbe
from monitor.probes.md_raid import MdRaidProbe
from monitor.probes.zfs import ZfsProbe
from monitor.result import NoData, ProbeError

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def md(tree: Any, mdstat: str, **files: str) -> MdRaidProbe:
    root = tree({"mdstat": mdstat, "block/md1/md/mismatch_cnt": "0\n", "block/md7/md/raid_disks": "2\n"} | files)
    return MdRaidProbe("md", lambda: START, Memories(), proc=root, sys_block=root / "block")


def test_arrays_in_order_miss_nothing(tree: Any, captured: Any, values: Any) -> None:
    found = values(md(tree, captured("mdstat-healthy")).measure())
    assert found == {
        "md1/missing": 0, "md1/failed": 0, "md1/spare": 0, "md1/mismatches": 0, "md1/degraded": 0,
        "md0/missing": 0, "md0/failed": 0, "md0/spare": 1, "md0/degraded": 0,
        "md9/missing": 0, "md9/failed": 0, "md9/spare": 0, "md9/degraded": 0,
    }  # fmt: skip


def test_a_failed_disk_a_rebuild_and_an_array_that_did_not_start_raise_the_alarm(
    tree: Any, captured: Any, values: Any
) -> None:
    found = values(md(tree, captured("mdstat-failing")).measure())
    assert (found["md1/missing"], found["md1/failed"]) == (1, 1)
    assert (found["md0/missing"], found["md0/failed"], found["md0/rebuilt"]) == (1, 0, pytest.approx(0.126))
    assert (found["md7/missing"], found["md7/spare"]) == (1, 0)


def test_how_long_an_array_has_lacked_disks_outlives_the_daemon_and_ends_with_the_repair(
    tree: Any, captured: Any, values: Any, tmp_path: Path
) -> None:
    def degraded(state: str, after_minutes: int) -> float:
        root = tree({"mdstat": captured(f"mdstat-{state}")})
        clock = lambda: START + timedelta(minutes=after_minutes)  # noqa: E731
        probe = MdRaidProbe("md", clock, Memories(tmp_path / "memories"), proc=root, sys_block=root)
        return float(values(probe.measure())["md1/degraded"])

    assert [degraded("failing", minutes) for minutes in (0, 10, 20)] == [0, 600, 1200]
    assert [degraded("failing", minutes) for minutes in (-30, -20)] == [0, 600], "a clock that was set back"
    assert (degraded("healthy", 30), degraded("failing", 40)) == (0, 0)


def test_a_machine_without_arrays_has_no_data(tree: Any, tmp_path: Path) -> None:
    with pytest.raises(NoData):
        MdRaidProbe("md", lambda: START, Memories(), proc=tmp_path / "none").measure()
    with pytest.raises(NoData):
        md(tree, "Personalities : \nunused devices: <none>\n").measure()


def test_something_else_than_mdstat_is_an_error(tree: Any) -> None:
    with pytest.raises(ProbeError, match="mdstat"):
        md(tree, "\x00\x00 garbage").measure()


def test_a_named_array_that_is_gone_is_missing(tree: Any, captured: Any) -> None:
    root = tree({"mdstat": captured("mdstat-healthy")})
    measured = MdRaidProbe("md", lambda: START, Memories(), Selection(["md0", "md5"]), root, root).measure()
    assert ({reading.entity for reading in measured.readings}, measured.missing) == ({"md0"}, ["md5"])


def zfs(tools: Any, state: str) -> ZfsProbe:
    tools.add("zpool", ("list -Hp", f"zpool-list-{state}"), ("status -p", f"zpool-status-{state}"))
    return ZfsProbe(10, path=tools.path)


def test_pools_in_order_are_healthy(tools: Any, values: Any) -> None:
    measured = zfs(tools, "healthy").measure()
    found = values(measured)
    assert {name: value for name, value in found.items() if name.startswith("tank/")} == {
        "tank/unhealthy": 0, "tank/used": 0.41, "tank/fragmentation": 0.12, "tank/faulted": 0, "tank/errors": 0,
    }  # fmt: skip
    assert measured.notes == {}


def test_a_degraded_and_a_suspended_pool_raise_the_alarm_and_name_the_device(tools: Any, values: Any) -> None:
    measured = zfs(tools, "failing").measure()
    found = values(measured)
    assert (found["tank/unhealthy"], found["tank/faulted"], found["tank/errors"]) == (1, 1, 4)
    assert (found["backup/unhealthy"], found["backup/faulted"], found["backup/errors"]) == (2, 1, 322)
    assert "backup/used" not in found
    assert measured.notes["tank"] == "15838432834757 UNAVAIL  was /dev/sdb1"


def test_without_zfs_there_is_no_data_and_nonsense_is_an_error(tools: Any) -> None:
    with pytest.raises(NoData, match="zpool is not installed"):
        ZfsProbe(10, path=tools.path).measure()
    tools.add("zpool", ("list", "\n"))
    with pytest.raises(NoData, match="no ZFS pool"):
        ZfsProbe(10, path=tools.path).measure()
    tools.add("zpool", ("list", "what\n"))
    with pytest.raises(ProbeError, match="columns"):
        ZfsProbe(10, path=tools.path).measure()
    tools.add("zpool", ("list", "The ZFS modules are not loaded.\nTry running modprobe zfs as root.\n", 1))
    with pytest.raises(NoData, match="modules are not loaded"):
        ZfsProbe(10, path=tools.path).measure()
    tools.add("zpool", ("list", "cannot open tank: I/O error\n", 1))
    with pytest.raises(ProbeError, match="I/O error"):
        ZfsProbe(10, path=tools.path).measure()


STATS = "write_errs {}\nread_errs 0\nflush_errs 0\ncorruption_errs {}\ngeneration_errs 0\n"


def btrfs(tree: Any, **files: str) -> BtrfsProbe:
    system = "6cb06f6c-5fb0-4c27-8c3d-5f8f1a54e8f5"
    given = {
        f"{system}/label": "data\n",
        f"{system}/devinfo/1/error_stats": STATS.format(0, 0),
        f"{system}/devinfo/1/missing": "0\n",
        f"{system}/devinfo/2/error_stats": STATS.format(0, 0),
        f"{system}/devinfo/2/missing": "0\n",
        "features/raid56": "0\n",
    }
    return BtrfsProbe(folder=tree(given | {f"{system}/devinfo/{name}": text for name, text in files.items()}))


def test_devices_of_btrfs_without_errors(tree: Any, values: Any) -> None:
    found = values(btrfs(tree).measure())
    assert set(found.values()) == {0}
    assert {name.partition("/")[0] for name in found} == {"data 1", "data 2"}


def test_errors_of_btrfs_and_a_missing_device_raise_the_alarm(tree: Any, values: Any) -> None:
    files = {"1/error_stats": STATS.format(3, 14), "2/missing": "1\n", "2/error_stats": "invalid\n"}
    measured = btrfs(tree, **files).measure()
    found = values(measured)
    assert (found["data 1/errors"], found["data 1/corruptions"], found["data 2/missing"]) == (17, 14, 1)
    assert measured.notes == {"data 1": "3 write, 14 corruption"}


def test_a_machine_without_btrfs_has_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        BtrfsProbe(folder=tmp_path / "none").measure()


def lvm(tools: Any, groups: str, volumes: str) -> LvmProbe:
    tools.add("vgs", ("--reportformat json", groups))
    tools.add("lvs", ("--reportformat json", volumes))
    return LvmProbe(10, path=tools.path)


def test_lvm_in_order(tools: Any, values: Any) -> None:
    assert values(lvm(tools, "vgs-healthy.json", "lvs-healthy.json").measure()) == {
        "data/unhealthy": 0, "data/free_bytes": 50 * 2**30,
        "data/pool/unhealthy": 0, "data/pool/used": pytest.approx(0.412),
        "data/pool/metadata_used": pytest.approx(0.1205),
        "data/mirror/unhealthy": 0, "data/mirror/synchronized": 1,
    }  # fmt: skip


def test_a_full_thin_pool_a_broken_mirror_and_a_lost_disk_raise_the_alarm(tools: Any, values: Any) -> None:
    measured = lvm(tools, "vgs-missing.json", "lvs-failing.json").measure()
    found = values(measured)
    assert (found["data/unhealthy"], found["data/pool/used"], found["data/pool/metadata_used"]) == (1, 0.975, 0.91)
    assert (found["data/mirror/unhealthy"], found["data/mirror/synchronized"]) == (1, pytest.approx(0.631))
    assert measured.notes["data/mirror"] == "partial"


def test_without_lvm_there_is_no_data_and_nonsense_is_an_error(tools: Any) -> None:
    with pytest.raises(NoData, match="vgs is not installed"):
        LvmProbe(10, path=tools.path).measure()
    with pytest.raises(NoData, match="no volume group"):
        lvm(tools, '{"report": [{"vg": []}]}', '{"report": [{"lv": []}]}').measure()
    for nonsense in ("no JSON", '{"report": 7}', '{"report": [{"vg": [{"vg_name": "a"}]}]}'):
        with pytest.raises(ProbeError):
            lvm(tools, nonsense, '{"report": []}').measure()
    tools.add("vgs", ("", "WARNING: Running as a non-root user.\n", 5))
    with pytest.raises(ProbeError) as failed:
        LvmProbe(10, path=tools.path).measure()
    assert "root" in failed.value.hint
