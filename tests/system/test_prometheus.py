"""A real Prometheus and a real daemon: scraped as the guide says, rules that fire and recover, dashboard."""

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.alert_rules import RULES, TESTS, rules
from scripts.grafana_dashboard import expressions
from tests.daemon import PROJECT, Daemon
from tests.footage import cached_ts
from tests.services.ports import free_port
from tests.services.prometheus import Prometheus, promtool, running

pytestmark = pytest.mark.timeout(600)

GUIDE = PROJECT / "docs" / "guide" / "monitoring.md"
CERTIFICATES = PROJECT / "tests" / "services" / "certificates"


def test_the_rules_are_sound_and_each_fires_and_recovers() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)
    promtool("test", "rules", TESTS)


def test_a_rule_that_does_not_fire_is_found_by_its_test(tmp_path: Path) -> None:
    """Else a test without a word would do."""
    document = yaml.safe_load(TESTS.read_text())
    document["tests"] = [test for test in document["tests"] if test["name"] == "CctvStorageLoss"]
    (tmp_path / TESTS.name).write_text(yaml.safe_dump(document))
    spoilt = RULES.read_text().replace('alarm="loss"} > 0', 'alarm="loss"} > 1')
    (tmp_path / RULES.name).write_text(spoilt)
    with pytest.raises(AssertionError, match="CctvStorageLoss"):
        promtool("test", "rules", tmp_path / TESTS.name)


class Recorder:
    """Writes a segment a second while it is on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.on = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Recorder":
        self.on.set()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.on.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(1.0):
            if self.on.is_set():
                self._record(datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1))

    def _record(self, start: datetime) -> None:
        path = self._folder / "gate" / f"{start:%Y-%m-%d}" / f"{start:%H-%M-%S}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        shutil.copyfile(cached_ts(seconds=1.0), part)
        os.replace(part, path)


def scrape_config(port: int, token: Path) -> dict[str, Any]:
    """The guide's, of this host."""
    example = re.search(r"```yaml\n(scrape_configs:.*?)```", GUIDE.read_text(), re.S)
    assert example is not None
    document = yaml.safe_load(example[1])
    [scrape] = document["scrape_configs"]
    assert scrape["authorization"]["credentials_file"] and scrape["tls_config"]["ca_file"]
    scrape["authorization"]["credentials_file"] = str(token)
    scrape["tls_config"]["ca_file"] = str(CERTIFICATES / "ca.pem")
    scrape["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    return dict(scrape)


def hasty_rules(folder: Path) -> Path:
    """The same, that wait for a second where they wait for minutes."""
    document = yaml.safe_load(RULES.read_text())
    for rule in document["groups"][0]["rules"]:
        if "for" in rule:
            rule["for"] = "1s"
    target = folder / "rules.yml"
    target.write_text(yaml.safe_dump(document))
    return target


def with_token(daemon: Daemon, folder: Path) -> Path:
    """A file with a token that reads; made before the daemon speaks TLS."""
    daemon.start()
    _, admin = daemon.request("POST", "/tokens", body={"name": "admin", "scopes": ["admin"]})
    headers = {"Authorization": f"Bearer {admin['secret']}"}
    _, made = daemon.request(
        "POST", "/tokens", body={"name": "prometheus", "scopes": ["read"]}, headers=headers
    )
    file = folder / "token"
    file.write_text(made["secret"])
    assert daemon.stop() == 0
    return file


@contextmanager
def scraped(
    make_daemon: Callable[..., Daemon], folder: Path
) -> Iterator[tuple[Daemon, Recorder, Prometheus]]:
    """A daemon that asks for a token and speaks TLS, its recorder, and a Prometheus that scrapes it."""
    daemon = make_daemon("host", alerts={"silent_after": {"gate": "5s"}}, thumbnails={"on_ingest": False})
    token, port = with_token(daemon, folder), free_port()
    certificate = str(CERTIFICATES / "server.pem")
    daemon.settings["api"] = {
        "port": port,
        "protect_metrics": True,
        "tls_cert": certificate,
        "tls_key": certificate,
    }
    daemon.start()
    with (
        Recorder(daemon.recordings) as recorder,
        running(folder / "prometheus", scrape_config(port, token), hasty_rules(folder)) as prometheus,
    ):
        yield daemon, recorder, prometheus


def test_a_recorder_that_stops_and_a_daemon_that_is_gone_are_alerts_until_they_are_back(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    with scraped(make_daemon, tmp_path) as (daemon, recorder, prometheus):
        prometheus.wait(lambda: prometheus.health() == ["up"], "the target is up")
        prometheus.wait(lambda: prometheus.query("storage_segments_count > 2"), "segments are counted")
        for expression in expressions():
            prometheus.query(expression)  # one that does not parse is refused

        recorder.on.clear()
        prometheus.wait(lambda: "CctvStorageCameraSilent" in prometheus.firing(), "the silence is told")
        said = prometheus.firing()["CctvStorageCameraSilent"]["annotations"]
        assert said["summary"].endswith("the alarm camera_silent sounds (1)")
        assert "look at the camera" in said["description"]
        recorder.on.set()
        prometheus.wait(lambda: "CctvStorageCameraSilent" not in prometheus.firing(), "it is over")

        assert daemon.stop() == 0
        prometheus.wait(lambda: "CctvStorageDown" in prometheus.firing(), "the daemon is missed")
        daemon.start()
        prometheus.wait(lambda: "CctvStorageDown" not in prometheus.firing(), "it is back")
        prometheus.wait(lambda: prometheus.health() == ["up"], "the target is up again")
