"""The service unit: systemd itself accepts it, and it stays as closed as it was made."""

import configparser
import subprocess
from pathlib import Path

UNIT = Path(__file__).resolve().parents[2] / "deploy/systemd/keepwatch.service"
EXPOSURE_AT_MOST = 30
"""Tenths of systemd's score, 2.3 with systemd 252; later ones count more. What is open has its reason in the unit."""


def with_a_real_program(directory: Path, text: str) -> Path:
    """A copy of the unit whose programs exist here, since systemd looks for them."""
    unit = directory / "keepwatch.service"
    unit.write_text(text.replace("/opt/keepwatch/.venv/bin/keepwatch", "/bin/true"), encoding="utf-8")
    return unit


def systemd_says(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def security(unit: Path) -> tuple[int, str]:
    return systemd_says("security", "--offline=yes", f"--threshold={EXPOSURE_AT_MOST}", "--no-pager", str(unit))


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = with_a_real_program(tmp_path, UNIT.read_text(encoding="utf-8"))
    code, complaints = systemd_says("verify", "--man=no", str(unit))
    assert (code, [line for line in complaints.splitlines() if "keepwatch" in line]) == (0, [])


def test_systemd_accepts_the_example_of_a_sealed_password(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    assert "\n#LoadCredentialEncrypted=" in text
    unit = with_a_real_program(tmp_path, text.replace("\n#Load", "\nLoad"))
    code, complaints = systemd_says("verify", "--man=no", str(unit))
    assert (code, [line for line in complaints.splitlines() if "keepwatch" in line]) == (0, [])


def test_a_misspelt_directive_is_seen(tmp_path: Path) -> None:
    unit = with_a_real_program(tmp_path, UNIT.read_text(encoding="utf-8").replace("ProtectHome=", "ProtectHomes="))
    assert "ProtectHomes" in systemd_says("verify", "--man=no", str(unit))[1]


def test_the_unit_stays_closed(tmp_path: Path) -> None:
    code, report = security(with_a_real_program(tmp_path, UNIT.read_text(encoding="utf-8")))
    assert code == 0, report


def test_a_unit_that_was_opened_is_seen(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8")
    for line in ("User=keepwatch\n", "CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n"):
        text = text.replace(line, "")
    assert security(with_a_real_program(tmp_path, text))[0] != 0


def test_it_may_read_every_file_and_nothing_else_that_root_may() -> None:
    service = directives()
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == "CAP_DAC_READ_SEARCH"
    assert service["PrivateUsers"] == "no", "in its own user namespace the capability would not reach the host's files"


def test_the_daemon_and_the_unit_agree_on_how_they_talk() -> None:
    service = directives()
    assert (service["Type"], service["ExecReload"]) == ("notify", "kill -HUP $MAINPID")
    assert int(service["WatchdogSec"]) > 0
    assert service["KillMode"] == "mixed", "the daemon ends its jobs itself"


def test_each_directive_of_the_sandbox_has_its_reason() -> None:
    """A comment stands above each directive, or above the unbroken block it belongs to."""
    explained, unexplained = False, []
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section, explained = line, False
        elif not line:
            explained = False
        elif line.startswith("#"):
            explained = True
        elif section == "[Service]" and not explained:
            unexplained.append(line)
    assert unexplained == []


def directives() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT, encoding="utf-8")
    return dict(parser["Service"])


def test_the_clock_may_be_asked_and_not_set() -> None:
    """adjtimex(2) is among the privileged calls; without CAP_SYS_TIME it can only read."""
    lines = [line for line in UNIT.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    filters = [line for line in lines if line.startswith("SystemCallFilter=")]
    assert filters.index("SystemCallFilter=adjtimex clock_adjtime") > filters.index("SystemCallFilter=~@privileged")
    assert "ProtectClock=no" in lines
    assert "CapabilityBoundingSet=CAP_DAC_READ_SEARCH" in lines
