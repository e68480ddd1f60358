"""What every level of the settings is: frozen, strict, and closed to keys it does not know."""

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A mapping in the settings file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,  # what was given may be a secret
        use_attribute_docstrings=True,  # the reference prints them
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_left_out(cls, data: object) -> object:
        """`key:` with nothing behind it means its default; a key nobody knows stays, to be refused."""
        if not isinstance(data, dict):
            return data
        return {
            key: value for key, value in data.items() if key not in cls.model_fields or not is_empty(value)
        }


def is_empty(value: object) -> bool:
    """Nothing, or a text without characters, as an empty environment variable is."""
    return value is None or value == ""
