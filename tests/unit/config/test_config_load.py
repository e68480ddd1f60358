"""One door to the settings: defaults that work, known keys, right types, and all faults at once."""

import socket
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from cctv_storaged.config import Settings, load_settings
from cctv_storaged.config.shape import ALL_KEYS, Key
from cctv_storaged.errors import ConfigError, Fault
from cctv_storaged.model import BackendKind, Mode, camera_id_for
from tests.unit.config.given import faults_of, load, only_fault


def test_without_file_and_environment_there_is_a_whole_working_set() -> None:
    settings = load_settings(None, {})
    assert (settings.mode, settings.backend) == (Mode.LOCAL, BackendKind.FILESYSTEM)
    assert settings.host_id == socket.gethostname()
    assert settings.data_dir == Path("var").absolute()
    assert settings.filesystem.path == settings.data_dir / "store"
    (recorder,) = settings.recorders
    assert recorder.path == settings.data_dir / "recordings"
    assert recorder.layout == "{camera}/%Y-%m-%d/%H-%M-%S.ts"
    assert (settings.api.host, settings.api.port, settings.api.auth) == ("127.0.0.1", 8082, "token")
    assert settings.postgres is None
    assert settings.milestone is None


def test_under_systemd_everything_lies_in_the_state_directory() -> None:
    settings = load_settings(None, {"STATE_DIRECTORY": "/var/lib/cctv-storaged:/var/lib/other"})
    assert settings.data_dir == Path("/var/lib/cctv-storaged")
    assert settings.filesystem.path == Path("/var/lib/cctv-storaged/store")
    assert settings.recorders[0].path == Path("/var/lib/cctv-storaged/recordings")


