"""What a newcomer's machine may lack: the scripts behind `make install` and `make test` say so, or mend it as root.

Only the edges are invented: `apt-get`, `id` and a Python that lacks something, on a PATH of their own.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests/install_tools.sh"
TOOLS = re.findall(r"^([a-z0-9-]+):[a-z0-9-]+:", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
MISSING = {
    "prometheus": "promtool", "chromium": "chromium", "btrfs-progs": "btrfs", "mariadb-server": "mariadbd",
    "openssh-server": "sshd", "nut-server": "dummy-ups",
}  # fmt: skip
APT = 'echo "$@" >> "{log}"; touch "{marker}"'
LACKS_ENSUREPIP = """case "$*" in
  "-m venv"*) echo "$@" >> "{log}" ;;
  *"import ensurepip"*) [ -e "{marker}" ] ;;
  *) echo 3.12 ;;
esac"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH with nothing but what every Debian has."""
    for name in ("sh", "chmod", "rm", "cat", "touch", "make", "sed", "expand"):
        program = shutil.which(name)
        assert program
        (tmp_path / name).symlink_to(program)
    return tmp_path


def program(machine: Path, name: str, script: str = "") -> Path:
    path = machine / name
    path.write_text("#!/bin/sh\n" + script.format(log=machine / "log", marker=machine / "marker"), encoding="utf-8")
    path.chmod(0o755)
    return path


def run(machine: Path, *command: object, **variables: object) -> tuple[int, str]:
    environment = {"PATH": str(machine), "HOME": str(machine), "SERVER_FOLDERS": ""}
    environment |= {name: str(value) for name, value in variables.items()}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def log(machine: Path) -> str:
    return (machine / "log").read_text(encoding="utf-8")


def test_an_old_python_is_refused(machine: Path) -> None:
    old = program(machine, "python3", "exit 1")
    code, output = run(machine, ROOT / "deploy/venv.sh", machine / "venv", PYTHON=old)
    assert (code, "is not Python 3.11 or newer" in output) == (1, True)


def test_a_python_without_ensurepip_is_named_with_the_package_to_install(machine: Path) -> None:
    lacking = program(machine, "python3", LACKS_ENSUREPIP)
    program(machine, "apt-get", APT)
    program(machine, "id", "echo 1000")
    code, output = run(machine, ROOT / "deploy/venv.sh", machine / "venv", PYTHON=lacking)
    assert (code, "sudo apt-get install python3.12-venv" in output) == (1, True)
    assert not (machine / "log").exists()


def test_root_gets_ensurepip_installed(machine: Path) -> None:
    lacking = program(machine, "python3", LACKS_ENSUREPIP)
    program(machine, "apt-get", APT)
    program(machine, "id", "echo 0")
    code, output = run(machine, ROOT / "deploy/venv.sh", machine / "venv", PYTHON=lacking)
    assert code == 0, output
    assert "--no-install-recommends python3.12-venv" in log(machine)
    assert f"-m venv --clear {machine}/venv" in log(machine)


def test_nothing_is_installed_when_all_tools_are_there(machine: Path) -> None:
    for tool in TOOLS:
        program(machine, tool)
    program(machine, "apt-get", APT)
    assert run(machine, SCRIPT) == (0, "")
    assert not (machine / "log").exists()


def test_every_tool_of_the_table_is_known() -> None:
    assert {"restic", "chromium", "initdb"} < {*TOOLS}
    assert TOOLS[0] == "restic"


def test_an_ordinary_user_gets_the_one_line_to_run(machine: Path) -> None:
    for tool in TOOLS[1:]:
        program(machine, tool)
    program(machine, "apt-get", APT)
    program(machine, "id", "echo 1000")
    code, output = run(machine, SCRIPT)
    assert code == 1
    assert output.splitlines()[-1] == "run: sudo apt-get install --no-install-recommends restic"
    assert not (machine / "log").exists()


def test_root_gets_exactly_what_is_missing_and_no_service_is_started(machine: Path) -> None:
    policy = machine / "policy-rc.d"
    for tool in {*TOOLS} - {*MISSING.values()}:
        program(machine, tool)
    program(machine, "apt-get", f'echo "$@ policy: $({policy}; echo $?)" >> "{{log}}"')
    program(machine, "id", "echo 0")
    program(machine, "systemctl", 'echo systemctl "$@" >> "{log}"')
    code, output = run(machine, SCRIPT, POLICY_RC_D=policy)
    assert code == 0, output
    assert log(machine).splitlines() == [
        "update -qq policy: 101",
        f"install -qq -y --no-install-recommends {' '.join(MISSING)} policy: 101",
        "systemctl disable --quiet prometheus.service",
        "systemctl disable --quiet mariadb.service",
        "systemctl disable --quiet ssh.service",
        "systemctl disable --quiet nut-server.service",
    ]
    assert not policy.exists()


def test_an_operators_own_policy_is_left_alone(machine: Path) -> None:
    policy = program(machine, "policy-rc.d", "exit 7")
    program(machine, "apt-get", APT)
    program(machine, "id", "echo 0")
    assert run(machine, SCRIPT, POLICY_RC_D=policy)[0] == 0
    assert policy.exists()


def test_make_without_a_word_lists_the_commands(machine: Path) -> None:
    code, output = run(machine, "make", "-C", ROOT)
    assert code == 0, output
    for target in ("run", "test", "lint", "demo", "bench", "campaign", "clean"):
        assert f"make {target} " in output
