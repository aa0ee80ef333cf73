import socket

import pytest

from keepwatch.supervision import Systemd


@pytest.fixture
def manager(tmp_path):
    """A service manager's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def environment(manager, **more):
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def told(manager):
    return manager.recv(4096).decode().split("\n")


def test_each_state_is_told_in_systemds_words(manager):
    systemd = Systemd(environment(manager))
    systemd.ready("page at http://127.0.0.1:9750/")
    assert told(manager) == ["READY=1", "STATUS=page at http://127.0.0.1:9750/"]
    systemd.reloading()
    reloading, moment = told(manager)
    assert reloading == "RELOADING=1"
    assert moment.removeprefix("MONOTONIC_USEC=").isdigit()
    systemd.alive()
    assert told(manager) == ["WATCHDOG=1"]
    systemd.stopping()
    assert told(manager) == ["STOPPING=1"]


def test_an_abstract_socket_is_meant_by_an_at_sign():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0keepwatch-test-notify")
        listener.settimeout(5)
        Systemd({"NOTIFY_SOCKET": "@keepwatch-test-notify"}).alive()
        assert told(listener) == ["WATCHDOG=1"]


def test_the_watchdog_counts_only_when_it_is_meant_for_this_process(manager):
    assert Systemd(environment(manager, WATCHDOG_USEC="60000000")).watchdog_seconds == 60
    assert Systemd(environment(manager, WATCHDOG_USEC="60000000", WATCHDOG_PID="1")).watchdog_seconds is None
    assert Systemd({"WATCHDOG_USEC": "60000000"}).watchdog_seconds is None


def test_without_a_manager_nothing_is_sent_and_one_that_is_gone_harms_nobody(tmp_path, caplog):
    Systemd({}).ready("fine")
    assert not caplog.records
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive()
    assert caplog.records[0].getMessage() == "systemd not told"
