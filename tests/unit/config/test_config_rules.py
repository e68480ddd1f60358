"""Settings that contradict each other are refused before anything is opened."""

from pathlib import Path

import pytest

from cctv_storaged.config import folder_faults, is_loopback, load_settings
from cctv_storaged.errors import ConfigError
from tests.unit.config.given import faults_of, load, only_fault

MINIO = "backend: MINIO\nminio: {endpoint: 'm:9', access_key: a, secret_key: b}\n"


@pytest.mark.parametrize("mode", ["MILESTONE", "BOTH"])
@pytest.mark.parametrize(
    ("block", "missing"),
    [
        ("", "url"),
        ("milestone: {url: 'https://m'}", "username"),
        ("milestone: {url: 'https://m', username: u}", "password"),
    ],
)
def test_the_modes_with_milestone_need_to_know_it(
    tmp_path: Path, mode: str, block: str, missing: str
) -> None:
    fault = only_fault(tmp_path, f"mode: {mode}\n{block}\n")
    assert f"milestone.{missing}" in fault.where
    assert fault.message == f"is needed, as mode is {mode}"


def test_a_retrieval_by_event_needs_the_event(tmp_path: Path) -> None:
    fault = only_fault(tmp_path, "milestone: {url: 'https://m', ingest: event_retrieval}")
    assert fault.where.endswith("milestone.retrieval_event_id")


@pytest.mark.parametrize(
    ("onvif", "missing"),
    [
        ("enabled: true, username: a", "password"),
        ("enabled: true, password: canary", "username"),
        ("enabled: true, bind: nvr-01, username: a", "password"),
        ("enabled: true, bind: 127.0.0.1, password: canary", "username"),
    ],
)
def test_an_onvif_device_that_asks_for_no_log_in_is_refused(tmp_path: Path, onvif: str, missing: str) -> None:
    fault = only_fault(tmp_path, f"milestone: {{url: 'https://m', onvif: {{{onvif}}}}}")
    assert fault.where.endswith(f"milestone.onvif.{missing}")


@pytest.mark.parametrize(
    "onvif",
    [
        "enabled: false",
        "enabled: true, bind: 127.0.0.1",
        "enabled: true, username: a, password: canary",
    ],
)
def test_an_onvif_device_with_a_log_in_or_for_this_machine_alone_is_accepted(
    tmp_path: Path, onvif: str
) -> None:
    assert load(tmp_path, f"milestone: {{url: 'https://m', onvif: {{{onvif}}}}}").milestone is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "nvr-01", "localhost.example"])
def test_an_open_api_is_refused_where_others_reach_it(tmp_path: Path, host: str) -> None:
    fault = only_fault(tmp_path, f"api: {{auth: none, host: '{host}'}}")
    assert fault.where == "config.yaml:1: api.auth"
    assert host in fault.message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_an_open_api_is_allowed_on_loopback(tmp_path: Path, host: str) -> None:
    assert is_loopback(host)
    assert load(tmp_path, f"api: {{auth: none, host: '{host}'}}").api.auth == "none"


