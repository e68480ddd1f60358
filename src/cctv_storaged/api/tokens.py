"""API tokens: list, make, revoke. A secret is told once, at its making."""

import asyncio
import hashlib
from uuid import UUID

from aiohttp import web

from cctv_storaged.access import Scope, TokenWish
from cctv_storaged.api.parsing import body_bytes, idempotency_key, parsed, path_id
from cctv_storaged.api.problems import plain
from cctv_storaged.api.rendering import Json, answer
from cctv_storaged.api.routing import PREFIX
from cctv_storaged.api.services import Services
from cctv_storaged.api.token_models import NewTokenBody
from cctv_storaged.clock import rfc3339
from cctv_storaged.errors import Fault, Unprocessable
from cctv_storaged.journal.tokens import Token

CREATE = "POST /tokens"
MAKING = web.AppKey("making", asyncio.Lock)
"""One token is made at a time, so that the same Idempotency-Key twice at once still makes one."""


async def list_tokens(request: web.Request, services: Services) -> web.StreamResponse:
    return answer({"tokens": [token_json(token) for token in await services.access.all()]})


async def create(request: web.Request, services: Services) -> web.StreamResponse:
    key = idempotency_key(request)
    raw = await body_bytes(request)
    body = parsed(raw, NewTokenBody)
    digest = hashlib.sha256(raw).digest()
    async with request.app[MAKING]:
        if key is not None and (earlier := await _made_earlier(services, key, digest)) is not None:
            return _made(earlier, None)
        made = await services.access.create(await _wish(body, services))
        if key is not None:
            now = services.clock.now()
            await services.journal.idempotency.remember(CREATE, key, digest, str(made.token.id), now)
    return _made(made.token, made.secret)


async def revoke(request: web.Request, services: Services) -> web.StreamResponse:
    await services.access.revoke(path_id(request, "token_id"))
    return web.Response(status=204)


async def _wish(body: NewTokenBody, services: Services) -> TokenWish:
    """Raises Unprocessable for a camera that nobody knows: its token would see nothing."""
    faults = []
    for number, camera_id in enumerate(body.cameras or ()):
        known = camera_id in services.cameras.configured
        if not known and await services.journal.cameras.camera(camera_id) is None:
            faults.append(Fault(f"cameras.{number}", f"no camera {camera_id} on this host"))
    if faults:
        raise Unprocessable(faults)
    return TokenWish(
        name=body.name,
        scopes=frozenset(body.scopes),
        cameras=None if body.cameras is None else frozenset(body.cameras),
        expires_at=body.expires_at,
    )


def token_json(token: Token) -> dict[str, Json]:
    """A token without its secret."""
    return {
        "id": str(token.id),
        "name": plain(token.name),
        "scopes": [scope for scope in Scope if scope in token.scopes],
        "cameras": None if token.cameras is None else sorted(map(str, token.cameras)),
        "created_at": rfc3339(token.created_at),
        "expires_at": None if token.expires_at is None else rfc3339(token.expires_at),
        "last_used_at": None if token.used_at is None else rfc3339(token.used_at),
        "last_used_from": token.used_from,
    }


async def _made_earlier(services: Services, key: str, digest: bytes) -> Token | None:
    made = await services.journal.idempotency.made_by(CREATE, key, digest)
    if made is None:
        return None
    return next((token for token in await services.access.all() if token.id == UUID(made)), None)


def _made(token: Token, secret: str | None) -> web.StreamResponse:
    return answer(
        {**token_json(token), "secret": secret},
        status=200 if secret is None else 201,
        headers={"Location": f"{PREFIX}/tokens/{token.id}"},
    )
