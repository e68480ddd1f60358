"""Alert rules, dashboard and the page of metrics are as the code is. What promtool says: tests/system."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cctv_storaged.alarms import AlarmName
from scripts import alert_rules
from scripts.alert_rules import RULES, RUNBOOK, TESTS, explained, rules, rules_file
from scripts.grafana_dashboard import TARGET as DASHBOARD
from scripts.grafana_dashboard import dashboard, dashboard_file, expressions
from scripts.metrics_reference import TARGET as METRICS
from scripts.metrics_reference import exposed_names, metrics_reference

ROOT = Path(__file__).parents[2]
IN_FORCE = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
OF_PROMETHEUS = frozenset({"up"})


@pytest.mark.parametrize(
    ("file", "made", "script"),
    [
        (METRICS, metrics_reference, "metrics_reference.py"),
        (RULES, rules_file, "alert_rules.py"),
        (TESTS, alert_rules.tests_file, "alert_rules.py"),
        (DASHBOARD, dashboard_file, "grafana_dashboard.py"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_what_is_made_from_the_code_is_as_the_code_is(file: Path, made: Any, script: str) -> None:
    assert file.read_text() == made(), f"run .venv/bin/python scripts/{script}"


def test_every_alarm_has_a_rule_and_a_row_and_so_has_each_rule() -> None:
    told = {match for rule in IN_FORCE for match in re.findall(r'alarm="(\w+)"', rule["expr"])}
    assert told == set(AlarmName)
    others = {rule.alert for rule in rules() if not rule.is_alarm}
    assert set(explained()) == set(AlarmName) | others
    assert len({rule["alert"] for rule in IN_FORCE}) == len(IN_FORCE) == len(AlarmName) + len(others)


@pytest.mark.parametrize("rule", IN_FORCE, ids=lambda rule: rule["alert"])
def test_a_rule_says_what_is_wrong_what_to_do_and_where_it_is_explained(rule: dict[str, Any]) -> None:
    said = rule["annotations"]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert said["summary"] and "What to do: " in said["description"] and "It ends: " in said["description"]
    page, anchor = said["runbook_url"].removeprefix("file:///usr/share/doc/cctv-storaged/").split("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.M)
    assert said["runbook_url"].startswith(RUNBOOK)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def names_in(expression: str) -> set[str]:
    """Metrics that an expression asks for."""
    return set(re.findall(r"\b(storage_\w+|up)\b", re.sub(r"\{[^}]*\}", "", expression)))


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in IN_FORCE), *expressions()])
def test_no_metric_is_asked_for_that_the_daemon_does_not_have(expression: str) -> None:
    names = names_in(expression)
    assert names
    assert names - OF_PROMETHEUS <= exposed_names()


def test_the_check_itself_sees_a_name_that_is_none() -> None:
    assert names_in('sum(rate(storage_nothing_total{alarm="storage_x"}[5m])) or up == 0') == {
        "storage_nothing_total",
        "up",
    }
    assert "storage_nothing_total" not in exposed_names()
    assert {
        "storage_alarms",
        "storage_segments_lost_total",
        "storage_ingest_seconds_bucket",
    } <= exposed_names()


def test_the_dashboard_has_rows_for_fleet_host_and_cameras_and_variables_for_each() -> None:
    written = json.loads(DASHBOARD.read_text())
    assert written == dashboard()
    panels = written["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == ["Fleet", "Host", "Cameras"]
    assert [each["name"] for each in written["templating"]["list"]] == ["datasource", "instance", "camera"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells), "no panel lies on another"
    assert max(x for x, _ in cells) < 24
    for panel in panels:
        assert panel["type"] == "row" or (panel["description"] and panel["targets"])
