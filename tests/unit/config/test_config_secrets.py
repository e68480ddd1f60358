"""A secret is in the settings, in the set for the log's filter, and in no text that leaves the program."""

import copy
import json
import pickle
import traceback
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from cctv_storaged.config import Minio, Settings, effective, load_settings, secrets_of
from cctv_storaged.config.shape import ALL_KEYS, Key
from cctv_storaged.config.sources import AWS_KEYS, VARIABLES
from cctv_storaged.errors import ConfigError
from tests.unit.config.given import load

CANARY = "c4nary"
SECRETS = [key for key in ALL_KEYS if key.secret]


def with_every_secret(folder: Path) -> tuple[Settings, frozenset[str]]:
    """Settings in which each secret has a canary of its own."""
    environ = {"STORAGE_BACKEND": "S3", "S3_BUCKET_RECORDINGS": "recordings", "POSTGRES_HOST": "p"}
    named = {variable.name: f"{CANARY}-{variable.name}" for variable in VARIABLES if variable.credential}
    text = f"milestone: {{url: 'https://m', onvif: {{password: {CANARY}-onvif}}}}"
    return load(folder, text, environ | named), frozenset(named.values()) | {f"{CANARY}-onvif"}


def test_every_secret_of_the_models_is_tried_here(tmp_path: Path) -> None:
    _, canaries = with_every_secret(tmp_path)
    assert len(canaries) == len(SECRETS)


def test_the_set_for_the_log_filter_has_every_secret(tmp_path: Path) -> None:
    settings, canaries = with_every_secret(tmp_path)
    assert secrets_of(settings) == canaries
    assert secrets_of(load_settings(None, {})) == frozenset()


def test_no_text_made_of_settings_has_a_secret(tmp_path: Path) -> None:
    settings, _ = with_every_secret(tmp_path)
    texts = [
        effective(settings),
        repr(settings),
        str(settings),
        f"{settings}",
        repr(settings.s3),
        settings.model_dump_json(),
        str(settings.model_dump()),
        json.dumps(settings.model_dump(mode="json")),
        repr(copy.deepcopy(settings)),
        repr(vars(settings.minio)),
    ]
    assert not [text for text in texts if CANARY in text]


def test_what_is_in_force_shows_stars_for_what_is_set_only(tmp_path: Path) -> None:
    settings, canaries = with_every_secret(tmp_path)
    assert effective(settings).count("'********'") == len(canaries)
    assert "**" not in effective(load_settings(None, {}))
    assert yaml.safe_load(effective(settings))["s3"]["secret_key"] == "********"


def test_secrets_survive_a_copy(tmp_path: Path) -> None:
    settings, canaries = with_every_secret(tmp_path)
    assert secrets_of(pickle.loads(pickle.dumps(settings))) == canaries


BROKEN = [
    "{v}: {v}",
    "[{v}]",
    "{{{v}: 1}}",
    "12345678901234567890{v}",
    "!{v} x",
    "*{v}",
    "&{v}",
    "@{v}",
    '"{v}',
    "{v}\x07",
]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("key", SECRETS, ids=lambda key: key.text)
def test_no_fault_shows_a_secret_given_wrongly(tmp_path: Path, key: Key, value: str) -> None:
    written = value.format(v=CANARY)
    for name in reversed(key.path[1:]):
        written = f"{{{name}: {written}}}"
    assert_refused_silently(tmp_path, f"zzz: 1\n{key.path[0]}: {written}\n")


@pytest.mark.parametrize("key", SECRETS, ids=lambda key: key.text)
def test_no_fault_shows_a_secret_that_looks_like_a_number(tmp_path: Path, key: Key) -> None:
    written = "4815162342"
    for name in reversed(key.path[1:]):
        written = f"{{{name}: {written}}}"
    assert_refused_silently(tmp_path, f"{key.path[0]}: {written}\n", canary="4815162342")


def test_even_the_error_below_ours_shows_no_secret() -> None:
    with pytest.raises(ValidationError) as refused:
        Minio.model_validate({"secret_key": 4815162342, "use_ssl": CANARY})
    assert "4815162342" not in str(refused.value)
    assert CANARY not in repr(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        f"minio: {CANARY}",
        f"minio: [{CANARY}]",
        f"minio: {{secret_kye: {CANARY}}}",
        f"minio: {{secret_key: x, secret_key: {CANARY}}}",
        f"minio: {{endpoint: 'user:{CANARY}@minio:9000'}}",
        f"minio: {{endpoint: 'http://user:{CANARY}@minio:9000'}}",
        f"s3: {{endpoint_url: 'https://user:{CANARY}@s3.example'}}",
        f"s3: {{endpoint_url: 'https://user:{CANARY}@[s3.example'}}",
        f"postgres: {{host: 'postgres://cctv:{CANARY}@db/cctv'}}",
        f"postgres: {CANARY}",
        f"milestone: {{url: 'https://user:{CANARY}@m'}}",
        f"secret_key: {CANARY}",
    ],
)
def test_no_fault_shows_a_secret_in_the_wrong_place(tmp_path: Path, text: str) -> None:
    assert_refused_silently(tmp_path, text)


@pytest.mark.parametrize(
    "name", [variable.name for variable in (*VARIABLES, *AWS_KEYS) if variable.credential]
)
def test_no_fault_shows_a_secret_of_the_environment(tmp_path: Path, name: str) -> None:
    environ = {name: CANARY, f"{name}_FILE": CANARY, "PORT": "x", "STORAGE_BACKEND": "MINIO"}
    assert_refused_silently(tmp_path, "minio: 5", environ)
    assert_refused_silently(tmp_path, "", {name: f"{CANARY}\udcff", "PORT": "x"})


def assert_refused_silently(
    folder: Path, text: str, environ: dict[str, str] | None = None, canary: str = CANARY
) -> None:
    """Refused, and neither the faults nor a traceback with everything chained to it shows the canary."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError) as refused:
        load_settings(path, environ or {})
    told = (
        str(refused.value) + repr(refused.value.faults) + "".join(traceback.format_exception(refused.value))
    )
    assert canary not in told
