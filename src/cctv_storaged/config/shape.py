"""Which keys the settings have, read off the models: for hints, for the reference, and to know a secret."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from cctv_storaged.config.places import KeyPath
from cctv_storaged.config.section import Section
from cctv_storaged.config.settings import Settings

Form = Literal["value", "section", "list", "by name"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the settings; `path` has `[]` for any place in a list and `*` for any name in a mapping."""

    path: tuple[str, ...]
    field: FieldInfo
    form: Form
    section: type[Section] | None  # what lies below, where that is a section

    @property
    def text(self) -> str:
        return ".".join(self.path).replace(".[]", "[]")

    @property
    def secret(self) -> bool:
        return self.field.annotation is SecretStr


def keys_of(section: type[Section], above: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key, in the order of the models, each section before what lies in it."""
    for name, field in section.model_fields.items():
        form, below = _form(field.annotation)
        key = Key((*above, name), field, form, below)
        yield key
        if below is not None:
            step = {"list": ("[]",), "by name": ("*",)}.get(form, ())
            yield from keys_of(below, (*key.path, *step))


def key_at(key: KeyPath) -> Key | None:
    """The key a concrete path leads to; None where there is none."""
    path: tuple[str, ...] = ()
    for step in key:
        above = _BY_PATH.get(path)
        name = "[]" if isinstance(step, int) else step
        path = (*path, "*" if above is not None and above.form == "by name" else name)
    return _BY_PATH.get(path)


def section_at(key: KeyPath) -> type[Section] | None:
    """The section a concrete path leads to: `()` is the whole, `("recorders", 0)` one recorder."""
    if not key:
        return Settings
    found = key_at(key)
    if found is not None:
        return found.section if found.form == "section" else None
    holder = key_at(key[:-1])
    return holder.section if holder is not None and holder.form in {"list", "by name"} else None


def _form(annotation: object) -> tuple[Form, type[Section] | None]:
    arguments = [argument for argument in get_args(annotation) if argument is not NoneType]
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section", annotation
    if get_origin(annotation) is tuple:
        return "list", _section(arguments[0])
    if get_origin(annotation) is Mapping:
        return "by name", _section(arguments[1])
    if len(arguments) == 1 and len(get_args(annotation)) == 2:
        return _form(arguments[0])
    return "value", None


def _section(annotation: object) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


ALL_KEYS = tuple(keys_of(Settings))
_BY_PATH = {key.path: key for key in ALL_KEYS}
