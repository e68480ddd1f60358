"""What a mark says, and what is made of it: only the very identity that was known is right."""

import uuid
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from cctv_storaged.guarding.identity import LONGEST_BYTES, WEAK, Mark, Standing, identity_in, judged

identities = st.one_of(
    st.uuids().map(str),
    st.sampled_from(["fs:1f:2", "fs:1f:3", "net:nfs4:nas:/export:2"]),
    st.binary(max_size=8).map(identity_in),
)
found = st.none() | identities


@given(identities, found, found)
def test_nothing_but_the_known_identity_is_right(known: str, mark: str | None, own: str | None) -> None:
    standing = judged(known, mark, own)
    assert (standing is Standing.RIGHT) == (known == (own if known.startswith(WEAK) else mark))


@given(st.uuids().map(str), found)
def test_a_mark_that_is_gone_is_not_made_up_for_by_the_file_system(known: str, own: str | None) -> None:
    assert judged(known, None, own) is Standing.MISSING


@given(st.binary(max_size=LONGEST_BYTES) | st.just(b"[" * LONGEST_BYTES))
def test_any_bytes_are_an_identity_and_other_bytes_another(document: bytes) -> None:
    identity = identity_in(document)
    assert identity == identity_in(document)
    assert not identity.startswith(WEAK)
    if identity.startswith("bytes:"):
        assert identity != identity_in(document + b" ")


def test_a_mark_says_whose_it_is_and_only_its_place_counts() -> None:
    mark = Mark.new("nvr-01", datetime(2026, 3, 5, tzinfo=UTC))
    other = Mark(place=mark.place, made=datetime(2020, 1, 1, tzinfo=UTC), host="nvr-02")
    assert identity_in(mark.document()) == identity_in(other.document()) == mark.place
    assert str(uuid.UUID(mark.place)) == mark.place
    assert b'"host": "nvr-01"' in mark.document()
    assert Mark.new("nvr-01", mark.made).place != mark.place
