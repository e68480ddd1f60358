"""The hash of the settings in force: the same for the same, whoever wrote it, and no word of a secret."""

from pathlib import Path

import pytest

from cctv_storaged.config import fingerprint_of
from cctv_storaged.fleetconfig import ConfigurationInForce
from cctv_storaged.metrics import Metrics
from tests.unit.config.given import load

FIRST = """\
host_id: nvr-01
config_version: rev 1
data_dir: /d
backend: S3
s3: {endpoint_url: 'https://s3', access_key: one, secret_key: a-secret, bucket_recordings: footage}
retention: {per_camera: {gate: {at_least: 1d}, yard: {at_most: 48h}}}
"""
SAME = """\
retention: {per_camera: {yard: {at_most: 2d}, gate: {at_least: 24h}}}
s3: {secret_key: another, bucket_recordings: footage, access_key: two, endpoint_url: 'https://s3'}
backend: S3
data_dir: /d
config_version: rev 2
host_id: nvr-02
log_level: info
"""


def test_it_is_the_same_for_settings_that_mean_the_same(tmp_path: Path) -> None:
    assert fingerprint_of(load(tmp_path, FIRST)) == fingerprint_of(load(tmp_path, SAME))


@pytest.mark.parametrize(
    "change",
    [("48h", "49h"), ("footage", "other"), ("https://s3", "https://s4"), ("data_dir: /d", "data_dir: /e")],
)
def test_it_is_another_with_any_setting_that_changes(tmp_path: Path, change: tuple[str, str]) -> None:
    other = load(tmp_path, FIRST.replace(*change))
    assert fingerprint_of(load(tmp_path, FIRST)) != fingerprint_of(other)


def samples(metrics: Metrics, name: str) -> list[tuple[dict[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    ]


def test_the_metric_names_the_one_in_force_and_a_reload_changes_it(tmp_path: Path) -> None:
    metrics, first = Metrics(), load(tmp_path, FIRST)
    configuration = ConfigurationInForce(first, metrics)
    second = load(tmp_path, FIRST.replace("rev 1", "rev 3").replace("48h", "49h"))
    configuration.change(second, frozenset({"s3.endpoint_url", "api.port"}))
    now = configuration.now
    assert (now.version, now.hash) == ("rev 3", fingerprint_of(second))
    assert now.waiting == ("api.port", "s3.endpoint_url")
    assert samples(metrics, "storage_config_info") == [({"version": "rev 3", "hash": now.hash}, 1.0)]
    assert samples(metrics, "storage_config_waiting") == [({}, 2.0)]
