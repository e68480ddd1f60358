"""What settings may not say together. Pure: settings in, findings out; a function is named after its rule."""

import ipaddress
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from cctv_storaged.config.places import KeyPath, key_path, key_text
from cctv_storaged.config.settings import RetentionRule, Settings
from cctv_storaged.config.units import format_duration
from cctv_storaged.errors import Fault
from cctv_storaged.model import BackendKind, Mode

LONGEST_FILE = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class Finding:
    """Keys that do not go together, told at the first; where one of them is faulty already it is not news."""

    keys: tuple[KeyPath, ...]
    message: str
    hint: str = ""


Rule = Callable[[Settings], Iterator[Finding]]


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything that does not go together."""
    for rule in RULES:
        yield from rule(settings)


def folder_faults(settings: Settings) -> Iterator[Fault]:
    """The folder rules again with symlinks resolved; for callers that may touch the disk.

    The place of each fault is a key, as `load_settings` takes it from an extra check.
    """
    for finding in _folder_findings(settings, _resolved):
        yield Fault(key_text(finding.keys[0]), finding.message, finding.hint)


def milestone_modes_need_a_site(settings: Settings) -> Iterator[Finding]:
    milestone = settings.milestone
    if settings.mode is Mode.LOCAL:
        return
    if milestone is None:
        yield _needed("milestone.url", "mode", f"mode is {settings.mode}")
    elif not milestone.username:
        yield _needed("milestone.username", "mode", f"mode is {settings.mode}")
    elif not milestone.password.get_secret_value():
        yield _needed("milestone.password", "mode", f"mode is {settings.mode}")


def retrieval_by_event_names_it(settings: Settings) -> Iterator[Finding]:
    milestone = settings.milestone
    if milestone is not None and milestone.ingest == "event_retrieval" and not milestone.retrieval_event_id:
        yield _needed("milestone.retrieval_event_id", "milestone.ingest", "ingest is event_retrieval")


def open_api_stays_on_loopback(settings: Settings) -> Iterator[Finding]:
    api = settings.api
    if api.auth == "none" and not is_loopback(api.host):
        message = f"auth none would open the API to everyone who reaches {api.host}"
        yield _finding(message, "api.auth", "api.host", hint="auth: token, or host: 127.0.0.1")


def one_clock_holds_a_file(settings: Settings) -> Iterator[Finding]:
    """A stream's clock of 33 bits comes round after 26.5 hours (ISO/IEC 13818-1, 2.4.3.7)."""
    spans = (
        ("exports.max_span", settings.exports.max_span),
        ("playback.max_clip", settings.playback.max_clip),
    )
    for key, span in spans:
        if span > LONGEST_FILE:
            message = f"no file can hold more than {format_duration(LONGEST_FILE)}"
            yield _finding(message, key, hint="ask for several, one after the other")


def certificate_and_key_come_together(settings: Settings) -> Iterator[Finding]:
    api = settings.api
    if (api.tls_cert is None) != (api.tls_key is None):
        missing, given = ("tls_cert", "tls_key") if api.tls_cert is None else ("tls_key", "tls_cert")
        yield _finding(f"is needed with api.{given}", f"api.{missing}", f"api.{given}")
    if api.tls_client_ca is not None and api.tls_cert is None:
        yield _needed("api.tls_cert", "api.tls_client_ca", "clients are to show certificates")


def minio_needs_endpoint_and_keys(settings: Settings) -> Iterator[Finding]:
    minio = settings.minio
    if settings.backend is not BackendKind.MINIO:
        return
    given = {
        "endpoint": minio.endpoint,
        "access_key": minio.access_key.get_secret_value(),
        "secret_key": minio.secret_key.get_secret_value(),
    }
    for name in (name for name, value in given.items() if not value):
        yield _needed(f"minio.{name}", "backend", "backend is MINIO")


