"""Writes docs/reference/metrics.md from the metrics themselves. Run with the virtual environment's Python."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from cctv_storaged.metrics import Metrics

TARGET = Path(__file__).parent.parent / "docs" / "reference" / "metrics.md"
INTRODUCTION = """\
# Metrics

<!-- Made from src/cctv_storaged/metrics.py by scripts/metrics_reference.py; change it there. -->

`GET /metrics`, in Prometheus' text format. How to have them scraped, the alert rules and the dashboard:
[monitoring](../guide/monitoring.md). Labels are known cameras (`camera_id`), configured backends, roots and
fixed words: no name of a file makes the number of series grow.

* A counter begins anew with the process; `storage_segments_lost_total` goes on where the ledger stands.
* A histogram has the series `…_bucket` (by `le`, seconds), `…_sum` and `…_count`.
* `storage_vms_…` are there with XProtect in the settings, `storage_catalog_…` with a catalog: what nobody
  wants is not down.

| metric | kind | labels | |
|---|---|---|---|
"""


def metrics() -> list[MetricWrapperBase]:
    """All of a daemon's, in the order of the code."""
    return [each for each in vars(Metrics()).values() if isinstance(each, MetricWrapperBase)]


def exposed_names() -> frozenset[str]:
    """Every name that a series in /metrics may have."""
    return frozenset(name for metric in metrics() for name in _series(metric))


def metrics_reference() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(map(_row, metrics()))


def _series(metric: MetricWrapperBase) -> Iterator[str]:
    if isinstance(metric, Histogram):
        yield from (f"{metric._name}_{part}" for part in ("bucket", "sum", "count"))
    else:
        yield _name(metric)


def _name(metric: MetricWrapperBase) -> str:
    return f"{metric._name}_total" if isinstance(metric, Counter) else metric._name


def _row(metric: MetricWrapperBase) -> str:
    labels = " ".join(f"`{label}`" for label in metric._labelnames)
    return f"| `{_name(metric)}` | {metric._type} | {labels} | {metric._documentation} |\n"


if __name__ == "__main__":
    TARGET.write_text(metrics_reference(), encoding="utf-8")
    print(f"wrote {TARGET}")
