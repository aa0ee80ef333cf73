"""What jobs reported, what was pushed and how far logs were read outlive a daemon that is killed."""

import signal
import urllib.request

CHECKS = """
[[checks]]
name = "nightly import"
type = "heartbeat"
[[checks]]
name = "press"
type = "push"
token = "p0sh"
every = "1s"
critical = {{ reading = "temperature", raise = "> 90" }}
[[checks]]
name = "erp log"
type = "log"
files = ["{log}"]
matches = ["ERROR"]
every = "1s"
"""


def post(daemon, path: str, body: bytes, **headers: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{daemon.port}{path}", body, headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def said(daemon, check: str) -> tuple[str, str]:
    """Status and message of a check, empty until it has run."""
    found = [one for one in daemon.view()["checks"] if one["check"] == check and one["checked_at"]]
    return (found[0]["status"], found[0]["message"]) if found else ("", "")


def test_reports_readings_and_places_in_logs_outlive_a_daemon_that_is_killed(office, tmp_path) -> None:
    log = tmp_path / "erp.log"
    log.write_text("ERROR of yesterday\n", encoding="utf-8")
    daemon = office(extra=CHECKS.format(log=log)).start()
    daemon.until(lambda: said(daemon, "erp log")[0] == "ok", "the end of the log is known")
    post(daemon, "/ping/nightly%20import/7", b"cannot reach the tax authority")
    post(daemon, "/api/v1/push/press", b'{"temperature": 99}', Authorization="Bearer p0sh")
    with log.open("a", encoding="utf-8") as file:
        file.write("ERROR 1\n")
    daemon.until(lambda: said(daemon, "erp log")[0] == "warning", "the line is seen")
    daemon.send(signal.SIGKILL)
    daemon.process.wait(30)
    with log.open("a", encoding="utf-8") as file:
        file.write("ERROR 2 while nobody looked\n")
    daemon.start()
    failed = ("critical", "failed with exit code 7: cannot reach the tax authority")
    daemon.until(lambda: said(daemon, "nightly import") == failed, "the report is remembered")
    daemon.until(lambda: said(daemon, "press")[0] == "critical", "the reading is remembered")
    seen = daemon.until(lambda: said(daemon, "erp log")[1], "the log is looked at")
    assert seen.startswith("2 matching lines in ")
    assert seen.endswith("ERROR 1 | ERROR 2 while nobody looked")
    assert daemon.stop() == 0
