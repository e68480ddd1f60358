"""The Ansible role: files that YAML can read, variables that are there, settings that the daemon takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cctv_storaged.config import load_settings
from cctv_storaged.config.sources import VARIABLES
from cctv_storaged.errors import ConfigError

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "packaging" / "ansible" / "roles" / "cctv_storaged"
FILES = sorted((ROOT / "packaging" / "ansible").rglob("*.yml"))
SECRETS = {"S3_ACCESS_KEY": "set", "S3_SECRET_KEY": "set"}


def defaults() -> dict[str, Any]:
    return dict(yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()))


def settings_file(folder: Path, **more: Any) -> Path:
    """As the task "Write the settings" puts it together."""
    given = {**defaults(), **more}
    document = {
        "host_id": given["cctv_storaged_host_id"],
        "config_version": str(given["cctv_storaged_config_version"]),
        "recorders": given["cctv_storaged_recorders"],
        "cameras": given["cctv_storaged_cameras"],
        **given["cctv_storaged_settings"],
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def test_every_file_is_yaml_and_every_task_has_a_name() -> None:
    assert len(FILES) >= 4
    for file in FILES:
        read = yaml.safe_load(file.read_text())
        assert read, file
        if file.parent.name in ("tasks", "handlers"):
            assert all(task["name"] and any("ansible.builtin." in key for key in task) for task in read)


def test_what_the_defaults_say_is_what_the_daemon_takes(tmp_path: Path) -> None:
    settings = load_settings(settings_file(tmp_path, cctv_storaged_host_id="nvr-01"), SECRETS)
    assert (settings.host_id, settings.config_version) == ("nvr-01", "unnamed")
    assert settings.postgres is not None


def test_a_setting_that_is_none_is_found_before_it_reaches_a_host(tmp_path: Path) -> None:
    wrong = {**defaults()["cctv_storaged_settings"], "retension": {}}
    with pytest.raises(ConfigError, match="retension"):
        load_settings(
            settings_file(tmp_path, cctv_storaged_settings=wrong, cctv_storaged_host_id="a"), SECRETS
        )


def test_every_variable_and_handler_that_is_named_is_there() -> None:
    tasks = (ROLE / "tasks" / "main.yml").read_text()
    named = set(re.findall(r"\bcctv_storaged_\w+", tasks))
    given = set(defaults()) | {"cctv_storaged_file", "cctv_storaged_installed"}  # the tasks' own
    assert named == given
    handlers = {each["name"] for each in yaml.safe_load((ROLE / "handlers" / "main.yml").read_text())}
    assert {task["notify"] for task in yaml.safe_load(tasks) if "notify" in task} == handlers


def test_the_host_is_named_before_the_package_starts_the_daemon() -> None:
    tasks = [task["name"] for task in yaml.safe_load((ROLE / "tasks" / "main.yml").read_text())]
    assert tasks.index("Name the host before its first start") < tasks.index("Install the package")


def test_credentials_are_named_as_the_daemon_asks_for_them() -> None:
    """The role makes a secret's file and its variable from one name."""
    secret = [variable for variable in VARIABLES if variable.credential is not None]
    assert secret
    assert all(variable.name.lower() == variable.credential for variable in secret)
