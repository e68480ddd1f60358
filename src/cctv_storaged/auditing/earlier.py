"""Chains that came before: a rebuilt journal begins another, and heads of the one before stay in the store.

What the rebuild met of them is remembered, so that they are not taken for a ledger that was exchanged. Pure.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from cctv_storaged.auditing.heads import SignedHead


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierChain:
    """A chain as the rebuild met it: further than that it cannot have come by the book."""

    chain: str
    no: int  # of its furthest head
    key: str  # fingerprint of who signed its heads

    def has(self, found: SignedHead) -> bool:
        """Whether a head is one of that chain's."""
        head, key = found.head, found.key.fingerprint
        return (head.chain, key) == (self.chain, self.key) and head.no <= self.no


def chains_of(heads: Iterable[SignedHead]) -> list[EarlierChain]:
    """The chains that heads are of."""
    furthest: dict[tuple[str, str], int] = {}
    for found in heads:
        at = (found.head.chain, found.key.fingerprint)
        furthest[at] = max(furthest.get(at, 0), found.head.no)
    return [EarlierChain(chain=chain, no=no, key=key) for (chain, key), no in furthest.items() if chain]


def text_of(chains: Sequence[EarlierChain]) -> str:
    """For the journal."""
    return json.dumps([asdict(each) for each in chains])


def parsed_chains(text: str | None) -> list[EarlierChain]:
    """What `text_of` wrote; nothing for what a salvage left unreadable."""
    try:
        return [
            EarlierChain(chain=str(each["chain"]), no=int(each["no"]), key=str(each["key"]))
            for each in json.loads(text or "[]")
        ]
    except (ValueError, KeyError, TypeError):
        return []
