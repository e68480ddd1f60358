"""What users read about the settings is complete and true: the example file, the reference, check-config."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cctv_storaged.config import effective, load_settings
from cctv_storaged.config.draft import Draft
from cctv_storaged.config.reference import settings_reference
from cctv_storaged.config.shape import ALL_KEYS, Key
from cctv_storaged.config.sources import AWS_KEYS, FALLBACKS, VARIABLES
from cctv_storaged.config.yamlfile import read_draft
from tests.unit.config.given import load

PROJECT = Path(__file__).parents[3]
EXAMPLE = PROJECT / "config.example.yaml"
COMMENTED_OUT = re.compile(r"^( *)#(?=\S|  )", re.MULTILINE)  # prose has exactly one blank behind its "#"


def uncommented(text: str) -> str:
    """The example with its commented-out settings in force."""
    return COMMENTED_OUT.sub(r"\1", text)


def key_names(draft: Draft) -> set[str]:
    """The keys that stand in a file, as the models write them."""
    return {".".join(_step(step) for step in key) for key in draft.places.lines}


def _step(step: str | int) -> str:
    return "[]" if isinstance(step, int) else step


def draft_of(folder: Path, text: str) -> Draft:
    path = folder / "all.yaml"
    path.write_text(text)
    draft = read_draft(str(path))
    assert draft.faults == []
    return draft


def test_the_example_says_nothing_but_the_defaults() -> None:
    assert load_settings(EXAMPLE, {}) == load_settings(None, {"STORAGE_BACKEND": "FILESYSTEM"})


def test_every_key_is_in_the_example(tmp_path: Path) -> None:
    once = uncommented(EXAMPLE.read_text())
    names = key_names(draft_of(tmp_path, once)) | key_names(draft_of(tmp_path, uncommented(once)))
    expected = {".".join(key.path) for key in ALL_KEYS if "*" not in key.path}
    assert expected - names == set()


def test_the_example_has_no_key_that_the_settings_do_not_have(tmp_path: Path) -> None:
    """With everything in force it loads; its CA file needs the TLS that is off by default."""
    load(tmp_path, uncommented(EXAMPLE.read_text()), {"MINIO_USE_SSL": "true"})


def test_every_default_in_the_example_has_a_word_of_explanation() -> None:
    """Above each key, or above the group of keys without a blank line between, stands a comment."""
    for block in EXAMPLE.read_text().split("\n\n")[1:]:
        assert block.lstrip().startswith("# "), block


def test_the_reference_is_as_the_models_are() -> None:
    written = (PROJECT / "docs" / "reference" / "settings.md").read_text()
    assert written == settings_reference(), "run scripts/settings_reference.py"


@pytest.mark.parametrize("key", [key for key in ALL_KEYS if key.section is None], ids=lambda key: key.text)
def test_every_key_is_explained_in_the_reference(key: Key) -> None:
    assert key.field.description
    assert f"| `{key.text}` |" in settings_reference()


def test_every_variable_and_credential_is_in_the_reference() -> None:
    text = settings_reference()
    for variable in (*VARIABLES, *FALLBACKS, *AWS_KEYS):
        assert f"`{variable.name}`" in text
        assert variable.credential is None or f"`{variable.credential}`" in text


WITHOUT_SECRETS = """\
host_id: nvr-01
data_dir: /d
backend: S3
api: {allowed_paths: [/srv/a, "/srv/ü 1"], tls_cert: /c, tls_key: /k}
recorders: [{path: /r, layout: "**/{camera}/%s.ts", scan_interval: 1500ms, timezone: Europe/Oslo}]
cameras:
  - {folder: "007", id: 123e4567-e89b-12d3-a456-426614174000, name: "no"}
  - {folder: "1e5"}
  - {folder: "22:00", name: "~"}
s3: {bucket_recordings: recordings, readback_share: 0.5%}
postgres: {host: p, ssl: verify-full, ca_file: /ca}
milestone:
  url: https://m
  camera_map: {gate: "name: Gate"}
  stream_id: {gate: 123e4567-e89b-12d3-a456-426614174000}
delivery: {rate_limit: 1001B/s, window: 22:00-06:00 Europe/Oslo}
retention: {default: {desired: 90m}, per_camera: {"front door": {at_least: 1ms}}}
capacity: {reserve: 1025B}
"""


def test_what_check_config_prints_is_a_file_that_gives_the_same_settings(tmp_path: Path) -> None:
    given_settings = load(tmp_path, WITHOUT_SECRETS)
    assert load(tmp_path, effective(given_settings)) == given_settings
    assert load(tmp_path, effective(load_settings(None, {}))) == load_settings(
        None, {"STORAGE_BACKEND": "FILESYSTEM"}
    )


@settings(deadline=None, max_examples=50)  # each writes and reads two files
@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
def test_any_camera_name_comes_through_what_check_config_prints(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    base = load(folder, "cameras: [{folder: gate, name: x}]")
    camera = base.cameras[0].model_copy(update={"name": name})
    renamed = base.model_copy(update={"cameras": (camera,)})
    assert load(folder, effective(renamed)).cameras[0].name == name