def certificates_need_tls(settings: Settings) -> Iterator[Finding]:
    """A CA file that is not used would look like safety."""
    minio, postgres = settings.minio, settings.postgres
    if minio.ca_file is not None and not minio.use_ssl:
        yield _finding("has no use without use_ssl", "minio.ca_file", "minio.use_ssl", hint="use_ssl: true")
    if postgres is not None and postgres.ca_file is not None and postgres.ssl != "verify-full":
        message = f"is not looked at with ssl: {postgres.ssl}"
        yield _finding(message, "postgres.ca_file", "postgres.ssl", hint="ssl: verify-full")


def s3_needs_a_bucket(settings: Settings) -> Iterator[Finding]:
    if settings.backend is BackendKind.S3 and not settings.s3.bucket_recordings:
        yield _needed("s3.bucket_recordings", "backend", "backend is S3")


def s3_keys_come_together(settings: Settings) -> Iterator[Finding]:
    s3 = settings.s3
    access, secret = s3.access_key.get_secret_value(), s3.secret_key.get_secret_value()
    if bool(access) != bool(secret):
        missing, given = ("secret_key", "access_key") if access else ("access_key", "secret_key")
        yield _needed(f"s3.{missing}", f"s3.{given}", f"s3.{given} is given")
    elif s3.session_token.get_secret_value() and not access:
        yield _needed("s3.access_key", "s3.session_token", "s3.session_token is given")


def configured_backend_is_chosen(settings: Settings) -> Iterator[Finding]:
    """Whoever configures a server and leaves `backend` out would find the footage on the local disk."""
    if "backend" in settings.model_fields_set:
        return
    for name, value, kind in (
        ("minio.endpoint", settings.minio.endpoint, "MINIO"),
        ("s3.bucket_recordings", settings.s3.bucket_recordings, "S3"),
    ):
        if value:
            hint = f"backend: {kind} (STORAGE_BACKEND={kind}) to use it, FILESYSTEM to leave it unused"
            yield _finding(f"must be said where {name} is", "backend", name, hint=hint)


def milestone_password_travels_by_tls(settings: Settings) -> Iterator[Finding]:
    milestone = settings.milestone
    if milestone is not None and milestone.url.startswith("http://") and not milestone.allow_plain_http:
        message = "would send the password readable to everyone on the way"
        yield _finding(
            message,
            "milestone.url",
            "milestone.allow_plain_http",
            hint="use https://, or allow_plain_http: true where nobody listens",
        )


def onvif_device_asks_for_a_password(settings: Settings) -> Iterator[Finding]:
    """Whoever reaches it could fetch all footage."""
    onvif = None if settings.milestone is None else settings.milestone.onvif
    if onvif is None or not onvif.enabled:
        return
    if not is_loopback(onvif.bind):
        for name, value in (("username", onvif.username), ("password", onvif.password.get_secret_value())):
            if not value:
                bind = "milestone.onvif.bind"
                yield _needed(f"milestone.onvif.{name}", bind, f"others reach {onvif.bind}")
    elif onvif.password.get_secret_value() and not onvif.username:
        yield _needed("milestone.onvif.username", "milestone.onvif.password", "a password is given")


def recorders_do_not_overlap(settings: Settings) -> Iterator[Finding]:
    yield from _folder_findings(settings, lambda path: path)


def something_can_come_in(settings: Settings) -> Iterator[Finding]:
    if not settings.recorders and not settings.api.allowed_paths:
        hint = "list one, or leave the key out for the folder recordings below data_dir"
        yield _finding("is empty, and so is api.allowed_paths", "recorders", "api.allowed_paths", hint=hint)


def cameras_are_distinct(settings: Settings) -> Iterator[Finding]:
    first_with: dict[tuple[str, object], int] = {}
    for index, camera in enumerate(settings.known_cameras()):
        for name, value in (("id", camera.id), ("folder", camera.folder)):
            first = first_with.setdefault((name, value), index)
            if first != index:
                keys = (f"cameras[{index}].{name}", f"cameras[{first}].{name}")
                yield _finding(f"is that of cameras[{first}] too", *keys)


