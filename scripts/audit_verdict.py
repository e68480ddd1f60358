"""What pip-audit's report means: its word "no known vulnerabilities" covers what it could not ask about, too.

Usage: audit_verdict.py REPORT [--strict]. Needs nothing but Python.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

NOTHING_KNOWN, SOMETHING_KNOWN, NOT_ASKED = 0, 1, 3


def verdict(report: str, *, strict: bool) -> tuple[int, list[str]]:
    """Exit code and lines. `report`: pip-audit's JSON; empty where it came to no end."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        packages = []
    lines = []
    for package in packages:
        for known in package.get("vulns", ()):
            mended = ", ".join(known.get("fix_versions", ())) or "no version yet"
            lines.append(f"{package['name']} {package['version']}: {known['id']}, mended in: {mended}")
    if lines:
        return SOMETHING_KNOWN, lines
    unasked = [package["name"] for package in packages if "skip_reason" in package]
    if packages and not unasked:
        return NOTHING_KNOWN, [f"nothing is known against the {len(packages)} locked packages"]
    what = f"{len(unasked)} of {len(packages)} packages" if packages else "any package"
    lines = [f"NOT AUDITED: the advisories could not be asked about {what}"]
    return (NOT_ASKED if strict else NOTHING_KNOWN), lines


def main(arguments: Sequence[str]) -> int:
    code, lines = verdict(Path(arguments[0]).read_text(encoding="utf-8"), strict="--strict" in arguments[1:])
    for line in lines:
        print(f"audit-dependencies: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