def test_an_open_api_by_two_variables_is_told_with_one_of_them(tmp_path: Path) -> None:
    assert only_fault(tmp_path, "", {"API_AUTH": "none", "HOST": "0.0.0.0"}).where == "API_AUTH"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("api: {tls_cert: /c.pem}", "api.tls_key", "needed with api.tls_cert"),
        ("api: {tls_key: /k.pem}", "api.tls_cert", "needed with api.tls_key"),
        ("minio: {ca_file: /ca.pem}", "minio.ca_file", "without use_ssl"),
        ("postgres: {host: p, ca_file: /ca.pem}", "postgres.ca_file", "ssl: prefer"),
        ("minio: {endpoint: 'm:9'}", "backend", "must be said"),
        ("s3: {bucket_recordings: recordings}", "backend", "must be said"),
        ("backend: S3", "s3.bucket_recordings", "backend is S3"),
        ("s3: {access_key: a}", "s3.secret_key", "s3.access_key is given"),
        ("s3: {secret_key: a}", "s3.access_key", "s3.secret_key is given"),
        ("s3: {session_token: a}", "s3.access_key", "s3.session_token is given"),
        ("milestone: {url: 'http://m'}", "milestone.url", "readable to everyone"),
        ("recorders: []", "recorders", "is empty"),
        (
            "recorders: [{path: /a}, {path: /b}, {path: /a}]",
            "recorders[2].path",
            "overlaps recorders[0].path",
        ),
        ("recorders: [{path: /a}, {path: /a/b}]", "recorders[1].path", "overlaps recorders[0].path"),
        ("recorders: [{path: /a/b}, {path: /a/}]", "recorders[1].path", "overlaps recorders[0].path"),
        (
            "data_dir: /a/b\nfilesystem: {path: /s}\nrecorders: [{path: /a}]",
            "data_dir",
            "lies in recorders[0].path",
        ),
        (
            "data_dir: /a\nfilesystem: {path: /s}\nrecorders: [{path: /a}]",
            "data_dir",
            "lies in recorders[0].path",
        ),
        (
            "filesystem: {path: /a/s}\nrecorders: [{path: /a}]",
            "filesystem.path",
            "overlaps recorders[0].path",
        ),
        (
            "filesystem: {path: /a}\nrecorders: [{path: /a/r}]",
            "filesystem.path",
            "overlaps recorders[0].path",
        ),
        ("filesystem: {path: /a}\nrecorders: [{path: /a}]", "filesystem.path", "overlaps recorders[0].path"),
        ("data_dir: /d\nrecorders: [{path: /d/store/x}]", "filesystem.path", "overlaps recorders[0].path"),
        ("filesystem: {path: /a}\napi: {allowed_paths: [/a/b]}", "filesystem.path", "api.allowed_paths[0]"),
        ("data_dir: /a/b\napi: {allowed_paths: [/a/b]}", "data_dir", "api.allowed_paths[0]"),
        (
            "data_dir: /d\nfilesystem: {path: /d}\nrecorders: [{path: /r}]",
            "filesystem.path",
            "holds data_dir",
        ),
        (
            "cameras: [{folder: a}, {folder: b, id: 123e4567-e89b-12d3-a456-426614174000}, "
            "{folder: c, id: 123E4567-E89B-12D3-A456-426614174000}]",
            "cameras[2].id",
            "cameras[1]",
        ),
        (
            "retention: {default: {at_least: 31d, at_most: 30d}}",
            "retention.default.at_least",
            "longer than at_most",
        ),
        (
            "retention: {default: {desired: 31d, at_most: 30d}}",
            "retention.default.desired",
            "longer than at_most",
        ),
        (
            "retention: {per_camera: {a: {at_least: 3d, desired: 2d, at_most: 9d}}}",
            "retention.per_camera.a.at_least",
            "longer than desired",
        ),
        ("capacity: {clean_free: 30%}", "capacity.clean_free", "more than warn_free"),
        ("capacity: {emergency_free: 15%}", "capacity.emergency_free", "more than clean_free"),
        ("capacity: {clean_left: 7h}", "capacity.clean_left", "more than warn_left"),
        ("capacity: {emergency_left: 3h}", "capacity.emergency_left", "more than clean_left"),
    ],
)
def test_a_contradiction_is_refused(tmp_path: Path, text: str, where: str, words: str) -> None:
    matching = [fault for fault in faults_of(tmp_path, text) if fault.where.endswith(f": {where}")]
    assert words in str(matching)


@pytest.mark.parametrize("missing", ["endpoint", "access_key", "secret_key"])
def test_minio_needs_endpoint_and_keys(tmp_path: Path, missing: str) -> None:
    values = {"endpoint": "'m:9'", "access_key": "a", "secret_key": "b"}
    del values[missing]
    text = "backend: MINIO\nminio:\n" + "".join(f"  {name}: {value}\n" for name, value in values.items())
    fault = only_fault(tmp_path, text)
    assert fault.where == f"config.yaml:2: minio.{missing}"
    assert f"MINIO_{missing.upper()}" in fault.hint


def test_two_cameras_with_one_folder_are_refused(tmp_path: Path) -> None:
    text = "cameras:\n  - {folder: gate, id: 123e4567-e89b-12d3-a456-426614174000}\n  - {folder: gate}\n"
    assert only_fault(tmp_path, text).where == "config.yaml:3: cameras[1].folder"


@pytest.mark.parametrize(
    "text",
    [
        MINIO,
        MINIO + "api: {host: 0.0.0.0, tls_cert: /c, tls_key: /k}",
        "backend: FILESYSTEM\nminio: {endpoint: 'm:9'}",
        "backend: S3\ns3: {bucket_recordings: recordings}",
        "backend: S3\ns3: {bucket_recordings: recordings, access_key: a, secret_key: b, session_token: c}",
        "milestone: {url: 'http://m', allow_plain_http: true}",
        "postgres: {host: /var/run/postgresql}",
        "postgres: {host: p, ssl: verify-full, ca_file: /ca.pem}",
        "recorders: [{path: /a}, {path: /ab}]",
        "recorders: []\napi: {allowed_paths: [/srv/incoming]}",
        "data_dir: /a\nrecorders: [{path: /a/recordings}]",
        "cameras: [{folder: a, name: x}, {folder: b, name: x}]",
        "retention: {default: {at_least: 1d, desired: 1d, at_most: 1d}}",
        "retention: {default: {at_least: 90d}}",
        "capacity: {warn_free: 10%, clean_free: 10%, emergency_free: 10%}",
        "source: {grace: 0}",
    ],
)
def test_what_only_looks_like_a_contradiction_passes(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


def test_two_names_of_one_folder_are_found_by_the_check_that_may_look(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    text = f"recorders:\n  - path: {tmp_path}/real\n  - path: {tmp_path}/alias\n"
    path = tmp_path / "config.yaml"
    path.write_text(text)
    load_settings(path, {})
    with pytest.raises(ConfigError) as refused:
        load_settings(path, {}, [folder_faults])
    assert [fault.where for fault in refused.value.faults] == [f"{path}:3: recorders[1].path"]


def test_a_folder_fault_is_told_once_though_two_checks_find_it(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, "recorders: [{path: /a}, {path: /a}]", {}, [folder_faults])
    assert len(faults) == 1
