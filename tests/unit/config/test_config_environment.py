"""Environment, files named by it, and credentials: each says its key, in a known order of strength."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from cctv_storaged.config import Settings, load_settings
from cctv_storaged.config.places import KeyPath, key_path
from cctv_storaged.config.sources import AWS_KEYS, FALLBACKS, VARIABLES, Variable
from tests.unit.config.given import faults_of, load, only_fault

S3_BACKEND = {"STORAGE_BACKEND": "S3", "S3_BUCKET_RECORDINGS": "recordings"}


def value_at(settings: Settings, key: KeyPath) -> str:
    """What the settings hold there, as the text it would be written as."""
    value: object = settings
    for step in key:
        value = (
            value[step] if isinstance(value, tuple) and isinstance(step, int) else getattr(value, str(step))
        )
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value).lower() if isinstance(value, bool) else str(value)


SPEC = {
    "STORAGE_BACKEND": ("backend", "MINIO"),
    "STORAGE_MODE": ("mode", "LOCAL"),
    "MINIO_ENDPOINT": ("minio.endpoint", "minio:9000"),
    "MINIO_ACCESS_KEY": ("minio.access_key", "storage-service"),
    "MINIO_SECRET_KEY": ("minio.secret_key", "changeme_storage"),
    "MINIO_USE_SSL": ("minio.use_ssl", "false"),
    "MINIO_BUCKET_RECORDINGS": ("minio.bucket_recordings", "cctv-recordings"),
    "MINIO_BUCKET_EXPORTS": ("minio.bucket_exports", "cctv-exports"),
    "MINIO_BUCKET_THUMBNAILS": ("minio.bucket_thumbnails", "cctv-thumbnails"),
    "POSTGRES_HOST": ("postgres.host", "postgres"),
    "POSTGRES_PORT": ("postgres.port", "5432"),
    "POSTGRES_DB": ("postgres.db", "cctv"),
    "POSTGRES_USER": ("postgres.user", "cctv"),
    "POSTGRES_PASSWORD": ("postgres.password", "changeme"),
    "PORT": ("api.port", "8082"),
    "LOG_LEVEL": ("log_level", "info"),
}
"""The environment of the specification; its mode BOTH waits for the issue that builds it."""


def test_the_environment_of_the_specification_works_as_it_stands() -> None:
    settings = load_settings(None, {name: value for name, (_, value) in SPEC.items()})
    assert {key: value_at(settings, key_path(key)) for key, _ in SPEC.values()} == dict(SPEC.values())


EXAMPLES = {
    "STORAGE_MODE": "LOCAL",
    "STORAGE_BACKEND": "S3",
    "HOST_ID": "nvr-99",
    "CONFIG_VERSION": "rev 7",
    "DATA_DIR": "/elsewhere",
    "LOG_LEVEL": "error",
    "LOG_FORMAT": "json",
    "HOST": "::1",
    "PORT": "9999",
    "API_AUTH": "none",
    "RECORDINGS_PATH": "/recordings",
    "RECORDINGS_LAYOUT": "{camera}/%s.ts",
    "RECORDINGS_TIMEZONE": "Europe/Oslo",
    "FILESYSTEM_PATH": "/store",
    "MINIO_ENDPOINT": "m:1",
    "MINIO_ACCESS_KEY": "access",
    "MINIO_SECRET_KEY": "secret",
    "MINIO_USE_SSL": "true",
    "MINIO_BUCKET_RECORDINGS": "bucket-r",
    "MINIO_BUCKET_EXPORTS": "bucket-e",
    "MINIO_BUCKET_THUMBNAILS": "bucket-t",
    "S3_ENDPOINT_URL": "https://s3.example",
    "S3_REGION": "eu-north-1",
    "S3_ACCESS_KEY": "access",
    "S3_SECRET_KEY": "secret",
    "S3_SESSION_TOKEN": "token",
    "S3_BUCKET_RECORDINGS": "bucket-r",
    "S3_BUCKET_EXPORTS": "bucket-e",
    "S3_BUCKET_THUMBNAILS": "bucket-t",
    "POSTGRES_HOST": "db.example",
    "POSTGRES_PORT": "6543",
    "POSTGRES_DB": "other",
    "POSTGRES_USER": "someone",
    "POSTGRES_PASSWORD": "secret",
    "POSTGRES_SSL": "require",
    "MILESTONE_URL": "https://mgmt.example",
    "MILESTONE_USERNAME": "someone",
    "MILESTONE_PASSWORD": "secret",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-2",
    "AWS_ENDPOINT_URL_S3": "https://s3.example:1",
    "AWS_ENDPOINT_URL": "https://s3.example:2",
    "AWS_CA_BUNDLE": "/ca.pem",
    "AWS_ACCESS_KEY_ID": "access",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
}

COMPANIONS: Mapping[str, Mapping[str, str]] = {
    "STORAGE_BACKEND": {"S3_BUCKET_RECORDINGS": "recordings"},
    "POSTGRES": {"POSTGRES_HOST": "p"},
    "MILESTONE": {"MILESTONE_URL": "https://m"},
    "AWS": S3_BACKEND | {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
    "S3": S3_BACKEND | {"S3_ACCESS_KEY": "x", "S3_SECRET_KEY": "x"},
    "MINIO": {"STORAGE_BACKEND": "FILESYSTEM"},
}
"""What a variable, or one of that family, needs beside it."""


def companions(variable: Variable) -> dict[str, str]:
    family = variable.name.partition("_")[0]
    return dict(COMPANIONS.get(variable.name) or COMPANIONS.get(family, {}))


every_variable = pytest.mark.parametrize(
    "variable", [*VARIABLES, *FALLBACKS, *AWS_KEYS], ids=lambda variable: variable.name
)
strong_variables = pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)


@every_variable
def test_each_variable_sets_its_key(variable: Variable) -> None:
    example = EXAMPLES[variable.name]
    settings = load_settings(None, companions(variable) | {variable.name: example})
    assert value_at(settings, variable.key) == example


@every_variable
def test_each_variable_may_name_a_file_instead(tmp_path: Path, variable: Variable) -> None:
    example = EXAMPLES[variable.name]
    (tmp_path / "value").write_text(f"{example}\n")
    environ = companions(variable)
    environ.pop(variable.name, None)
    settings = load_settings(None, environ | {f"{variable.name}_FILE": str(tmp_path / "value")})
    assert value_at(settings, variable.key) == example


@every_variable
def test_a_variable_that_is_set_to_nothing_is_not_set(variable: Variable) -> None:
    base = S3_BACKEND if variable in {*FALLBACKS, *AWS_KEYS} else {}
    nothing = {variable.name: "", f"{variable.name}_FILE": ""}
    assert load_settings(None, nothing | base) == load_settings(None, base)


@strong_variables
def test_each_variable_stands_over_the_file(tmp_path: Path, variable: Variable) -> None:
    file = {
        "mode": "LOCAL", "backend": "MINIO", "host_id": "other", "data_dir": "/d", "log_level": "debug",
        "config_version": "x",
        "log_format": "plain", "api": "{host: 127.0.0.2, port: 1, auth: token}",
        "recorders": "[{path: /r, layout: x, timezone: UTC, watch: poll}]", "filesystem": "{path: /f}",
        "minio": "{endpoint: 'x:1', access_key: x, secret_key: x, use_ssl: true, bucket_recordings: xxx, "
                 "bucket_exports: xxx, bucket_thumbnails: xxx}",
        "s3": "{endpoint_url: 'http://x', region: x, access_key: x, secret_key: x, session_token: x, "
              "bucket_recordings: xxx, bucket_exports: xxx, bucket_thumbnails: xxx}",
        "postgres": "{host: x, port: 1, db: x, user: x, password: x, ssl: disable}",
        "milestone": "{url: 'https://x', username: x, password: x}",
    }  # fmt: skip
    text = "\n".join(f"{key}: {value}" for key, value in file.items())
    settings = load(tmp_path, text, {variable.name: EXAMPLES[variable.name]})
    assert value_at(settings, variable.key) == EXAMPLES[variable.name]
    assert settings.recorders[0].watch == "poll"


SITE = "milestone: {url: 'https://m', username: storage, password: p}"


def test_the_mode_of_the_environment_stands_over_that_of_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "mode: BOTH", {"STORAGE_MODE": "LOCAL"}).mode == "LOCAL"
    assert load(tmp_path, f"mode: LOCAL\n{SITE}", {"STORAGE_MODE": "BOTH"}).mode == "BOTH"


@strong_variables
def test_a_variable_and_its_file_together_are_refused(tmp_path: Path, variable: Variable) -> None:
    (tmp_path / "value").write_text("x")
    environ = {variable.name: EXAMPLES[variable.name], f"{variable.name}_FILE": str(tmp_path / "value")}
    faults = faults_of(tmp_path, "", companions(variable) | environ)
    assert [fault.where for fault in faults] == [variable.name]
    assert "one of the two" in faults[0].hint


def test_a_switch_is_written_in_the_usual_ways() -> None:
    for text, expected in (("true", True), ("1", True), ("YES", True), ("off", False), ("False", False)):
        assert load_settings(None, {"MINIO_USE_SSL": text}).minio.use_ssl is expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "abc", "whole number"),
        ("PORT", "70000", "at most 65535"),
        ("PORT", "٣", "whole number"),
        ("POSTGRES_PORT", "tcp://10.0.0.1:5432", "Kubernetes"),
        ("MINIO_USE_SSL", "maybe", "true or false"),
        ("STORAGE_MODE", "NONE", "LOCAL, MILESTONE, BOTH"),
        ("HOST_ID", "a\udcff", "UTF-8"),
        ("DATA_DIR", "/a\udcff", "UTF-8"),
        ("RECORDINGS_TIMEZONE", "Mars", "time zone"),
    ],
)
def test_a_wrong_value_is_told_with_the_variable(tmp_path: Path, name: str, value: str, words: str) -> None:
    fault = next(fault for fault in faults_of(tmp_path, "", {name: value}) if fault.where == name)
    assert words in str(fault)


def test_words_may_be_written_in_any_case() -> None:
    settings = load_settings(
        None, {"STORAGE_MODE": "local", "STORAGE_BACKEND": "Filesystem", "LOG_LEVEL": "WARN"}
    )
    assert (settings.mode, settings.backend, settings.log_level) == ("LOCAL", "FILESYSTEM", "warning")


def test_the_environment_of_a_whole_host_is_not_taken_amiss(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {
        "PATH": "/bin",
        "HOME": "/root",
        "MINIO_ROOT_USER": "x",
        "POSTGRES_INITDB_ARGS": "-x",
        "S3": "1",
    }
    assert load_settings(None, others) == load_settings(None, {})
    monkeypatch.setenv("LOG_LEVEL", "error")
    assert load_settings(None, {}).log_level == "info"  # only the mapping handed in counts


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "secret"),
    [(b"s\n", "s"), (b"s\r\n", "s"), (b"s", "s"), (b" s \n\n", " s \n"), (b"a\nb\n", "a\nb")],
)
def test_one_newline_at_the_end_of_a_file_is_dropped(tmp_path: Path, content: bytes, secret: str) -> None:
    (tmp_path / "value").write_bytes(content)
    settings = load_settings(None, {"MINIO_SECRET_KEY_FILE": str(tmp_path / "value")})
    assert settings.minio.secret_key.get_secret_value() == secret


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"", "empty"), (b"\n", "empty"), (b"\xff", "UTF-8"), (b"x" * 70_000, "64 KiB")],
)
def test_a_file_that_gives_no_value_is_told(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "value"
    if content is not None:
        path.write_bytes(content)
    fault = only_fault(tmp_path, "", {"MINIO_SECRET_KEY_FILE": str(path)})
    assert fault.where == "MINIO_SECRET_KEY_FILE"
    assert words in fault.message


def test_a_folder_or_an_impossible_name_instead_of_a_file_is_told(tmp_path: Path) -> None:
    for path in (str(tmp_path), "/a\0b"):
        assert only_fault(tmp_path, "", {"MINIO_SECRET_KEY_FILE": path}).where == "MINIO_SECRET_KEY_FILE"


def test_a_secret_put_where_its_files_name_belongs_is_not_printed(tmp_path: Path) -> None:
    text = "milestone: {url: 'https://m', password_file: c4nary}"
    faults = faults_of(tmp_path, text, {"S3_SECRET_KEY_FILE": "c4nary"})
    assert [fault.where for fault in faults] == [
        "config.yaml:1: milestone.password_file",
        "S3_SECRET_KEY_FILE",
    ]
    assert "c4nary" not in str(faults)


# --- credentials --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable",
    [variable for variable in VARIABLES if variable.credential],
    ids=lambda variable: variable.name,
)
def test_a_credential_stands_over_everything(tmp_path: Path, variable: Variable) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / str(variable.credential)).write_text("from-systemd\n")
    environ = companions(variable) | {variable.name: "weaker", "CREDENTIALS_DIRECTORY": str(credentials)}
    assert value_at(load_settings(None, environ), variable.key) == "from-systemd"


def test_the_documented_credentials_are_known() -> None:
    assert {variable.credential for variable in VARIABLES if variable.credential} == {
        *("minio_access_key", "minio_secret_key", "s3_access_key", "s3_secret_key", "s3_session_token"),
        *("postgres_password", "milestone_password"),
    }


def test_credentials_that_are_not_there_are_not_given(tmp_path: Path) -> None:
    (tmp_path / "api_token").write_text("of another part")
    assert load_settings(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == load_settings(None, {})
    assert load_settings(None, {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) == load_settings(None, {})


def test_a_credential_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "minio_secret_key").symlink_to(tmp_path / "nowhere")
    fault = only_fault(tmp_path, "", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert fault.where == "credential minio_secret_key"


def test_the_milestone_password_may_lie_in_the_file_that_the_settings_name(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from-file\n")
    text = f"milestone:\n  url: https://m\n  password_file: {tmp_path}/password\n"
    settings = load(tmp_path, text)
    assert settings.milestone is not None
    assert settings.milestone.password.get_secret_value() == "from-file"
    fault = only_fault(tmp_path, text, {"MILESTONE_PASSWORD": "x"})
    assert fault.where == "config.yaml:3: milestone.password_file"
    assert "one of the two" in fault.hint


# --- the AWS variables --------------------------------------------------------------------------------------

AWS = {
    "AWS_ACCESS_KEY_ID": "aws-access",
    "AWS_SECRET_ACCESS_KEY": "aws-secret",
    "AWS_SESSION_TOKEN": "aws-token",
    "AWS_REGION": "aws-region",
    "AWS_ENDPOINT_URL": "https://aws.example",
}


def test_the_aws_variables_fill_in_what_nothing_else_says(tmp_path: Path) -> None:
    s3 = load(tmp_path, "s3: {region: mine}", S3_BACKEND | AWS).s3
    assert s3.region == "mine"
    assert s3.endpoint_url == "https://aws.example"
    assert s3.access_key.get_secret_value() == "aws-access"


def test_the_more_particular_aws_variable_wins() -> None:
    particular = {"AWS_ENDPOINT_URL_S3": "https://s3.aws.example", "AWS_DEFAULT_REGION": "default-region"}
    s3 = load_settings(None, S3_BACKEND | AWS | particular).s3
    assert (s3.endpoint_url, s3.region) == ("https://s3.aws.example", "aws-region")


def test_the_token_of_one_identity_never_meets_the_key_of_another() -> None:
    mine = {"S3_ACCESS_KEY": "mine", "S3_SECRET_KEY": "mine"}
    s3 = load_settings(None, S3_BACKEND | AWS | mine).s3
    assert s3.access_key.get_secret_value() == "mine"
    assert s3.session_token.get_secret_value() == ""


def test_the_aws_variables_of_a_host_do_not_matter_to_other_backends() -> None:
    settings = load_settings(None, AWS | {"AWS_ENDPOINT_URL": "not a URL for us"})
    assert settings.s3 == load_settings(None, {}).s3


# --- the one recorder that the environment can speak about --------------------------------------------------


def test_the_recordings_path_is_the_one_recorder(tmp_path: Path) -> None:
    (recorder,) = load_settings(None, {"RECORDINGS_PATH": "/recordings"}).recorders
    assert recorder.path == Path("/recordings")
    (recorder,) = load(tmp_path, "recorders: [{path: /a, watch: poll}]", {"RECORDINGS_PATH": "/b"}).recorders
    assert (recorder.path, recorder.watch) == (Path("/b"), "poll")
    (recorder,) = load(tmp_path, "recorders: []", {"RECORDINGS_PATH": "/b"}).recorders
    assert recorder.path == Path("/b")


def test_a_layout_alone_speaks_about_the_default_folder() -> None:
    (recorder,) = load_settings(None, {"RECORDINGS_LAYOUT": "{camera}/%s.ts", "DATA_DIR": "/d"}).recorders
    assert (recorder.path, recorder.layout) == (Path("/d/recordings"), "{camera}/%s.ts")


def test_the_recordings_path_is_refused_where_the_file_lists_several(tmp_path: Path) -> None:
    fault = only_fault(tmp_path, "recorders: [{path: /a}, {path: /b}]", {"RECORDINGS_PATH": "/c"})
    assert fault.where == "RECORDINGS_PATH"
