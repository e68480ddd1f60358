"""What is sent and answered of tokens; as in models.py."""

from typing import Annotated

from pydantic import Field

from cctv_storaged.access import Scope
from cctv_storaged.api.models import Incoming, Moment, Outgoing, Uuid


class NewTokenBody(Incoming):
    """A token to be made."""

    name: Annotated[
        str, Field(strict=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
    ]
    """What it is for, for people."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]
    """What it allows; `admin` allows everything."""
    cameras: Annotated[list[Uuid], Field(min_length=1, max_length=1000)] | None = None
    """The cameras that it is limited to. Left out: all there are and will be. Not with `admin`."""
    expires_at: Moment | None = None
    """When it ends by itself. Left out: never."""


class TokenAnswer(Outgoing):
    """A token without its secret, which nobody keeps."""

    id: Uuid
    name: str
    scopes: list[Scope]
    cameras: list[Uuid] | None
    """The cameras that it is limited to; null: all."""
    created_at: Moment
    expires_at: Moment | None
    """When it ends by itself; null: never."""
    last_used_at: Moment | None
    """To five minutes; null where it was not used, or by a version that did not note it."""
    last_used_from: str | None
    """The address that it was used from then."""


class NewTokenAnswer(TokenAnswer):
    """A token at the only moment its secret is told."""

    secret: str | None
    """For `Authorization: Bearer`. Null when a repeated Idempotency-Key is answered."""


class TokensAnswer(Outgoing):
    """Every token, oldest first."""

    tokens: list[TokenAnswer]