def test_what_the_contract_writes_is_what_comes_out(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        host_id: nvr-01
        data_dir: /var/lib/cctv-storaged
        mode: LOCAL
        backend: MINIO
        log_level: debug
        api: {host: 127.0.0.1, port: 8082, auth: token, tls_cert: null, tls_key: null}
        recorders:
          - path: /recordings
            layout: "{camera}/%Y-%m-%d/%H-%M-%S.ts"
            timezone: Europe/Oslo
            watch: auto
            scan_interval: 30s
        cameras:
          - {id: 123e4567-e89b-12d3-a456-426614174000, name: gate, folder: gate}
        filesystem: {path: /srv/cctv}
        minio: {endpoint: "minio:9000", access_key: a, secret_key: b, use_ssl: false}
        s3: {endpoint_url: null, region: us-east-1, bucket_recordings: recordings}
        postgres: {host: postgres, port: 5432, db: cctv, user: cctv, password: p, ssl: prefer}
        delivery: {workers: 4, rate_limit: 20Mbit/s, window: 22:00-06:00, backlog_newest_share: 0.3}
        source: {prune: after_verified, grace: 24h, keep: 0}
        retention: {default: {at_most: 30d}, per_camera: {gate: {at_least: 7d}}}
        capacity: {warn_free: 20%, clean_free: 10%, emergency_free: 5%, reserve: 250MB, on_full: refuse}
        exports: {workers: 2, queue: 100, expire: 7d, max_span: 24h}
        thumbnails: {on_ingest: true, width: 320}
        """,
    )
    assert settings.delivery.rate_limit == 2_500_000
    assert str(settings.delivery.window) == "22:00-06:00 UTC"
    assert settings.source.keep == timedelta(0)
    assert settings.retention.per_camera["gate"].at_least == timedelta(days=7)
    assert settings.retention.per_camera["gate"].at_most is None
    assert settings.capacity.reserve == 250_000_000
    assert settings.known_cameras()[0].name == "gate"
    assert settings.postgres is not None
    assert settings.postgres.password.get_secret_value() == "p"


def test_a_camera_without_an_id_has_the_one_its_folder_would_get_by_itself(tmp_path: Path) -> None:
    settings = load(tmp_path, "host_id: h\ncameras: [{folder: gate}]")
    (camera,) = settings.known_cameras()
    assert camera.id == camera_id_for("h", "gate")
    assert camera.name == "gate"


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(None, {})
    with pytest.raises(ValidationError):
        settings.host_id = "other"
    with pytest.raises(ValidationError):
        settings.api.port = 1


def test_empty_values_are_as_good_as_left_out(tmp_path: Path) -> None:
    text = "api:\nminio:\n  endpoint:\n  prefix: ''\npostgres:\nlog_level:\nrecorders:\n"
    assert load(tmp_path, text) == load(tmp_path, "")


def test_a_relative_path_starts_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(tmp_path, "data_dir: ./a/../b\nfilesystem: {path: //srv//cctv/}")
    assert settings.data_dir == tmp_path / "b"
    assert settings.filesystem.path == Path("/srv/cctv")


# --- unknown keys -------------------------------------------------------------------------------------------


def nested(key: Key, value: str) -> str:
    """A file in flow style that gives this one key a value."""
    text = value
    for step in reversed(key.path):
        text = f"[{text}]" if step == "[]" else f"{{{'gate' if step == '*' else step}: {text}}}"
    return text


@pytest.mark.parametrize(
    "key", [key for key in ALL_KEYS if key.section is not None], ids=lambda key: key.text
)
def test_a_key_nobody_knows_is_refused_in_every_section(tmp_path: Path, key: Key) -> None:
    inside = {"section": "{zzz: 1}", "list": "[{zzz: 1}]", "by name": "{gate: {zzz: 1}}"}[key.form]
    faults = faults_of(tmp_path, nested(key, inside))
    assert [fault.where for fault in faults if fault.message == "unknown key"] == [
        f"config.yaml:1: {key.text.replace('*', 'gate')}"
        + {"section": ".zzz", "list": "[0].zzz", "by name": ".gate.zzz"}[key.form]
    ]


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("minio: {bukket_recordings: x}", "minio.bukket_recordings", "did you mean minio.bucket_recordings?"),
        ("log-level: info", "log-level", "did you mean log_level?"),
        ("recorders: [{path: /r, layuot: x}]", "recorders[0].layuot", "did you mean recorders[0].layout?"),
        ("port: 80", "port", "did you mean api.port or postgres.port?"),
        ("api: {zzz: 1}", "api.zzz", "known here: host, port, auth,"),
        (
            "retention: {per_camera: {'front door': {at_leest: 1d}}}",
            "retention.per_camera['front door'].at_leest",
            "",
        ),
    ],
)
def test_a_typo_is_refused_with_the_key_that_was_meant(
    tmp_path: Path, text: str, where: str, hint: str
) -> None:
    fault = only_fault(tmp_path, text)
    assert fault.where == f"config.yaml:1: {where}"
    assert fault.message == "unknown key"
    assert fault.hint.startswith(hint)


def test_an_unknown_key_without_a_value_is_refused_too(tmp_path: Path) -> None:
    assert (
        only_fault(tmp_path, "minio:\n  bukket_recordings:\n").where
        == "config.yaml:2: minio.bukket_recordings"
    )


def test_a_misspelt_key_is_not_told_to_be_missing_as_well(tmp_path: Path) -> None:
    text = "backend: MINIO\nminio: {endpiont: 'm:9', access_key: a, secret_key: b}"
    assert only_fault(tmp_path, text).where == "config.yaml:2: minio.endpiont"


# --- wrong types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("api: {port: abc}", "must be a whole number, got 'abc'"),
        ("api: {port: '8082'}", "must be a whole number, got '8082'"),
        ("api: {port: true}", "must be a whole number, got 'true'"),
        ("api: {port: 8082.0}", "must be a whole number, got '8082.0'"),
        ("api: {port: 65536}", "must be at most 65535, got '65536'"),
        ("api: {port: -1}", "must be at least 0, got '-1'"),
        ("api: {port: [1]}", "must be a whole number"),
        ("api: {auth: some}", "must be one of token, none, got 'some'"),
        ("api: {host: 'http://x'}", "must be an IP address or a host name, got 'http://x'"),
        ("api: {host: 300.1.1.1}", "must be an IP address or a host name, got '300.1.1.1'"),
        ("api: {allowed_paths: /srv}", "must be a list, got '/srv'"),
        ("api: {allowed_paths: [1]}", "must be a path"),
        ("api: 5", "must be a mapping of keys"),
        ("mode: LOKAL", "must be one of LOCAL, MILESTONE, BOTH, got 'LOKAL'"),
        ("backend: MILESTONE", "must be one of MINIO, S3, FILESYSTEM, got 'MILESTONE'"),
        ("backend: [S3]", "must be one of MINIO, S3, FILESYSTEM"),
        ("minio: {use_ssl: maybe}", "must be true or false, got 'maybe'"),
        ("minio: {use_ssl: 1}", "must be true or false, got '1'"),
        ("minio: {use_ssl: yes}", "must be true or false, got 'yes'"),
        (
            "minio: {endpoint: 'http://minio:9000'}",
            "must be host:port without a scheme, got 'http://minio:9000'",
        ),
        ("minio: {endpoint: 'minio:99999'}", "must be host:port, got 'minio:99999'"),
        ("minio: {bucket_recordings: A_b}", "is not a bucket name, got 'A_b'"),
        ("minio: {prefix: /x/}", "must be empty, or folders that each end with '/', got '/x/'"),
        ("minio: {prefix: ../x/}", "must be empty, or folders that each end with '/', got '../x/'"),
        ("minio: {readback_share: 5}", "must lie between 0% and 100%, got '5'"),
        (
            "s3: {endpoint_url: 's3.example'}",
            "must be a URL such as https://s3.example:9000, got 's3.example'",
        ),
        (
            "s3: {endpoint_url: 'https://s3.example/x'}",
            "must end after host and port, got 'https://s3.example/x'",
        ),
        (
            "s3: {endpoint_url: 'ftp://s3.example'}",
            "must be a URL such as https://s3.example:9000, got 'ftp://s3.example'",
        ),
        ("host_id: 'a b'", "is not a host id, got 'a b'"),
        ("data_dir: 5", "must be a path, got '5'"),
        ('data_dir: "a\\0b"', "must be a path, got 'a\\x00b'"),
        ("recorders: [/recordings]", "must be a mapping of keys"),
        ("recorders: {path: /recordings}", "must be a list"),
        ("recorders: [{layout: x}]", "is missing"),
        (
            "recorders: [{path: /r, scan_interval: 30}]",
            "needs a unit: a duration such as 30s, 5m or 24h, got '30'",
        ),
        ("recorders: [{path: /r, scan_interval: 0}]", "must be more than 0, got '0'"),
        ("recorders: [{path: /r, timezone: Mars}]", "is not a time zone this host knows, got 'Mars'"),
        ("recorders: [{path: /r, timezone: 1}]", "must be text, got '1'"),
        ("cameras: [{folder: gate, id: 12}]", "must be a UUID, got '12'"),
        ("cameras: [{folder: gate, name: 12}]", "must be text, got '12'"),
        (
            "cameras: [{folder: a/../b}]",
            "must be the camera's folder as it stands below the recorder's path, got 'a/../b'",
        ),
        ("cameras: [{name: gate}]", "is missing"),
        ("postgres: {user: cctv}", "is missing"),
        ("postgres: {host: p, port: 0}", "must be at least 1, got '0'"),
        ("postgres: {host: p, ssl: yes}", "must be one of disable, prefer, require, verify-full, got 'yes'"),
        ("delivery: {workers: 0}", "must be at least 1, got '0'"),
        ("delivery: {rate_limit: 5}", "needs a unit: a rate such as 20Mbit/s or 5MB/s, got '5'"),
        ("delivery: {rate_limit: 0}", "must be more than 0, got '0'"),
        (
            "delivery: {window: 22-06}",
            "must be a daily window such as 22:00-06:00 or 22:00-06:00 Europe/Oslo, got '22-06'",
        ),
        ("source: {grace: -1h}", "must be a duration such as 30s, 5m or 24h, got '-1h'"),
        ("source: {prune: sometimes}", "must be one of after_verified, never, got 'sometimes'"),
        ("minio: c4nary", "must be a mapping of keys"),
        ("retention: {default: {at_most: 0}}", "must be more than 0, got '0'"),
        ("retention: {per_camera: [gate]}", "must be a mapping of names"),
        ("retention: {per_camera: {gate: 30d}}", "must be a mapping of keys"),
        ("capacity: {reserve: 250}", "needs a unit: a size such as 250MB or 8MiB, got '250'"),
        ("capacity: {warn_free: true}", "must be a share such as 20% or 0.2, got 'true'"),
        ("exports: {queue: 1.5}", "must be a whole number, got '1.5'"),
        ("thumbnails: {width: 1}", "must be at least 16, got '1'"),
        ("milestone: {url: 'https://m', settle_s: 5s}", "must be a number, got '5s'"),
        ("milestone: {url: 'https://m', settle_s: true}", "must be a number, got 'true'"),
        (
            "milestone: {url: 'https://m', camera_map: {gate: x}}",
            "must be the camera's GUID, or name: and its display name",
        ),
        ("milestone: {username: x}", "is missing"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, text: str, message: str) -> None:
    fault = only_fault(tmp_path, text)
    assert fault.where.startswith("config.yaml:1: ")
    assert fault.message == message


def test_a_limit_of_zero_is_told_what_leaving_it_out_means(tmp_path: Path) -> None:
    assert only_fault(tmp_path, "retention: {default: {at_most: 0}}").hint == "leave it out for no limit"
    assert "default" in only_fault(tmp_path, "exports: {expire: 0s}").hint


@pytest.mark.parametrize("key", [key for key in ALL_KEYS if key.form == "value"], ids=lambda key: key.text)
def test_a_list_is_refused_wherever_one_value_belongs(tmp_path: Path, key: Key) -> None:
    where = f"config.yaml:1: {key.text.replace('[]', '[0]').replace('*', 'gate')}"
    assert where in [fault.where for fault in faults_of(tmp_path, nested(key, "[[1]]"))]


def test_a_very_long_value_is_quoted_in_part(tmp_path: Path) -> None:
    assert len(str(only_fault(tmp_path, f"log_level: {'x' * 10_000}"))) < 200


# --- all at once --------------------------------------------------------------------------------------------


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """A key given twice, unknown keys, types, environment, contradictions, and another part's check."""
    text = """\
mode: LOCAL
mode: BOTH
colour: red
api: {host: 0.0.0.0, auth: none, port: x}
recorders:
  - {path: /r, layout: BAD}
  - {path: /r/below}
cameras:
  - {folder: gate}
  - {folder: gate}
minio: {prefix: x}
retention: {default: {at_least: 2d, at_most: 1d}}
"""

    def layouts(settings: Settings) -> list[Fault]:
        return [
            Fault(f"recorders[{index}].layout", "has no {camera}")
            for index, recorder in enumerate(settings.recorders)
            if recorder.layout == "BAD"
        ]

    faults = faults_of(tmp_path, text, {"POSTGRES_PORT": "x", "LOG_LEVEL": "loud"}, [layouts])
    assert {fault.where for fault in faults} == {
        "config.yaml:2: mode",
        "config.yaml:3: colour",
        "config.yaml:4: api.port",
        "config.yaml:4: api.auth",
        "config.yaml:6: recorders[0].layout",
        "config.yaml:7: recorders[1].path",
        "config.yaml:10: cameras[1].id",
        "config.yaml:10: cameras[1].folder",
        "config.yaml:11: minio.prefix",
        "config.yaml:12: retention.default.at_least",
        "POSTGRES_PORT",
        "LOG_LEVEL",
    }
    lines = [int(fault.where.split(":")[1]) for fault in faults if ":" in fault.where]
    assert lines == sorted(lines), "from top to bottom, as they are mended"
    assert not [fault for fault in faults[-2:] if ":" in fault.where], "and the environment's last"


def test_the_faults_of_a_list_keep_their_places_when_another_item_is_broken(tmp_path: Path) -> None:
    text = "recorders:\n  - {layout: x}\n  - 5\n  - {path: /r, watch: never}\n"
    assert [fault.where for fault in faults_of(tmp_path, text)] == [
        "config.yaml:2: recorders[0].path",
        "config.yaml:3: recorders[1]",
        "config.yaml:4: recorders[2].watch",
    ]


def test_no_contradiction_is_told_at_a_wrong_place_of_a_broken_list(tmp_path: Path) -> None:
    text = "recorders:\n  - {layout: x}\n  - {path: /a}\n  - {path: /b}\n  - {path: /b}\n"
    assert [fault.where for fault in faults_of(tmp_path, text)] == ["config.yaml:2: recorders[0].path"]


def test_a_default_that_stands_in_for_a_broken_list_is_not_blamed(tmp_path: Path) -> None:
    text = "data_dir: /d\nfilesystem: {path: /d/recordings/s}\nrecorders: [{path: /r}, 5]\n"
    assert only_fault(tmp_path, text).where == "config.yaml:3: recorders[1]"


def test_a_missing_key_does_not_hide_a_contradiction_elsewhere(tmp_path: Path) -> None:
    text = "postgres: {user: cctv}\napi: {tls_cert: /c}\n"
    assert [fault.where for fault in faults_of(tmp_path, text)] == [
        "config.yaml:1: postgres.host",
        "config.yaml:2: api.tls_key",
    ]


def test_a_fault_is_not_followed_by_what_only_follows_from_it(tmp_path: Path) -> None:
    text = "backend: MINIO\nminio: {endpoint: 5, access_key: a, secret_key: b}\napi: {auth: no, host: '::'}"
    assert [fault.where for fault in faults_of(tmp_path, text)] == [
        "config.yaml:2: minio.endpoint",
        "config.yaml:3: api.auth",
    ]


def test_a_check_of_another_part_is_told_where_the_key_was_given(tmp_path: Path) -> None:
    def refuse(_: Settings) -> list[Fault]:
        return [Fault("recorders[0].layout", "no", "hint"), Fault("inotify", "too few watches")]

    faults = faults_of(tmp_path, "recorders:\n  - path: /r\n", {"RECORDINGS_LAYOUT": "x"}, [refuse])
    assert faults == (Fault("RECORDINGS_LAYOUT", "no", "hint"), Fault("inotify", "too few watches"))


def test_a_check_that_finds_nothing_lets_the_settings_pass(tmp_path: Path) -> None:
    seen: list[Settings] = []

    def watch(settings: Settings) -> list[Fault]:
        seen.append(settings)
        return []

    assert load(tmp_path, "", {}, [watch]) == seen[0]


def test_the_error_reads_as_one_line_per_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, "colour: red\nmode: x\n")
    assert len(str(refused.value).splitlines()) == len(refused.value.faults) == 2
