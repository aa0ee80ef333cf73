"""Whether /metrics/node is shown: by settings, and not beside a node_exporter."""

import socket

import pytest

from config.exporting import MetricsSettings
from keepwatch.host_metrics import HostMetrics, HostMetricsOff
from tests.keepwatch import web_samples as samples
from tests.keepwatch.test_web_app import serving


def host_metrics(port: int, mode: str, now: list[float]) -> HostMetrics:
    settings = MetricsSettings(node=mode)  # type: ignore[arg-type]
    return HostMetrics(settings, lambda: b"node_x 1\n", ("127.0.0.1", port), lambda: now[0])


def test_it_stands_back_while_a_node_exporter_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        port, now = theirs.getsockname()[1], [0.0]
        auto = host_metrics(port, "auto", now)
        with pytest.raises(HostMetricsOff, match=f"listens on port {port}"):
            auto.render()
        assert host_metrics(port, "on", now).render() == b"node_x 1\n"
    with pytest.raises(HostMetricsOff):
        auto.render()  # it looks again once a minute, not at each scrape
    now[0] = 61.0
    assert auto.render() == b"node_x 1\n"


def test_switched_off_is_a_404_that_says_how_to_switch_it_on() -> None:
    off = host_metrics(1, "off", [0.0])
    with serving(samples.healthy, host_metrics=off.render) as client:
        answer = client.get("/metrics/node")
    assert answer.status_code == 404
    assert '[metrics] node = "on"' in answer.text


def test_it_is_served_as_metrics_are() -> None:
    with serving(samples.healthy, host_metrics=lambda: b"node_x 1\n") as client:
        answer = client.get("/metrics/node")
    assert (answer.status_code, answer.text) == (200, "node_x 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
