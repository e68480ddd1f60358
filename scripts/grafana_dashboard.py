"""Writes packaging/grafana/cctv-storaged.json: the fleet, a host and its cameras on one dashboard.

For Grafana 9 and later with Prometheus as data source. Run with the virtual environment's Python.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "packaging" / "grafana" / "cctv-storaged.json"
JOB = 'job="cctv-storaged"'
HOST = 'instance=~"$instance"'
CAMERA = f'{HOST},camera_id=~"$camera"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
HEIGHT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture: a number (stat), a curve (timeseries) or a list (table)."""

    title: str
    told: str  # what it means, and what is good
    queries: Sequence[tuple[str, str]]  # expression and legend
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    bad_above: float | None = None  # red from there on; of a stat
    bad_below: float | None = None


ROWS: dict[str, tuple[Panel, ...]] = {
    "Fleet": (
        Panel(
            title="Hosts that answer",
            told="Targets of Prometheus that are up.",
            queries=[(f"sum(up{{{JOB}}})", "")],
            kind="stat",
            width=4,
        ),
        Panel(
            title="Hosts that do not",
            told="Their footage is neither delivered nor proven. 0 is good.",
            queries=[(f"count(up{{{JOB}}} == 0) or vector(0)", "")],
            kind="stat",
            width=4,
            bad_above=1,
        ),
        Panel(
            title="Alarms",
            told="All that sound; docs/reference/alarms.md explains each.",
            queries=[("sum(storage_alarms) or vector(0)", "")],
            kind="stat",
            width=4,
            bad_above=1,
        ),
        Panel(
            title="Silent cameras",
            told="No segment for much longer than usual.",
            queries=[('sum(storage_alarms{alarm="camera_silent"}) or vector(0)', "")],
            kind="stat",
            width=4,
            bad_above=1,
        ),
        Panel(
            title="Segments lost within a day",
            told="Each is in the ledger of its host.",
            queries=[("sum(increase(storage_segments_lost_total[24h])) or vector(0)", "")],
            kind="stat",
            width=4,
            bad_above=1,
        ),
        Panel(
            title="Least days left",
            told="Of all disks, at the measured rate.",
            queries=[("min(storage_disk_days_left)", "")],
            kind="stat",
            width=4,
            bad_below=3,
        ),
        Panel(
            title="Alarms by host",
            told="Which sound where; /ready and `cctv-storaged status` tell of what.",
            queries=[("storage_alarms > 0", "")],
            kind="table",
            width=12,
        ),
        Panel(
            title="Hosts by configuration",
            told="More than one hash in a fleet that is rolled out alike is a host that was left out.",
            queries=[("count by (version, hash) (storage_config_info)", "")],
            kind="table",
            width=12,
        ),
        Panel(
            title="Oldest undelivered, by host",
            told="The age of what waits; it grows while a store is away, and falls after.",
            queries=[("max by (instance) (storage_oldest_undelivered_seconds)", "{{instance}}")],
            unit="s",
        ),
        Panel(
            title="Backlog, by host",
            told="Bytes that have no verified copy yet.",
            queries=[("sum by (instance) (storage_upload_backlog_bytes)", "{{instance}}")],
            unit="bytes",
        ),
        Panel(
            title="Days left, by host",
            told="Of the disk that is full first.",
            queries=[("min by (instance) (storage_disk_days_left)", "{{instance}}")],
            unit="d",
        ),
    ),
    "Host": (
        Panel(
            title="Segments delivered a second",
            told="Copies verified, by backend.",
            queries=[
                (
                    f"sum by (instance, backend) (rate(storage_segments_stored_total{{{HOST}}}[5m]))",
                    "{{instance}} {{backend}}",
                )
            ],
        ),
        Panel(
            title="Backlog",
            told="Segments that wait, and those that wait for a human.",
            queries=[
                (f"storage_upload_backlog_segments{{{HOST}}}", "{{instance}} {{backend}}"),
                (f"storage_copies_failed{{{HOST}}}", "{{instance}} {{backend}} failed"),
            ],
        ),
        Panel(
            title="From a file's close to its copy",
            told="Time until the copy is verified; and, of all segments, until the journal has them.",
            queries=[
                (
                    "histogram_quantile(0.95, sum by (instance, backend, le) "
                    f"(rate(storage_delivery_seconds_bucket{{{HOST}}}[5m])))",
                    "{{instance}} {{backend}} 95 %",
                ),
                (
                    "histogram_quantile(0.95, sum by (instance, le) "
                    f"(rate(storage_ingest_seconds_bucket{{{HOST}}}[5m])))",
                    "{{instance}} journal 95 %",
                ),
            ],
            unit="s",
        ),
        Panel(
            title="Backends and catalog",
            told="1 while it takes what it is given.",
            queries=[
                (f"storage_backend_up{{{HOST}}}", "{{instance}} {{backend}}"),
                (f"storage_catalog_up{{{HOST}}}", "{{instance}} catalog"),
            ],
        ),
        Panel(
            title="Free on the disks",
            told="Below 20 % an alarm sounds, below 10 % what may go is deleted early.",
            queries=[
                (
                    f"storage_disk_free_bytes{{{HOST}}} / storage_disk_total_bytes{{{HOST}}}",
                    "{{instance}} {{root}}",
                )
            ],
            unit="percentunit",
        ),
        Panel(
            title="Days left",
            told="Until a disk is full at the measured rate; nothing where it never is.",
            queries=[(f"storage_disk_days_left{{{HOST}}} < 1e6", "{{instance}} {{root}}")],
            unit="d",
        ),
        Panel(
            title="Bytes kept",
            told="Of this host, at the backend.",
            queries=[(f"storage_bytes_used{{{HOST}}}", "{{instance}} {{backend}}")],
            unit="bytes",
        ),
        Panel(
            title="Errors a second",
            told="By what was being done; tries that were made again count too.",
            queries=[
                (
                    f"sum by (instance, operation, backend) (rate(storage_errors_total{{{HOST}}}[5m]))",
                    "{{instance}} {{operation}} {{backend}}",
                )
            ],
        ),
        Panel(
            title="Files set aside",
            told="What a recorder wrote and is no footage, by reason.",
            queries=[(f"storage_segments_quarantined{{{HOST}}}", "{{instance}} {{reason}}")],
        ),
        Panel(
            title="Last scan of a root",
            told="A scan takes 2 % of the time at most.",
            queries=[(f"storage_scan_seconds{{{HOST}}}", "{{instance}} {{root}}")],
            unit="s",
        ),
        Panel(
            title="Read back",
            told="Since the copy that is next was proven last: no more than a rotation.",
            queries=[(f"storage_scrub_age_seconds{{{HOST}}}", "{{instance}} {{backend}}")],
            unit="s",
        ),
        Panel(
            title="API, 95 % of answers within",
            told="By route.",
            queries=[
                (
                    "histogram_quantile(0.95, sum by (instance, route, le) "
                    f"(rate(storage_http_request_seconds_bucket{{{HOST}}}[5m])))",
                    "{{instance}} {{route}}",
                )
            ],
            unit="s",
        ),
    ),
    "Cameras": (
        Panel(
            title="Since the last segment",
            told="A saw-tooth as high as a segment is long.",
            queries=[(f"storage_segment_age_seconds{{{CAMERA}}}", "{{camera_id}}")],
            unit="s",
        ),
        Panel(
            title="Days kept",
            told="As the retention report counts them.",
            queries=[(f"storage_retention_achieved_days{{{CAMERA}}}", "{{camera_id}}")],
            unit="d",
        ),
        Panel(
            title="Segments",
            told="In the journal of the host.",
            queries=[(f"storage_segments_count{{{CAMERA}}}", "{{camera_id}}")],
        ),
        Panel(
            title="XProtect behind",
            told="How far its recordings are behind the newest footage here.",
            queries=[(f"storage_vms_coverage_lag_seconds{{{CAMERA}}}", "{{camera_id}}")],
            unit="s",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": "cctv-storaged",
        "uid": "cctv-storaged",
        "description": "What recording hosts deliver, keep and lose. Made by scripts/grafana_dashboard.py.",
        "tags": ["cctv"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def expressions() -> list[str]:
    """Every query of the dashboard, its variables standing for everything."""
    queries = [query for panels in ROWS.values() for panel in panels for query, _ in panel.queries]
    return [query.replace("$instance", ".*").replace("$camera", ".*") for query in queries]


def dashboard_file() -> str:
    """packaging/grafana/cctv-storaged.json."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        _label_values("instance", "Host", "label_values(storage_alarms, instance)"),
        _label_values("camera", "Camera", f"label_values(storage_segments_count{{{HOST}}}, camera_id)"),
    ]


def _label_values(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "sort": 1,
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for title, panels in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        x, y, tallest = 0, y + 1, 0
        for panel in panels:
            number, height = number + 1, HEIGHT // 2 if panel.kind == "stat" else HEIGHT
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height})
            x, tallest = x + panel.width, max(tallest, height)
        y += tallest


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.told,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel)},
            "overrides": [],
        },
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "instant": instant,
                "range": not instant,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for at, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    good: dict[str, Any] = {"color": "green", "value": None}
    if panel.bad_above is not None:
        return {"mode": "absolute", "steps": [good, {"color": "red", "value": panel.bad_above}]}
    if panel.bad_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.bad_below}]
        return {"mode": "absolute", "steps": steps}
    return {"mode": "absolute", "steps": [good]}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "none"}
    if panel.kind == "table":
        return {"showHeader": True}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(dashboard_file(), encoding="utf-8")
    print(f"wrote {TARGET}")
