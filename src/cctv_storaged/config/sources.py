"""What besides the file says something: environment variables, `<VARIABLE>_FILE`, and credentials.

The only place that looks into the environment. A variable set to nothing counts as not set. Values are turned
into what the models take (text, whole number, switch); whether they make sense is the models' to say.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cctv_storaged.config.draft import Draft
from cctv_storaged.config.places import KeyPath, key_path
from cctv_storaged.config.units import BadValueError

LARGEST_SECRET_BYTES = 65_536

_SWITCH = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def _text(value: str) -> object:
    return value


def _whole_number(value: str) -> object:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        hint = "Kubernetes and Docker links set such a variable by themselves; turn them off for this service"
        raise BadValueError("must be a whole number", hint if value.startswith("tcp://") else "")
    return int(value)


def _switch(value: str) -> object:
    if value.lower() not in _SWITCH:
        raise BadValueError("must be true or false")
    return _SWITCH[value.lower()]


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable and the key it sets."""

    name: str
    key: KeyPath
    read: Callable[[str], object] = _text
    credential: str | None = None  # its name below $CREDENTIALS_DIRECTORY


def _variable(name: str, key: str, read: Callable[[str], object] = _text) -> Variable:
    return Variable(name, key_path(key), read)


def _secret(name: str, key: str) -> Variable:
    return Variable(name, key_path(key), credential=name.lower())


VARIABLES = (
    _variable("STORAGE_MODE", "mode"),
    _variable("STORAGE_BACKEND", "backend"),
    _variable("HOST_ID", "host_id"),
    _variable("CONFIG_VERSION", "config_version"),
    _variable("DATA_DIR", "data_dir"),
    _variable("LOG_LEVEL", "log_level"),
    _variable("LOG_FORMAT", "log_format"),
    _variable("HOST", "api.host"),
    _variable("PORT", "api.port", _whole_number),
    _variable("API_AUTH", "api.auth"),
    _variable("RECORDINGS_PATH", "recorders[0].path"),
    _variable("RECORDINGS_LAYOUT", "recorders[0].layout"),
    _variable("RECORDINGS_TIMEZONE", "recorders[0].timezone"),
    _variable("FILESYSTEM_PATH", "filesystem.path"),
    _variable("MINIO_ENDPOINT", "minio.endpoint"),
    _secret("MINIO_ACCESS_KEY", "minio.access_key"),
    _secret("MINIO_SECRET_KEY", "minio.secret_key"),
    _variable("MINIO_USE_SSL", "minio.use_ssl", _switch),
    _variable("MINIO_BUCKET_RECORDINGS", "minio.bucket_recordings"),
    _variable("MINIO_BUCKET_EXPORTS", "minio.bucket_exports"),
    _variable("MINIO_BUCKET_THUMBNAILS", "minio.bucket_thumbnails"),
    _variable("S3_ENDPOINT_URL", "s3.endpoint_url"),
    _variable("S3_REGION", "s3.region"),
    _secret("S3_ACCESS_KEY", "s3.access_key"),
    _secret("S3_SECRET_KEY", "s3.secret_key"),
    _secret("S3_SESSION_TOKEN", "s3.session_token"),
    _variable("S3_BUCKET_RECORDINGS", "s3.bucket_recordings"),
    _variable("S3_BUCKET_EXPORTS", "s3.bucket_exports"),
    _variable("S3_BUCKET_THUMBNAILS", "s3.bucket_thumbnails"),
    _variable("POSTGRES_HOST", "postgres.host"),
    _variable("POSTGRES_PORT", "postgres.port", _whole_number),
    _variable("POSTGRES_DB", "postgres.db"),
    _variable("POSTGRES_USER", "postgres.user"),
    _secret("POSTGRES_PASSWORD", "postgres.password"),
    _variable("POSTGRES_SSL", "postgres.ssl"),
    _variable("MILESTONE_URL", "milestone.url"),
    _variable("MILESTONE_USERNAME", "milestone.username"),
    _secret("MILESTONE_PASSWORD", "milestone.password"),
)
"""These stand over the file."""

FALLBACKS = (
    _variable("AWS_REGION", "s3.region"),
    _variable("AWS_DEFAULT_REGION", "s3.region"),
    _variable("AWS_ENDPOINT_URL_S3", "s3.endpoint_url"),
    _variable("AWS_ENDPOINT_URL", "s3.endpoint_url"),
    _variable("AWS_CA_BUNDLE", "s3.ca_file"),
)
"""These fill in what nothing else says; the earlier of two for one key wins."""

