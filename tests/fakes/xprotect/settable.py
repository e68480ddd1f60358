"""Switches that can be set by name while the simulator runs: typed, and refused where they do not fit."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Self, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError


class Settable:
    """For dataclasses whose fields are plain values (JSON)."""

    def set(self, changes: Mapping[str, object]) -> Self:
        """All of the changes, or none where a name or a value is wrong (ValueError)."""
        hints = get_type_hints(type(self))
        known = {field.name for field in fields(self)}  # type: ignore[arg-type]
        checked = {}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no {name}; known: {', '.join(sorted(known))}")
            try:
                checked[name] = TypeAdapter(hints[name]).validate_python(value)
            except ValidationError as exc:
                choices = get_args(hints[name]) or (hints[name],)
                raise ValueError(f"{name} cannot be {value!r}: one of {choices}") from exc
        for name, value in checked.items():
            setattr(self, name, value)
        return self

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]
