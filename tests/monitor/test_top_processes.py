import os
import subprocess
import sys
import tempfile

import pytest

from monitor.top_processes import top_processes


@pytest.fixture
def busy():
    """A child that computes, and another of a strange name that holds 300 MiB."""
    burn = "print(flush=True)\nwhile True: pass"
    hold = "held = b'x' * (300 << 20)\n"
    hold += "open('/proc/self/comm', 'wb').write(b'\\xff\\x1b[2J')\nprint(flush=True)\nimport time; time.sleep(60)"
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for code in (burn, hold)]
    for child in children:
        child.stdout.readline()
    yield children
    for child in children:
        child.kill()
        child.communicate()


def test_the_process_that_computes_is_named_with_its_share(busy):
    lines = top_processes("cpu", count=50)
    line = next(line for line in lines if f"({busy[0].pid})" in line)
    assert "% of a core" in line
    assert not any(f"({busy[1].pid})" in line for line in lines), "one that sleeps is no culprit"


def test_the_process_that_holds_memory_is_named_with_its_size(busy):
    line = next(line for line in top_processes("memory", count=50) if f"({busy[1].pid})" in line)
    assert "MiB" in line
    assert line.isprintable(), "a process may call itself by any bytes"


def test_the_process_that_writes_is_named_with_its_rate():
    def write_meanwhile(_seconds):
        # /var/tmp, since /tmp may be memory, and writes to memory are no disk activity
        with tempfile.TemporaryFile(dir="/var/tmp") as file:
            for _ in range(16):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())

    assert any(f"({os.getpid()})" in line for line in top_processes("io", count=50, pause=write_meanwhile))