def retention_limits_are_ordered(settings: Settings) -> Iterator[Finding]:
    retention = settings.retention
    by_key: dict[KeyPath, RetentionRule] = {("retention", "default"): retention.default}
    by_key |= {("retention", "per_camera", name): rule for name, rule in retention.per_camera.items()}
    for key, rule in by_key.items():
        given = [(name, getattr(rule, name)) for name in ("at_least", "desired", "at_most")]
        for (low, shorter), (high, longer) in pairwise(item for item in given if item[1] is not None):
            if shorter > longer:
                yield Finding(((*key, low), (*key, high)), f"is longer than {high}")


def capacity_limits_are_ordered(settings: Settings) -> Iterator[Finding]:
    for unit in ("free", "left"):
        names = [f"{level}_{unit}" for level in ("emergency", "clean", "warn")]
        for low, high in pairwise(names):
            if getattr(settings.capacity, low) > getattr(settings.capacity, high):
                yield _finding(f"is more than {high}", f"capacity.{low}", f"capacity.{high}")


RULES: Sequence[Rule] = (
    milestone_modes_need_a_site,
    retrieval_by_event_names_it,
    open_api_stays_on_loopback,
    one_clock_holds_a_file,
    certificate_and_key_come_together,
    certificates_need_tls,
    configured_backend_is_chosen,
    minio_needs_endpoint_and_keys,
    s3_needs_a_bucket,
    s3_keys_come_together,
    milestone_password_travels_by_tls,
    onvif_device_asks_for_a_password,
    recorders_do_not_overlap,
    something_can_come_in,
    cameras_are_distinct,
    retention_limits_are_ordered,
    capacity_limits_are_ordered,
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; a name other than localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _folder_findings(settings: Settings, real: Callable[[Path], Path]) -> Iterator[Finding]:
    """Folders whose files would be taken for something they are not."""
    recorders = [
        (f"recorders[{index}].path", real(item.path)) for index, item in enumerate(settings.recorders)
    ]
    allowed = [(f"api.allowed_paths[{at}]", real(path)) for at, path in enumerate(settings.api.allowed_paths)]
    data_dir, store = (
        ("data_dir", real(settings.data_dir)),
        ("filesystem.path", real(settings.filesystem.path)),
    )
    for first, second in _overlapping([path for _, path in recorders]):
        keys = recorders[second][0], recorders[first][0]
        yield _finding(f"overlaps {keys[1]}: its files would be found twice", *keys)
    for source in (*recorders, *allowed):
        if _lies_in(data_dir[1], source[1]):
            yield _finding(f"lies in {source[0]}: our own files would be registered", data_dir[0], source[0])
        if _overlap(store[1], source[1]):
            yield _finding(f"overlaps {source[0]}: our own files would be registered", store[0], source[0])
    if _lies_in(data_dir[1], store[1]):
        yield _finding("holds data_dir: the store must have a folder of its own", store[0], data_dir[0])


def _overlapping(paths: Sequence[Path]) -> Iterator[tuple[int, int]]:
    """The places of folders that lie in one another, the earlier first; each path asks for those above it."""
    places: dict[Path, list[int]] = {}
    for index, path in enumerate(paths):
        places.setdefault(path, []).append(index)
    pairs = {
        (min(index, other), max(index, other))
        for index, path in enumerate(paths)
        for folder in (path, *path.parents)
        for other in places.get(folder, ())
        if other != index
    }
    yield from sorted(pairs)


def _lies_in(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)


def _overlap(one: Path, other: Path) -> bool:
    return _lies_in(one, other) or _lies_in(other, one)


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _finding(message: str, *keys: str, hint: str = "") -> Finding:
    return Finding(tuple(key_path(key) for key in keys), message, hint)


def _needed(key: str, because_of: str, reason: str) -> Finding:
    return _finding(f"is needed, as {reason}", key, because_of)
