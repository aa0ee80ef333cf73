"""keepwatch among Prometheus' family: scraped, judged by our rules, told through Alertmanager, and side by side with
node_exporter; all of them Debian's.
"""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.prometheus_tools import (
    ROOT,
    Webhook,
    alertmanager,
    get,
    impatient,
    node_exporter,
    prometheus,
    until,
)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


def scraping(keepwatch: str, alertmanager_url: str) -> str:
    """The scrape example that we ship, hurried."""
    text = (ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8")
    for shipped, here in (
        ("scrape_interval: 30s", "scrape_interval: 500ms\n  scrape_timeout: 500ms"),
        ("evaluation_interval: 30s", "evaluation_interval: 500ms"),
        ("- alerts.yml", f"- {ROOT}/deploy/prometheus/alerts.yml"),
        ("127.0.0.1:9750", keepwatch),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    target = alertmanager_url.removeprefix("http://")
    return f"{text}\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['{target}']}}]}}]}}\n"


def test_a_fault_goes_through_rules_and_alertmanager_to_a_webhook_and_so_does_its_end(
    office: Any, tmp_path: Path, webhook: Webhook
) -> None:
    marker = tmp_path / "all is well"
    marker.touch()
    (tmp_path / "look").write_text(f"#!/bin/sh\ntest -e '{marker}' || exit 2\n", encoding="utf-8")
    (tmp_path / "look").chmod(0o755)
    check = f"""
[[checks]]
name = "marker"
type = "command"
run = "{tmp_path}/look"
every = "1s"
"""
    folder = tmp_path / "tools"
    folder.mkdir()
    with alertmanager(folder, impatient(webhook.url)) as manager:
        daemon = office(extra=f'{check}\n[alertmanager]\nurls = ["{manager}"]\nseverities = []\n').start()
        with prometheus(folder, scraping(f"127.0.0.1:{daemon.port}", manager)) as url:
            until(lambda: up(url), "Prometheus scrapes the daemon")
            until(lambda: webhook.alerts("firing", alertname="Watchdog", host=daemon.view()["host"]), "our watchdog")
            until(lambda: webhook.alerts("firing", alertname="Watchdog", severity="none"), "Prometheus' watchdog")
            marker.unlink()
            told = {"alertname": "KeepwatchCheckCritical", "check": "marker", "severity": "critical"}
            (fired, *_) = until(lambda: webhook.alerts("firing", **told), "the fault is told")
            assert fired["annotations"]["runbook"] == "check-critical"
            assert {path for path, m in webhook.messages if m["commonLabels"].get("check") == "marker"} == {"/pager"}
            marker.touch()
            until(lambda: webhook.alerts("resolved", **told), "its end is told")
            assert get(f"{url}/api/v1/targets")["data"]["activeTargets"][0]["lastError"] == ""
    assert daemon.stop() == 0


def up(prometheus_url: str) -> bool:
    answer = get(f'{prometheus_url}/api/v1/query?query=up%7Bjob=%22keepwatch%22%7D')
    return [sample["value"][1] for sample in answer["data"]["result"]] == ["1"]


# Side by side with node_exporter -------------------------------------------------------------------------------------

MOVES = re.compile(
    r"node_(cpu|load|disk|network_(receive|transmit)|intr|context|forks|procs|filefd_alloc|vmstat|pressure|time_sec|timex|"
    r"nf_conntrack_entries$|memory|scrape|textfile|filesystem_(avail|free|files_free))"
)
"""What changes between two scrapes, or at each."""


def scrape(url: str) -> dict[str, tuple[str, dict[frozenset[tuple[str, str]], float]]]:
    """Families by the name of their samples: type, and values by labels."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, tuple[str, dict[frozenset[tuple[str, str]], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, (family.type, {}))[1][frozenset(sample.labels.items())] = sample.value
    return found


def test_host_metrics_agree_with_the_real_node_exporter(office: Any, tmp_path: Path) -> None:
    daemon = office(extra='[metrics]\nnode = "on"\n').start()
    ours_at = f"http://127.0.0.1:{daemon.port}/metrics/node"
    with node_exporter(tmp_path) as theirs_at:
        scrape(ours_at)  # the first scrape may wait for units
        before, theirs, after = scrape(ours_at), scrape(theirs_at), scrape(ours_at)
    mine = {name for name in before if not name.startswith("node_scrape")}
    assert mine - theirs.keys() == set(), "every series of ours is one of theirs"
    assert len(mine) > 120
    for name in sorted(mine):
        kind, values = before[name]
        their_kind, their_values = theirs[name]
        assert kind == their_kind, name
        assert values.keys() == their_values.keys(), name
        for labels, value in values.items():
            assert lies_between(name, value, their_values[labels], after[name][1].get(labels, value)), (name, labels)
    collectors = {dict(labels)["collector"]: v for labels, v in before["node_scrape_collector_success"][1].items()}
    their_collectors = theirs["node_scrape_collector_success"][1]
    for collector, success in collectors.items():
        if collector != "systemd":  # off by default there
            assert their_collectors[frozenset({("collector", collector)})] == success, collector
    assert daemon.stop() == 0


def lies_between(name: str, before: float, theirs: float, after: float) -> bool:
    """Counters of theirs lie between two scrapes of ours; what goes up and down is near; the rest is equal."""
    if not MOVES.match(name):
        return theirs == before
    if name.endswith("_total") or name == "node_time_seconds":
        return before * 0.999 - 0.02 <= theirs <= after * 1.001 + 0.02
    return abs(theirs - before) <= 0.2 * max(abs(theirs), abs(before)) + 64 * 2**20


def test_what_metrics_names_as_node_exporters_is_exported_by_ours_where_theirs_does(
    office: Any, tmp_path: Path
) -> None:
    """The inputs of the node-mixin rules and of the dashboard's top rows, as far as this machine has them."""
    wanted = re.compile(
        r"node_(cpu_seconds_total|load1|load5|load15|memory_(MemTotal|MemAvailable|MemFree|Buffers|Cached|Slab|SReclaimable|"
        r"SwapTotal|SwapFree)_bytes|filesystem_(size|avail|free)_bytes|filesystem_(files|files_free|readonly|device_error)|"
        r"disk_(read|written)_bytes_total|disk_io_time_(weighted_)?seconds_total|disk_(reads|writes)_completed_total|"
        r"network_(receive|transmit)_(bytes|packets|errs|drop)_total|network_(speed_bytes|up|mtu_bytes)|"
        r"nf_conntrack_entries(_limit)?|filefd_(allocated|maximum)|vmstat_(pgmajfault|oom_kill)|"
        r"timex_(offset_seconds|sync_status|maxerror_seconds)|md_disks(_required)?|bonding_(slaves|active)|"
        r"textfile_scrape_error|uname_info|time_seconds|boot_time_seconds|pressure_\w+_seconds_total|"
        r"procs_(running|blocked)|context_switches_total|intr_total|forks_total|hwmon_temp_celsius|"
        r"edac_(correctable|uncorrectable)_errors_total|scrape_collector_(duration_seconds|success))"
    )
    daemon = office(extra='[metrics]\nnode = "on"\n').start()
    with node_exporter(tmp_path) as theirs_at:
        theirs = {name for name in scrape(theirs_at) if wanted.fullmatch(name)}
    ours = scrape(f"http://127.0.0.1:{daemon.port}/metrics/node").keys()
    assert len(theirs) > 50
    assert theirs - ours == set()
    assert daemon.stop() == 0
