"""The field types that settings are made of: what each accepts from a file, and how it is shown again.

Strings become quantities, folders and secrets here. Nothing here opens a file or asks the network.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, PlainSerializer, SecretStr

from cctv_storaged.config.units import (
    BadValueError,
    format_duration,
    format_rate,
    format_share,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)
from cctv_storaged.config.window import TimeWindow, zone_named
from cctv_storaged.model import BackendKind, Mode

STARS = "********"
BACKENDS = (BackendKind.MINIO, BackendKind.S3, BackendKind.FILESYSTEM)
"""Where bytes can be put; Milestone takes none."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the reference calls a type, and how it writes a value of it."""

    name: str
    written: Callable[[Any], str] = str  # takes exactly the type that carries this mark


_HOST_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_ENDPOINT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+)(?::(?P<port>[0-9]{1,5}))?")
_BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9!_.*'()-]+/)*")
_HOST_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def choices(words: Iterable[str]) -> str:
    """As the reference lists them."""
    return " ".join(f"`{word}`" for word in words)


def _absolute(value: object) -> Path:
    """An absolute, normalised path; a relative one starts at the working directory."""
    text = str(value) if isinstance(value, Path) else value
    if not isinstance(text, str) or not text or "\0" in text:
        raise BadValueError("must be a path")
    return Path("/" + os.path.abspath(text).lstrip("/"))  # abspath keeps a leading '//', which POSIX allows


def _window(value: object) -> TimeWindow:
    if isinstance(value, TimeWindow):
        return value
    if not isinstance(value, str):
        raise BadValueError("must be a daily window such as 22:00-06:00")
    return TimeWindow.parse(value)


def _mode(value: object) -> Mode:
    word = _word(value, tuple(Mode))
    return Mode(word)


def _backend(value: object) -> BackendKind:
    word = _word(value, BACKENDS, "Milestone is a mode" if value == BackendKind.MILESTONE else "")
    return BackendKind(word)


def _word(value: object, words: Sequence[str], hint: str = "") -> str:
    """One of the words, in whatever case it is written."""
    if not isinstance(value, str) or value.upper() not in words:
        raise BadValueError(f"must be one of {', '.join(words)}", hint)
    return value.upper()


def _level(value: object) -> object:
    if not isinstance(value, str):
        return value
    return "warning" if value.lower() == "warn" else value.lower()


def _zone_name(value: str) -> str:
    zone_named(value)
    return value


def _host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST_NAME.fullmatch(value) or value.rpartition(".")[2].isdigit():
            hint = "without scheme, port or brackets; 0.0.0.0 or :: for every address"
            raise BadValueError("must be an IP address or a host name", hint) from None
    return value


def _postgres_host(value: str) -> str:
    return value if value.startswith("/") else _host(value)


def _endpoint(value: str) -> str:
    if "://" in value:
        raise BadValueError("must be host:port without a scheme", "use_ssl says whether it is https")
    match = _ENDPOINT.fullmatch(value)
    if match is None or int(match["port"] or 0) > 65535:
        raise BadValueError("must be host:port", "for example minio:9000")
    return value


def _url(value: str) -> str:
    """Scheme, host and port only: whatever else an URL may hold is either a secret or a mistake here."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise BadValueError("must be a URL such as https://s3.example:9000") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise BadValueError("must be a URL such as https://s3.example:9000")
    if "@" in parts.netloc:
        raise BadValueError("must not hold a user or password", "they have keys of their own")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise BadValueError("must end after host and port")
    return value.rstrip("/")


def _bucket(value: str) -> str:
    if not _BUCKET.fullmatch(value):
        hint = "3 to 63 of a-z 0-9 . - with a letter or digit at both ends"
        raise BadValueError("is not a bucket name", hint)
    return value


def _prefix(value: str) -> str:
    if len(value) > 256 or not _PREFIX.fullmatch(value) or {".", ".."} & set(value.split("/")):
        raise BadValueError("must be empty, or folders that each end with '/'", "for example site-7/")
    return value


def _host_id(value: str) -> str:
    if not _HOST_ID.fullmatch(value):
        hint = "1 to 63 of a-z A-Z 0-9 . _ - with a letter or digit at both ends; it names this host for good"
        raise BadValueError("is not a host id", hint)
    return value


def _folder(value: str) -> str:
    if not value or "\0" in value or {"", ".", ".."} & set(value.split("/")):
        raise BadValueError(
            "must be the camera's folder as it stands below the recorder's path", "as in gate"
        )
    return value


def _not_zero(value: int) -> int:
    if value == 0:
        raise BadValueError("must be more than 0", "leave it out for no limit")
    return value


def _lasting(value: timedelta) -> timedelta:
    if not value:
        raise BadValueError("must be more than 0", "leave it out for its default")
    return value


def _limiting(value: timedelta) -> timedelta:
    if not value:
        raise BadValueError("must be more than 0", "leave it out for no limit")
    return value


def _star(value: SecretStr) -> str:
    return STARS if value.get_secret_value() else ""


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    Kind("duration", format_duration),
]
Span = Annotated[Duration, AfterValidator(_lasting)]  # a duration that is not 0
AgeLimit = Annotated[Duration, AfterValidator(_limiting)]  # the same, and without it there is none
Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size), Kind("size", format_size)]
Rate = Annotated[
    int,  # bytes per second
    BeforeValidator(parse_rate),
    AfterValidator(_not_zero),
    PlainSerializer(format_rate),
    Kind("rate", format_rate),
]
Share = Annotated[
    float, BeforeValidator(parse_share), PlainSerializer(format_share), Kind("share", format_share)
]
Window = Annotated[
    InstanceOf[TimeWindow], BeforeValidator(_window), PlainSerializer(str), Kind("daily window")
]
Zone = Annotated[str, AfterValidator(_zone_name), Kind("time zone")]

Folder = Annotated[Path, BeforeValidator(_absolute), PlainSerializer(str), Kind("folder")]
File = Annotated[Path, BeforeValidator(_absolute), PlainSerializer(str), Kind("file")]
CameraFolder = Annotated[str, AfterValidator(_folder)]

Host = Annotated[str, AfterValidator(_host), Kind("host")]
PostgresHost = Annotated[str, AfterValidator(_postgres_host), Kind("host or folder")]
HostId = Annotated[str, AfterValidator(_host_id)]
Endpoint = Annotated[str, AfterValidator(_endpoint), Kind("host:port")]
Url = Annotated[str, AfterValidator(_url), Kind("URL")]
Bucket = Annotated[str, AfterValidator(_bucket)]
KeyPrefix = Annotated[str, AfterValidator(_prefix)]
Port = Annotated[int, Field(ge=1, le=65535)]
ListenPort = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]

Secret = Annotated[SecretStr, PlainSerializer(_star)]
Uuid = Annotated[UUID, Field(strict=False)]  # strict would refuse the string a file holds

ModeWord = Annotated[Mode, BeforeValidator(_mode), Kind(choices(Mode))]
BackendWord = Annotated[BackendKind, BeforeValidator(_backend), Kind(choices(BACKENDS))]
Level = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_level)]