AWS_KEYS = (
    _variable("AWS_ACCESS_KEY_ID", "s3.access_key"),
    _variable("AWS_SECRET_ACCESS_KEY", "s3.secret_key"),
    _variable("AWS_SESSION_TOKEN", "s3.session_token"),
)
"""Fallbacks too, but together or not at all: the token of one identity must not meet the key of another."""

PASSWORD_FILES = ("milestone", "milestone.onvif")
"""Sections whose key `password_file` names a file that holds their `password`."""


def variables_for(key: KeyPath) -> tuple[str, ...]:
    """The variables that set a key, the strongest first."""
    return tuple(variable.name for variable in (*VARIABLES, *FALLBACKS, *AWS_KEYS) if variable.key == key)


def lay_over(draft: Draft, environ: Mapping[str, str]) -> None:
    """Everything the environment says, over and under what the file says."""
    for variable in VARIABLES:
        _take(draft, variable, environ, draft.put)
        _take_credential(draft, variable, environ)
    if str(draft.get(("backend",))).upper() == "S3":  # else they are about something else on this host
        _fall_back(draft, environ)
    for section in PASSWORD_FILES:
        _take_password_file(draft, key_path(section))


def _fall_back(draft: Draft, environ: Mapping[str, str]) -> None:
    together = AWS_KEYS if all(draft.lacks(variable.key) for variable in AWS_KEYS) else ()
    for variable in (*together, *FALLBACKS):
        _take(draft, variable, environ, draft.put_if_lacking)


def _take(
    draft: Draft,
    variable: Variable,
    environ: Mapping[str, str],
    put: Callable[[KeyPath, object, str], None],
) -> None:
    value, path = environ.get(variable.name, ""), environ.get(f"{variable.name}_FILE", "")
    source = variable.name if value else f"{variable.name}_FILE"
    try:
        if value and path:
            raise BadValueError(f"is given together with {variable.name}_FILE", "give one of the two")
        if value or path:
            _refuse_choice_of_recorder(draft, variable)
            put(variable.key, variable.read(_unicode(value) if value else _content(path)), source)
    except BadValueError as exc:
        draft.fault(variable.key, str(exc), exc.hint, where=source)


def _refuse_choice_of_recorder(draft: Draft, variable: Variable) -> None:
    listed = draft.get(("recorders",))
    if variable.key[0] == "recorders" and isinstance(listed, list) and len(listed) > 1:
        raise BadValueError("does not say which recorder it means", "the file lists several; say it there")


def _take_credential(draft: Draft, variable: Variable, environ: Mapping[str, str]) -> None:
    """systemd.exec(5), LoadCredential=: a file per credential; one that is not there is not given."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder or variable.credential is None:
        return
    path = os.path.join(folder, variable.credential)
    if not os.path.lexists(path):
        return
    name = f"credential {variable.credential}"
    try:
        draft.put(variable.key, _content(path), name)
    except BadValueError as exc:
        draft.fault(variable.key, str(exc), exc.hint, where=name)


def _take_password_file(draft: Draft, section: KeyPath) -> None:
    path = draft.get((*section, "password_file"))
    if not isinstance(path, str) or not path:
        return
    try:
        if not draft.lacks((*section, "password")):
            raise BadValueError("is given together with a password", "give one of the two")
        draft.put((*section, "password"), _content(path))
    except BadValueError as exc:
        draft.fault((*section, "password_file"), str(exc), exc.hint)


def _content(path: str) -> str:
    """A file's text without the newline at its end.

    No message names the path: the secret itself is easily put where its file's name belongs.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_SECRET_BYTES + 1)
    except ValueError:  # a NUL in the name
        raise BadValueError("does not name a file") from None
    except OSError as exc:
        raise BadValueError(f"names a file that cannot be read: {exc.strerror}") from None
    if len(content) > LARGEST_SECRET_BYTES:
        raise BadValueError("names a file of more than 64 KiB", "this is not a single value")
    text = _unicode(os.fsdecode(content)).removesuffix("\n").removesuffix("\r")
    if not text:
        raise BadValueError("names an empty file")
    return text


def _unicode(text: str) -> str:
    """Bytes that are not UTF-8 arrive as lone surrogates (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadValueError("is not UTF-8 text") from None
    return text
