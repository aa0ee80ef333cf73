"""SMART and NVMe by smartctl: healthy, failing, known and accepted, asleep, forbidden, malformed, absent."""

import math
from typing import Any

import pytest

from config.selection import Selection
from monitor.probes.smart import SmartProbe
from monitor.result import NoData, ProbeError


def probe(tools: Any, **about: Any) -> SmartProbe:
    return SmartProbe(10, path=tools.path, **about)


def disks(tools: Any, sda: str, nvme: str = "smartctl-nvme0-healthy.json", status: int = 0) -> None:
    tools.add("smartctl", ("--scan", "smartctl-scan.json"), ("-a /dev/sda", sda, status), ("-d nvme /dev/nvme0", nvme))


def test_healthy_disks_have_no_defects(tools: Any, values: Any) -> None:
    disks(tools, "smartctl-sda-healthy.json")
    assert values(probe(tools).measure()) == {
        "/dev/sda/new_defects": 0, "/dev/sda/passed": 1, "/dev/sda/temperature": 34, "/dev/sda/powered_on": 39_420_000,
        "/dev/sda/reallocated": 0, "/dev/sda/pending": 0, "/dev/sda/uncorrectable": 0, "/dev/sda/crc_errors": 0,
        "/dev/sda/self_test_passed": 1,
        "/dev/nvme0/new_defects": 0, "/dev/nvme0/passed": 1, "/dev/nvme0/temperature": 41,
        "/dev/nvme0/powered_on": 29_242_800, "/dev/nvme0/wear": 0.03, "/dev/nvme0/spare": 1,
        "/dev/nvme0/media_errors": 0, "/dev/nvme0/self_test_passed": 1,
    }  # fmt: skip


def test_failing_disks_are_told_whatever_exit_status_smartctl_gives(tools: Any, values: Any) -> None:
    disks(tools, "smartctl-sda-failing.json", "smartctl-nvme0-failing.json", status=216)
    found = values(probe(tools).measure())
    assert (found["/dev/sda/new_defects"], found["/dev/sda/passed"], found["/dev/sda/pending"]) == (2072, 0, 72)
    assert (found["/dev/sda/self_test_passed"], found["/dev/sda/crc_errors"]) == (0, 3)
    assert (found["/dev/nvme0/passed"], found["/dev/nvme0/wear"], found["/dev/nvme0/spare"]) == (0, 1.04, 0.06)
    assert (found["/dev/nvme0/new_defects"], found["/dev/nvme0/self_test_passed"]) == (31, 0)


@pytest.mark.parametrize("disk", ["ZW60A1B2", "/dev/sda"])
def test_defects_that_are_accepted_as_known_are_not_new_and_one_more_is(tools: Any, values: Any, disk: str) -> None:
    disks(tools, "smartctl-sda-known.json")
    accepted = probe(tools, accept={disk: {"reallocated": 8}})
    assert values(accepted.measure())["/dev/sda/new_defects"] == 0
    assert values(accepted.measure())["/dev/sda/reallocated"] == 8
    assert values(probe(tools, accept={disk: {"reallocated": 7}}).measure())["/dev/sda/new_defects"] == 1
    assert values(probe(tools).measure())["/dev/sda/new_defects"] == 8


def test_a_sleeping_disk_is_left_to_sleep_and_keeps_what_it_said(tools: Any, values: Any) -> None:
    disks(tools, "smartctl-sda-failing.json")
    asked = probe(tools)
    awake = values(asked.measure())
    disks(tools, "smartctl-standby.json", status=2)
    assert values(asked.measure()) == awake
    script = (tools.folder / "smartctl").read_text()
    assert "-n standby" not in script  # the patterns do not ask for it, so that this proves the probe does:
    tools.add("smartctl", ("--scan", "smartctl-scan.json"), ("-n standby -a", "smartctl-standby.json", 2))
    assert values(asked.measure()) == awake


def test_disks_that_have_slept_since_the_start_have_no_data(tools: Any) -> None:
    tools.add("smartctl", ("--scan", "smartctl-scan.json"), ("-n standby", "smartctl-standby.json", 2))
    with pytest.raises(NoData, match="sleep"):
        probe(tools).measure()


def test_an_ssd_is_worn_by_what_its_counter_lost(tools: Any, values: Any) -> None:
    disks(tools, "smartctl-ssd-worn.json")
    assert values(probe(tools).measure())["/dev/sda/wear"] == pytest.approx(0.88)


def test_disks_behind_a_raid_controller_are_told_apart(tools: Any, values: Any) -> None:
    tools.add("smartctl", ("--scan", "smartctl-scan-raid-controller.json"), ("megaraid", "smartctl-sas.json"))
    found = values(probe(tools).measure())
    assert found["/dev/bus/0 megaraid,8/reallocated"] == 4
    assert found["/dev/bus/0 megaraid,9/uncorrectable"] == 2


def test_only_the_disks_that_are_meant_are_asked_and_a_named_one_that_is_gone_is_missing(tools: Any) -> None:
    tools.add("smartctl", ("--scan", "smartctl-scan.json"), ("/dev/nvme0", "smartctl-nvme0-healthy.json"))
    asked = probe(tools, selection=Selection(["/dev/nvme*", "/dev/sdz"]))
    measured = asked.measure()
    assert {reading.entity for reading in measured.readings} == {"/dev/nvme0"}
    assert measured.missing == ["/dev/sdz"]


def test_one_disk_that_may_not_be_asked_is_unknown_and_the_others_are_told(tools: Any, values: Any) -> None:
    disks(tools, "smartctl-denied.json", status=2)
    measured = probe(tools).measure()
    assert math.isnan(values(measured)["/dev/sda/new_defects"])
    assert "Permission denied" in measured.notes["/dev/sda"]
    assert values(measured)["/dev/nvme0/passed"] == 1


def test_without_rights_the_error_says_what_to_do(tools: Any) -> None:
    tools.add("smartctl", ("--scan", "smartctl-scan.json"), ("-a", "smartctl-denied.json", 2))
    with pytest.raises(ProbeError, match="Permission denied") as failed:
        probe(tools).measure()
    assert "root" in failed.value.hint


@pytest.mark.parametrize("text", ["", "smartctl 6.6: unrecognized option\n", "[]", '{"ata_smart_attributes": 7}', "{}"])
def test_an_answer_that_is_no_report_is_an_error_with_a_hint_or_a_reason(tools: Any, text: str) -> None:
    tools.add("smartctl", ("--scan", "smartctl-scan.json"), ("-a", text or "\n"))
    with pytest.raises(ProbeError, match=r"smartctl|tells nothing"):
        probe(tools).measure()


def test_a_machine_without_smartctl_or_without_disks_has_no_data(tools: Any) -> None:
    with pytest.raises(NoData, match="not installed"):
        probe(tools).measure()
    tools.add("smartctl", ("--scan", '{"devices": []}'))
    with pytest.raises(NoData, match="no disk"):
        probe(tools).measure()
