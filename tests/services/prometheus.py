"""A real Prometheus for tests: on loopback, in a temporary folder, always stopped. And promtool."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.services.ports import free_port

UNPACKED = Path(__file__).parents[2] / "build" / "prometheus" / "usr" / "bin"
"""Where scripts/setup puts it."""
PATIENCE_S = 90.0


def program(name: str) -> str:
    """`prometheus` or `promtool`."""
    found = UNPACKED / name
    there = str(found) if found.exists() else shutil.which(name)
    assert there is not None, f"{name} is not there: scripts/setup system"
    return there


def promtool(*words: str | Path) -> str:
    """What it prints; an AssertionError with that where it fails."""
    done = subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(slots=True, kw_only=True)
class Prometheus:
    """One that runs."""

    url: str
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its API; AssertionError for a refusal."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as exc:
            raise AssertionError(f"{url}: {exc.read().decode()}") from exc
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def firing(self) -> dict[str, dict[str, Any]]:
        """Alerts that fire, by name."""
        alerts = self.ask("alerts")["alerts"]
        return {each["labels"]["alertname"]: each for each in alerts if each["state"] == "firing"}

    def health(self) -> list[str]:
        """Of each target."""
        return [each["health"] for each in self.ask("targets")["activeTargets"]]

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert self.process.poll() is None, self.log.read_text()
            if condition():
                return
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.log.read_text()[-4000:]}"
            time.sleep(0.2)


@contextmanager
def running(folder: Path, scrape: dict[str, Any], rules: Path) -> Iterator[Prometheus]:
    """One that scrapes every second and evaluates as often."""
    folder.mkdir()
    config, port = folder / "prometheus.yml", free_port()
    often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config.write_text(
        yaml.safe_dump({"global": often, "rule_files": [str(rules)], "scrape_configs": [scrape]})
    )
    promtool("check", "config", config)
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={"PATH": "/usr/bin:/bin", "GOMAXPROCS": "1"},
            start_new_session=True,
        )
    found = Prometheus(url=f"http://127.0.0.1:{port}", log=log, process=process)
    try:
        found.wait(lambda: _answers(found), "Prometheus answers")
        yield found
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _answers(prometheus: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
