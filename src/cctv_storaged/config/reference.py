"""The reference of all settings as Markdown, made from the models, so that it cannot say something else."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cctv_storaged.config.places import KeyPath, key_text
from cctv_storaged.config.reload import RELOADABLE
from cctv_storaged.config.section import Section
from cctv_storaged.config.settings import Settings
from cctv_storaged.config.shape import Key, keys_of
from cctv_storaged.config.sources import AWS_KEYS, FALLBACKS, VARIABLES, variables_for
from cctv_storaged.config.values import Kind, choices

_INTRODUCTION = """\
# Settings

<!-- Made from src/cctv_storaged/config by scripts/settings_reference.py; change it there. -->

`cctv-storaged check-config` prints what is in force, secrets starred. Unknown keys, wrong types and settings
that contradict each other are refused at start, all in one go.

## Where settings come from

From weak to strong: the defaults below, the `AWS_*` variables, the YAML file, the other environment
variables, the credentials in `$CREDENTIALS_DIRECTORY`.

* A key with nothing behind it, or a variable set to nothing, is as good as left out.
* For each variable `NAME`, `NAME_FILE` may name a file that holds the value; a newline at its end is
  dropped. Both at once are refused.
* `AWS_*` variables are looked at with `backend: S3` only; keys and token come together or not at all.
* `RECORDINGS_*` speak about the only recorder there is, and are refused where the file lists several.
* Without `data_dir`, the first folder of `$STATE_DIRECTORY` is taken, as systemd sets it.
* A relative path starts at the working directory.

The file is YAML 1.2: only `true` and `false` are switches, `22:00` and `007` are text. Tags and merge keys
are refused, and so are more than 16 aliases.

## How quantities are written

| kind | examples | |
|---|---|---|
| duration | `250ms` `30s` `5m` `24h` `30d` | `ms s m h d` |
| size | `250MB` `8MiB` | `kB MB GB TB` by 1000, `KiB MiB GiB TiB` by 1024, `B` |
| rate | `20Mbit/s` `5MB/s` | `bit/s kbit/s Mbit/s Gbit/s`, and the sizes with `/s` |
| share | `20%` `0.2` | |

A bare number is refused where a unit is needed; 0 is not.
"""

_DERIVED = {
    "host_id": "the host's name",
    "data_dir": "`$STATE_DIRECTORY` or `./var`",
    "recorders[].path": "`data_dir`/recordings",
    "filesystem.path": "`data_dir`/store",
}
_PLAIN_KINDS: dict[object, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true false",
    SecretStr: "secret",
}


def settings_reference() -> str:
    """The whole document, with a newline at its end."""
    sections = chain.from_iterable(_section(heading, keys) for heading, keys in _by_section())
    return "\n".join([_INTRODUCTION, *sections, *_environment(), *_reloading(), ""])


def _by_section() -> Iterator[tuple[Key | None, list[Key]]]:
    """Each section with the keys that stand directly in it; None is the top of the file."""
    everything = list(keys_of(Settings))
    yield None, [key for key in everything if len(key.path) == 1 and key.section is None]
    for holder in (key for key in everything if key.section is not None):
        inside = [key for key in everything if _stands_in(key, holder) and key.section is None]
        yield holder, inside


def _stands_in(key: Key, holder: Key) -> bool:
    below = key.path[len(holder.path) :]
    steps = [step for step in below if step not in {"[]", "*"}]
    return key.path[: len(holder.path)] == holder.path and len(steps) == 1


def _section(holder: Key | None, keys: list[Key]) -> Iterator[str]:
    yield f"## `{holder.text}`" if holder else "## At the top"
    yield ""
    yield from (f"{text}\n" for text in _told(holder))
    if not keys:
        return
    yield "| key | kind | default | variable | |"
    yield "|---|---|---|---|---|"
    for key in keys:
        variables = " ".join(f"`{name}`" for name in variables_for(_concrete(key)))
        cells = (
            f"`{key.text}`",
            _kind(key.field),
            _default(key, holder),
            variables,
            _prose(key.field.description),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _told(holder: Key | None) -> Iterator[str]:
    if holder is None or holder.section is None:
        return
    for text in (holder.field.description, holder.section.__doc__):
        if text:
            yield _prose(text)


def _kind(field: FieldInfo) -> str:
    """In the words of the introduction; choices as they are."""
    found = _kind_mark(field)
    if found is not None:
        return found.name
    plain = _without_none(field.annotation)
    if get_origin(plain) is Literal:
        return choices(get_args(plain))
    if get_origin(plain) is tuple:
        return "list"
    return _PLAIN_KINDS.get(plain, "mapping" if get_args(plain) else "UUID")


def _kind_mark(field: FieldInfo) -> Kind | None:
    optional = get_args(field.annotation)[:1] if type(None) in get_args(field.annotation) else ()
    nested = [mark for part in optional if get_origin(part) is Annotated for mark in part.__metadata__]
    return next((mark for mark in (*field.metadata, *nested) if isinstance(mark, Kind)), None)


def _without_none(annotation: object) -> object:
    arguments = get_args(annotation)
    if type(None) not in arguments:
        return annotation
    inner = arguments[0]
    return inner.__origin__ if get_origin(inner) is Annotated else inner


def _default(key: Key, holder: Key | None) -> str:
    if key.text in _DERIVED:
        return _DERIVED[key.text]
    whole = holder.field.default if holder is not None else None  # a section may have a default of its own
    value = getattr(whole, key.path[-1]) if isinstance(whole, Section) else key.field.default
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, SecretStr) or value in (None, "", (), {}):
        return ""
    mark = _kind_mark(key.field)
    text = mark.written(value) if mark is not None else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`"


def _concrete(key: Key) -> KeyPath:
    """The first place in a list stands for all of them."""
    return tuple(0 if step == "[]" else step for step in key.path)


def _environment() -> Iterator[str]:
    yield "## Environment and credentials"
    yield ""
    yield "| variable | key | credential |"
    yield "|---|---|---|"
    for variable in (*VARIABLES, *FALLBACKS, *AWS_KEYS):
        credential = f"`{variable.credential}`" if variable.credential else ""
        yield f"| `{variable.name}` | `{key_text(variable.key)}` | {credential} |"
    yield ""


def _reloading() -> Iterator[str]:
    yield "## What SIGHUP changes"
    yield ""
    yield f"{', '.join(f'`{name}`' for name in RELOADABLE)}; everything else waits for a restart."


def _prose(text: str | None) -> str:
    return " ".join((text or "").split())
