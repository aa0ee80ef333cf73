"""The benchmarks of scrapes and of monitoring measure what they say."""

import http.client
import os
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.benchmarks import monitoring, scrape
from tests.benchmarks.dead_mount import dead_mount


def test_the_99th_percentile_of_lag_is_that_of_the_runs_in_between() -> None:
    text = 'keepwatch_check_start_lag_seconds_bucket{le="%s"} %d\n'
    before = monitoring.lags(text % ("0.1", 0) + text % ("1.0", 50) + text % ("+Inf", 50))
    after = monitoring.lags(text % ("0.1", 990) + text % ("1.0", 1049) + text % ("+Inf", 1050))
    assert monitoring.lag_p99(before, after) == 0.1
    assert monitoring.lag_p99({}, after) == 1.0


def test_a_bound_that_is_broken_is_named_and_one_that_is_kept_is_not() -> None:
    bounds = monitoring.Bounds(64, 1, 1, 61)
    good = {"pss_mib": 60.0, "cpu_percent": 0.9, "lag_p99_seconds": 0.5, "telling_seconds": 40.0}
    assert monitoring.broken(good, bounds) == []
    assert monitoring.broken(good | {"pss_mib": 65.0}, bounds) == ["pss_mib 65.0 > 64"]
    assert monitoring.broken(good | {"telling_seconds": float("inf")}, bounds) == ["telling_seconds inf > 61"]


def test_a_scrape_is_timed_to_its_end_and_its_series_counted() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"# HELP a A.\na 1\na 2\n" if self.path == "/metrics" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", server.server_port)) as connection:
            took, series = scrape.scrape(connection, "/metrics")
            assert (took > 0, series) == (True, 2)
        with (
            closing(http.client.HTTPConnection("127.0.0.1", server.server_port)) as connection,
            pytest.raises(RuntimeError, match="404"),
        ):
            scrape.scrape(connection, "/")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.campaign
def test_the_dead_mount_does_not_answer_and_goes_away() -> None:
    """Needs root and /dev/fuse, as the benchmark does."""
    question = "import os, sys; os.statvfs(sys.argv[1])"
    with dead_mount() as place, pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", question, str(place)], timeout=2)
    assert not os.path.ismount(place)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", list(monitoring.BOUNDS))
def test_each_scene_keeps_its_bounds(scene: str) -> None:
    assert monitoring.broken(monitoring.run(scene, 70), monitoring.BOUNDS[scene]) == []
