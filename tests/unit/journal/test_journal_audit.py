"""The audit's lines among millions of others, and tokens with limits, an end and a last use."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cctv_storaged.access import Access, Scope, TokenWish
from cctv_storaged.errors import Conflict, Unprocessable
from cctv_storaged.journal.ledgeraudit import CHANGED, READ, REFUSED, SLICE, Told
from cctv_storaged.journal.tokens import Token
from tests.unit.journal.samples import GATE, NOW, YARD, new, open_journal, record, span

ADMIN = frozenset({Scope.ADMIN})


class Now:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - NOW).total_seconds()


async def test_the_audit_is_found_among_other_lines_and_holds_with_them(tmp_path: Path) -> None:
    journal = await open_journal(tmp_path)
    try:
        for number, cause in enumerate((READ, CHANGED, REFUSED)):
            await record(journal, new(number))
            told = Told(cause=cause, subject=UUID(int=1), camera_id=GATE.id, span=span(number), detail="{}")
            await journal.audit_lines.tell(told, NOW)
        found = await journal.audit_lines.before(None)
        assert [bound.line.cause for bound in found] == [REFUSED, CHANGED, READ]
        older = await journal.audit_lines.before(found[0].line.no, 1)
        assert [bound.line.cause for bound in older] == [CHANGED]
        assert len(await journal.audit_lines.before(None, 10 * SLICE)) == 3
        lines = (await journal.ledger_lines.page(0)).lines
        assert set(found) < set(lines), "they are lines of the one chain"
    finally:
        await journal.close()


async def test_a_token_keeps_its_limits_over_a_restart(tmp_path: Path) -> None:
    end = NOW + timedelta(days=1)
    token = Token(
        id=UUID(int=5),
        name="gate",
        scopes=frozenset({"read"}),
        created_at=NOW,
        cameras=frozenset({GATE.id, YARD.id}),
        expires_at=end,
    )
    journal = await open_journal(tmp_path)
    await journal.tokens.add(token, "secret")
    await journal.tokens.used(token.id, NOW, "192.0.2.1")
    await journal.close()
    journal = await open_journal(tmp_path)
    try:
        used = replace(token, used_at=NOW, used_from="192.0.2.1")
        assert await journal.tokens.find("secret") == used
    finally:
        await journal.close()


async def test_a_token_ends_at_its_end_and_its_last_use_is_known(tmp_path: Path) -> None:
    journal, clock = await open_journal(tmp_path), Now()
    try:
        access = Access(journal.tokens, clock)
        await access.create(TokenWish(name="first", scopes=ADMIN))
        wish = TokenWish(name="guest", scopes=frozenset({Scope.READ}), expires_at=NOW + timedelta(hours=1))
        guest = await access.create(wish)
        assert await access.token_of(guest.secret, "192.0.2.1") is not None
        clock.at += timedelta(minutes=4)
        await access.token_of(guest.secret, "192.0.2.2")
        known = await journal.tokens.find(guest.secret)
        assert known is not None
        assert (known.used_at, known.used_from) == (NOW, "192.0.2.1"), "not a commit for each request"
        clock.at += timedelta(minutes=2)
        await access.token_of(guest.secret, "192.0.2.2")
        known = await journal.tokens.find(guest.secret)
        assert known is not None
        assert (known.used_at, known.used_from) == (clock.at, "192.0.2.2")
        clock.at = NOW + timedelta(hours=1)
        assert await access.token_of(guest.secret) is None
        assert access.any_defined, "a token past its end does not open the door to everybody"
    finally:
        await journal.close()


async def test_nobody_is_locked_out_by_a_token_that_ends(tmp_path: Path) -> None:
    journal, clock = await open_journal(tmp_path), Now()
    try:
        access = Access(journal.tokens, clock)
        ending = TokenWish(name="guest", scopes=ADMIN, expires_at=NOW + timedelta(days=1))
        with pytest.raises(Conflict):
            await access.create(ending)
        first = await access.create(TokenWish(name="first", scopes=ADMIN))
        await access.create(ending)
        with pytest.raises(Conflict):
            await access.revoke(first.token.id)
        with pytest.raises(Unprocessable):
            await access.create(replace(ending, expires_at=NOW))
        with pytest.raises(Unprocessable):
            await access.create(TokenWish(name="x", scopes=ADMIN, cameras=frozenset({GATE.id})))
    finally:
        await journal.close()


async def test_of_two_revocations_at_once_one_leaves_an_admin(tmp_path: Path) -> None:
    """Each would count the other's as left; without any token the door on loopback is open to everybody."""
    journal = await open_journal(tmp_path)
    try:
        access = Access(journal.tokens, Now())
        made = [await access.create(TokenWish(name=name, scopes=ADMIN)) for name in ("one", "other")]
        ended = await asyncio.gather(*(access.revoke(each.token.id) for each in made), return_exceptions=True)
        assert [type(each) for each in ended if each is not None] == [Conflict]
        assert access.any_defined
        assert len(await access.all()) == 1
    finally:
        await journal.close()


async def test_a_token_that_is_revoked_while_it_is_looked_up_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await open_journal(tmp_path)
    try:
        access = Access(journal.tokens, Now())
        await access.create(TokenWish(name="first", scopes=ADMIN))
        guest = await access.create(TokenWish(name="guest", scopes=frozenset({Scope.READ})))
        read, go_on, find = asyncio.Event(), asyncio.Event(), journal.tokens.find

        async def slow(secret: str) -> Token | None:
            found = await find(secret)
            read.set()
            await go_on.wait()
            return found

        monkeypatch.setattr(journal.tokens, "find", slow)
        asking = asyncio.create_task(access.token_of(guest.secret))
        await read.wait()
        await access.revoke(guest.token.id)
        go_on.set()
        assert await asking is None
        assert await access.token_of(guest.secret) is None
    finally:
        await journal.close()
