"""The audit of the dependencies: what it could not ask about is never called sound."""

import json

import pytest

from scripts.audit_verdict import NOT_ASKED, NOTHING_KNOWN, SOMETHING_KNOWN, verdict

SOUND = {"name": "yarl", "version": "1.25.1", "vulns": []}
UNASKED = {"name": "minio", "skip_reason": "Dependency not found on PyPI and could not be audited"}
KNOWN = {
    "name": "idna",
    "version": "3.1",
    "vulns": [{"id": "PYSEC-2024-60", "fix_versions": ["3.7"], "aliases": []}],
}


def report(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_nothing_known_of_all_that_were_asked_about_is_sound() -> None:
    code, lines = verdict(report(SOUND, SOUND), strict=True)
    assert code == NOTHING_KNOWN
    assert lines == ["nothing is known against the 2 locked packages"]


def test_what_is_known_fails_with_the_version_that_mends_it() -> None:
    code, lines = verdict(report(SOUND, KNOWN, UNASKED), strict=False)
    assert code == SOMETHING_KNOWN
    assert lines == ["idna 3.1: PYSEC-2024-60, mended in: 3.7"]


@pytest.mark.parametrize("told", ["", "no JSON", "{}", report(), report(UNASKED), report(SOUND, UNASKED)])
def test_what_could_not_be_asked_about_is_told_and_fails_only_a_strict_build(told: str) -> None:
    for strict, expected in ((False, NOTHING_KNOWN), (True, NOT_ASKED)):
        code, lines = verdict(told, strict=strict)
        assert code == expected
        assert lines[0].startswith("NOT AUDITED: ")
