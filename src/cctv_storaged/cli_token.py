"""`cctv-storaged token`: makes, lists and revokes tokens, by the API of a running daemon.

The secret goes to standard output, alone on its line, so that it can be piped into a file; all else goes to
standard error.
"""

import argparse
import sys
from datetime import UTC, datetime
from uuid import UUID

from cctv_storaged.api.token_models import NewTokenAnswer, TokenAnswer, TokensAnswer
from cctv_storaged.cli_cameras import camera_id
from cctv_storaged.cli_client import DONE, ApiClient, with_api
from cctv_storaged.clock import rfc3339
from cctv_storaged.config.units import parse_duration
from cctv_storaged.errors import ConfigError, Fault
from cctv_storaged.logs.lines import one_line


def create(options: argparse.Namespace) -> int:
    """`token create`"""
    return with_api(options, lambda api: _create(api, options))


def list_tokens(options: argparse.Namespace) -> int:
    """`token list`"""
    return with_api(options, lambda api: _list(api, options))


def revoke(options: argparse.Namespace) -> int:
    """`token revoke`"""
    return with_api(options, lambda api: _revoke(api, options))


def _create(api: ApiClient, options: argparse.Namespace) -> int:
    asked = {
        "name": options.name,
        "scopes": list(dict.fromkeys(options.scope)),
        "cameras": [camera_id(api, "--camera", each) for each in options.camera] or None,
        "expires_at": None if options.expires is None else expiry(options.expires, datetime.now(UTC)),
    }
    body = {name: value for name, value in asked.items() if value is not None}
    made = api.post("/tokens", NewTokenAnswer, body, key=api.new_key())
    if options.json:
        print(made.model_dump_json())
        return DONE
    print(f"{_line(made)}\n{_whereto()}", file=sys.stderr)
    print(made.secret)
    return DONE


def _whereto() -> str:
    """What is said of the secret, which only a terminal shows below."""
    if sys.stdout.isatty():
        return "its secret, which is told this once:"
    return (
        "its secret, which is told this once, goes to standard output; a file there is readable as umask has "
        "it: umask 077 before"
    )


def _list(api: ApiClient, options: argparse.Namespace) -> int:
    tokens = api.get("/tokens", TokensAnswer).tokens
    for token in tokens:
        print(token.model_dump_json() if options.json else _line(token))
    if not tokens and not options.json:
        print("none: on loopback the API is open to everybody on this machine")
    return DONE


def _revoke(api: ApiClient, options: argparse.Namespace) -> int:
    token = _named(api, options.token)
    api.delete(f"/tokens/{token.id}")
    print(one_line(f"revoked {token.id} ({token.name})"))
    return DONE


def _named(api: ApiClient, text: str) -> TokenAnswer:
    """The token of that id, or the only one of that name. Raises ConfigError."""
    tokens = api.get("/tokens", TokensAnswer).tokens
    found = [token for token in tokens if text == token.name or _is_id(text, token.id)]
    if len(found) == 1:
        return found[0]
    problem = "names several tokens" if found else "names no token"
    raise ConfigError([Fault("TOKEN", f"{text!r} {problem}", "give its id: cctv-storaged token list")])


def _is_id(text: str, token_id: UUID) -> bool:
    try:
        return UUID(text) == token_id
    except ValueError:
        return False


def expiry(text: str, now: datetime) -> str:
    """A moment as it stands, or so long from now: `90d`. What is neither is refused by the API."""
    try:
        return rfc3339(now + parse_duration(text))
    except (ValueError, OverflowError):
        return text


def _line(token: TokenAnswer) -> str:
    cameras = "all cameras" if token.cameras is None else f"{len(token.cameras)} camera(s)"
    words = [str(token.id), ",".join(token.scopes), cameras]
    words.append("no end" if token.expires_at is None else f"until {rfc3339(token.expires_at)}")
    if token.last_used_at is None:
        words.append("not used yet")
    else:
        where = "" if token.last_used_from is None else f" from {token.last_used_from}"
        words.append(f"used {rfc3339(token.last_used_at)}{where}")
    return one_line(f"{'  '.join(words)}  {token.name}")
