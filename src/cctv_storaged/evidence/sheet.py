"""The package's readable sheet. Placeholder text is filled in below."""

from cctv_storaged.evidence.manifest import Manifest

README_TEXT = ""


def sheet(manifest: Manifest) -> str:
    return ""
