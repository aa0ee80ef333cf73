"""The suite's own rule, shown on small suites: in CI a skipped test is a failure, elsewhere it is a skip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
MARKED = "import pytest\n@pytest.mark.skip(reason='no such tool')\ndef test_a(): pass"
ON_THE_WAY = "import pytest\ndef test_a(): pytest.skip('no such tool')"
WHOLE_MODULE = "import pytest\npytest.skip('no such tool', allow_module_level=True)"


def run_suite(directory: Path, test: str, ci: str) -> tuple[int, str]:
    (directory / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (directory / "test_it.py").write_text(test, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(directory), str(directory)]
    environment = os.environ | {"CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    return done.returncode, done.stdout


@pytest.mark.parametrize("test", [MARKED, ON_THE_WAY, WHOLE_MODULE], ids=["marked", "on the way", "whole module"])
def test_in_ci_a_skipped_test_fails_and_says_why(tmp_path: Path, test: str) -> None:
    code, output = run_suite(tmp_path, test, ci="true")
    assert code != 0
    assert "no such tool" in output


@pytest.mark.parametrize("test", [MARKED, ON_THE_WAY])
def test_elsewhere_a_skipped_test_is_a_skip(tmp_path: Path, test: str) -> None:
    code, output = run_suite(tmp_path, test, ci="")
    assert (code, "1 skipped" in output) == (0, True)


def test_in_ci_a_passing_test_passes_and_an_expected_failure_is_expected(tmp_path: Path) -> None:
    expected = "import pytest\n@pytest.mark.xfail\ndef test_b(): assert False\ndef test_a(): pass"
    assert run_suite(tmp_path, expected, ci="true")[0] == 0
