"""The host's public key: what packages signed here are checked with."""

import asyncio
from collections.abc import Sequence

from aiohttp import web
from pydantic import BaseModel, Field

from cctv_storaged.access import Scope
from cctv_storaged.api.rendering import answer
from cctv_storaged.api.routing import PREFIX, Answer, Reach, Route
from cctv_storaged.api.services import Services


class SigningKeyAnswer(BaseModel):
    """The public half of the key that this host signs evidence packages with."""

    algorithm: str = Field(description="Always `Ed25519` (RFC 8032).")
    fingerprint: str = Field(
        pattern="^sha256:[0-9a-f]{64}$", description="SHA-256 of the key in DER (SubjectPublicKeyInfo)."
    )
    public_key: str = Field(description="The key in PEM (RFC 8410), as OpenSSL reads it.")


async def show(request: web.Request, services: Services) -> web.StreamResponse:
    key = await asyncio.to_thread(services.signing.current)
    return answer(
        {
            "algorithm": "Ed25519",
            "fingerprint": key.public.fingerprint,
            "public_key": key.public.pem.decode("ascii"),
        }
    )


ROUTES: Sequence[Route] = (
    Route(
        method="GET",
        path=f"{PREFIX}/signing-key",
        handler=show,
        name="showSigningKey",
        summary="The public key that this host's evidence packages are checked with",
        scope=Scope.READ,
        reach=Reach.NEUTRAL,
        answers=(Answer(status=200, means="The key", model=SigningKeyAnswer),),
    ),
)
