"""From what pydantic found to what an operator can act on: the place, plain words, and the likely remedy.

A value is quoted only where the models say that it is no secret and where it does not look like one.
"""

import difflib
from collections.abc import Mapping

from pydantic_core import ErrorDetails

from cctv_storaged.config.places import KeyPath, Places, key_text
from cctv_storaged.config.shape import ALL_KEYS, key_at, section_at
from cctv_storaged.config.sources import variables_for
from cctv_storaged.config.units import BadValueError
from cctv_storaged.errors import Fault

_WORDS = {
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of names",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
}
_LIMITS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}
LONGEST_QUOTE = 60


def key_of(error: ErrorDetails) -> KeyPath:
    """The key an error is about."""
    return tuple(step for step in error["loc"] if step != "[key]")


def explain(error: ErrorDetails, places: Places) -> Fault:
    """One pydantic error as a fault."""
    key = key_of(error)
    if error["type"] == "extra_forbidden":
        return Fault(places.where(key), "unknown key", _likely_keys(key))
    if error["type"] == "missing":
        return Fault(places.where(key), "is missing", how_to_set(key))
    message, hint = _complaint(error)
    quote = _quoted(key, error["input"])
    return Fault(places.where(key), f"{message}, got {quote}" if quote else message, hint)


def how_to_set(key: KeyPath) -> str:
    """What to write to give the key a value."""
    names = variables_for(key)
    return (
        f"set {key_text(key)} in the file or {names[0]} in the environment"
        if names
        else f"set {key_text(key)}"
    )


def nearest_key(key: KeyPath) -> KeyPath | None:
    """The known key at the same level whose name is most like this one."""
    section = section_at(key[:-1])
    names = [] if section is None else list(section.model_fields)
    likely = difflib.get_close_matches(str(key[-1]).lower().replace("-", "_"), names, 1, 0.75)
    return (*key[:-1], likely[0]) if likely else None


def _likely_keys(key: KeyPath) -> str:
    nearest = nearest_key(key)
    if nearest is not None:
        return f"did you mean {key_text(nearest)}?"
    elsewhere = [known.text for known in ALL_KEYS if known.path[-1] == key[-1] and known.path != key]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    section = section_at(key[:-1])
    return "" if section is None else f"known here: {', '.join(section.model_fields)}"


def _complaint(error: ErrorDetails) -> tuple[str, str]:
    kind, context = error["type"], error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, BadValueError):
        return str(cause), cause.hint
    if kind in {"literal_error", "enum"}:
        return f"must be one of {_choices(context)}", ""
    if kind in _LIMITS:
        words, limit = _LIMITS[kind]
        return f"must be {words} {context[limit]:g}", ""
    hint = "put quotes around it" if kind == "string_type" else ""
    return _WORDS.get(kind, error["msg"]), hint


def _choices(context: Mapping[str, object]) -> str:
    return str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")


def _quoted(key: KeyPath, value: object) -> str:
    known = key_at(key)
    if known is None or known.secret or known.section is not None:  # "minio: secret" is no place to quote
        return ""
    if not isinstance(value, str | int | float):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if "@" in text:  # user:password@host
        return ""
    return repr(text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…")
