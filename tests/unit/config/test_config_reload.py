"""SIGHUP: what may change in a running daemon does, the rest stays and is named."""

from pathlib import Path

import pytest

from cctv_storaged.config import reloadable_difference
from tests.unit.config.given import load

OLD = """\
data_dir: /d
recorders: [{path: /r}]
log_level: info
delivery: {workers: 4}
"""


def test_nothing_changed_means_nothing_to_do(tmp_path: Path) -> None:
    old = load(tmp_path, OLD)
    plan = reloadable_difference(old, load(tmp_path, OLD))
    assert (plan.now, plan.restart, plan.settings) == (frozenset(), frozenset(), old)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("log_level: debug", "log_level"),
        ("cameras: [{folder: gate}]", "cameras"),
        ("delivery: {rate_limit: 5MB/s}", "delivery.rate_limit"),
        ("delivery: {window: 22:00-06:00}", "delivery.window"),
        ("delivery: {backlog_newest_share: 50%}", "delivery.backlog_newest_share"),
        ("source: {grace: 1h}", "source.grace"),
        ("source: {prune: never}", "source.prune"),
        ("source: {keep: 1d}", "source.keep"),
        ("retention: {default: {at_most: 60d}}", "retention.default.at_most"),
        ("retention: {per_camera: {gate: {at_least: 1d}}}", "retention.per_camera"),
    ],
)
def test_what_may_change_changes_and_nothing_else_does(tmp_path: Path, change: str, key: str) -> None:
    base = "data_dir: /d\n"
    old, new = load(tmp_path, base), load(tmp_path, base + change)
    plan = reloadable_difference(old, new)
    assert (set(plan.now), set(plan.restart)) == ({key}, set())
    assert plan.settings == new


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("host_id: other", "host_id"),
        ("api: {port: 1}", "api.port"),
        ("recorders: [{path: /r2}]", "recorders"),
        ("filesystem: {path: /s}", "filesystem.path"),
        ("minio: {secret_key: x}", "minio.secret_key"),
        ("postgres: {host: p}", "postgres"),
        ("delivery: {workers: 5}", "delivery.workers"),
        ("log_format: json", "log_format"),
        ("capacity: {reserve: 1MB}", "capacity.reserve"),
        ("exports: {workers: 1}", "exports.workers"),
    ],
)
def test_what_needs_a_restart_stays_and_is_named(tmp_path: Path, change: str, key: str) -> None:
    base = "data_dir: /d\n"
    old, new = load(tmp_path, base), load(tmp_path, base + change)
    plan = reloadable_difference(old, new)
    assert (set(plan.now), set(plan.restart)) == (set(), {key})
    assert plan.settings == old


def test_of_a_block_only_the_part_that_may_change_does(tmp_path: Path) -> None:
    old = load(tmp_path, OLD)
    new = load(tmp_path, OLD.replace("workers: 4", "workers: 9, rate_limit: 1MB/s").replace("info", "error"))
    plan = reloadable_difference(old, new)
    assert plan.now == {"log_level", "delivery.rate_limit"}
    assert plan.restart == {"delivery.workers"}
    assert plan.settings.delivery.workers == 4
    assert plan.settings.delivery.rate_limit == 1_000_000
    assert plan.settings.log_level == "error"
    assert reloadable_difference(plan.settings, new).now == frozenset()
