"""Dashboards: they load anywhere, and every panel asks for what is exported or recorded."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.node import devices, units
from monitor.node.page import NodePage
from monitor.node.reading import Machine
from monitor.probes.file_systems import FileSystems
from tests.deploy.test_prometheus import exported_metrics, rules

GRAFANA = Path(__file__).resolve().parents[2] / "deploy/grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
WORDS = {
    "by", "on", "sum", "max", "min", "rate", "increase", "count", "or", "and", "vector", "scalar", "topk", "abs",
    "histogram_quantile", "group_left", "unless", "ignoring", "time", "changes", "bool",
}  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DASHBOARDS:
        for panel in read(path)["panels"]:
            yield f"{path.stem}: {panel['title']}", panel


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    """Names outside of label matchers, grouping clauses and ranges."""
    bare = re.sub(r'\{[^}]*\}|"[^"]*"|\[[^\]]*\]|\b(by|on|ignoring|group_left|without)\s*\([^)]*\)', " ", expression)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*", bare) if name not in WORDS}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """All that either page can show: this machine's, and what a machine with RAID, bonds and sensors adds."""
    folder = tmp_path_factory.mktemp("machine")
    files = {
        "proc/mdstat": "md0 : active raid1 sdb1[1] sda1[0]\n      1 blocks [2/2] [UU]\n",
        "proc/sys/net/netfilter/nf_conntrack_count": "1", "proc/sys/net/netfilter/nf_conntrack_max": "2",
        "sys/class/net/bonding_masters": "bond0", "sys/class/net/bond0/bonding/slaves": "eth0",
        "sys/class/hwmon/hwmon0/name": "cpu", "sys/class/hwmon/hwmon0/temp1_input": "1",
        "sys/devices/system/edac/mc/mc0/ce_count": "0", "sys/devices/system/edac/mc/mc0/ue_count": "0",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    machine = Machine(str(folder / "proc"), str(folder / "sys"))
    rare = [*devices.mdadm(machine), *devices.bonding(machine), *devices.hwmon(machine), *devices.edac(machine)]
    rare.append(units.units("Id=a.service\nLoadState=loaded\nActiveState=active\nNRestarts=0\n"))
    file_systems = FileSystems()
    page = NodePage(file_systems, lambda: datetime(2026, 1, 1, tzinfo=UTC)).render().decode()
    file_systems.close()
    pressure = {f"node_pressure_{name}_waiting_seconds_total" for name in ("cpu", "io", "memory")}
    conntrack = {"node_nf_conntrack_entries", "node_nf_conntrack_entries_limit"}
    names = set(re.findall(r"^(\w+)[{ ]", page + "".join(rare), re.MULTILINE)) | pressure | conntrack
    return names | exported_metrics() | {"up"} | {rule["record"] for rule in rules() if "record" in rule}


@pytest.mark.parametrize(("name", "panel"), list(panels()), ids=[name for name, _ in panels()])
def test_each_panel_asks_only_for_what_is_exported(name: str, panel: dict[str, Any], exported: set[str]) -> None:
    for expression in expressions(panel):
        found = metrics_in(expression)
        assert found, expression
        assert found - exported == set()


def test_a_panel_that_asked_for_something_else_would_be_found(exported: set[str]) -> None:
    assert metrics_in('sum by (a) (rate(keepwatch_wrong_total{b="c"}[5m])) / node_load1') - exported == {
        "keepwatch_wrong_total"
    }


def test_whatever_an_alert_is_about_a_dashboard_shows() -> None:
    parts = {rule["record"]: metrics_in(rule["expr"]) for rule in rules() if "record" in rule}
    shown = {name for _, panel in panels() for expression in expressions(panel) for name in metrics_in(expression)}
    shown |= {part for name in shown for part in parts.get(name, ())}
    unseen = []
    for rule in rules():
        asked = metrics_in(rule["expr"])
        asked |= {part for name in asked for part in parts.get(name, ())}
        if "alert" in rule and not asked & shown:
            unseen.append(rule["alert"])
    assert unseen == ["Watchdog"], "which always fires"


def test_prometheus_understands_each_expression(tmp_path: Path) -> None:
    known = {"$__rate_interval": "5m", "$instance": "erp-1", "$job": "documents"}
    rules = []
    for _, panel in panels():
        for expression in expressions(panel):
            for variable, value in known.items():
                expression = expression.replace(variable, value)
            assert "$" not in expression
            rules.append({"record": f"panel:{len(rules)}", "expr": expression})
    assert len(rules) > 60
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_loaded_anywhere_and_again(path: Path) -> None:
    board = read(path)
    assert board["uid"] == path.stem, "fixed, so that links to it last and a new version takes its place"
    assert "id" not in board
    assert all("id" not in panel for panel in board["panels"])
    assert board["templating"]["list"][0] | {"current": None} == {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
        "includeAll": False, "multi": False, "current": None,
    }  # fmt: skip
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in board["panels"]:
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
    assert all(v["datasource"] == chosen for v in board["templating"]["list"][1:])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_no_two_panels_lie_upon_each_other_and_none_sticks_out(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in read(path)["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_provisioning_finds_the_dashboards() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/keepwatch.yml").read_text())["providers"]
    assert provider["type"] == "file"
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/keepwatch.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert {path.stem for path in DASHBOARDS} == {"keepwatch-overview", "keepwatch-backups", "keepwatch-host"}
