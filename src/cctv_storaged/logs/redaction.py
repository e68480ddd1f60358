"""Stars in place of secrets: those that are known, and what looks like one.

Known secrets come from the settings. Shapes catch what the settings never saw, such as a signed URL or a
caller's token. A shape may star too much; that costs a word in a log, and the other mistake costs more.
"""

import json
import re
from collections.abc import Iterable
from html import escape
from urllib.parse import quote, quote_plus

STARS = "***"
WHOLE_WORD_BELOW = 6
"""Characters. Shorter secrets count as whole words only: "cctv" must not star half of every line."""

_NAMES = "password|passwd|secret|secret_key|secret_access_key"


# Each keeps what stands before the secret. None may be entered in the middle of a run that it has already
# walked through, or a long hostile name would cost the square of its length.
_SHAPES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # A header and its value, as text or in a printed dict of str or bytes. The value goes on to the quote
        # or the end of the line, for an AWS4 authorization has spaces and commas in it.
        (r"""(?i)(authorization['"]?\s*[:=]\s*(?:b?['"])?)[^'"\r\n]+""", rf"\1{STARS}"),
        (r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}", rf"\1{STARS}"),
        (r"\bcctv_[\w-]{43}(?![\w-])", STARS),  # our own tokens, wherever a client puts them
        # Presigned URLs (AWS Signature Version 4, and 2), and the same names as headers.
        (
            r"""(?i)\b(x-amz-(?:signature|credential|security-token)['"]?\s*[:=]\s*(?:b?['"])?)[^&\s'",;)}\]]+""",
            rf"\1{STARS}",
        ),
        (r"""(?i)([?&](?:signature|awsaccesskeyid|access_token|token)=)[^&\s'"]+""", rf"\1{STARS}"),
        (rf"""(?i)((?:{_NAMES})=['"]?)[^\s'"&,;)}}\]]+""", rf"\1{STARS}"),
        (rf"""(?i)(['"](?:{_NAMES})['"]\s*:\s*['"])[^'"]+""", rf"\1{STARS}"),
        # scheme://user:pass@host; greedy, for a password may hold an @ itself. Then user:pass@host alone.
        (r"""(://[^\s/:@'"]*):[^\s/?#'"]+@""", rf"\1:{STARS}@"),
        (r"""(?<![\w/.+-])([\w.+-]+):[^\s:@/'"]+@""", rf"\1:{STARS}@"),
    )
)
_MARKS = (
    "@",
    "authorization",
    "bearer",
    "cctv_",
    "x-amz-",
    "signature=",
    "awsaccesskeyid=",
    "token=",
    "passw",
    "secret",
)
"""Text without any of these, in lower case, has none of the shapes; looking for them is far cheaper."""


class Redactor:
    """Puts the stars in."""

    def __init__(self, secrets: frozenset[str] = frozenset()) -> None:
        spellings = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
        # The longest first: it wins where one secret is the beginning of another.
        self._spellings = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
        self._known = re.compile("|".join(map(_exactly, self._spellings)))

    def __call__(self, text: str) -> str:
        if _holds_any(text, self._spellings):
            text = self._known.sub(STARS, text)
        if _holds_any(text.lower(), _MARKS):
            for pattern, replacement in _SHAPES:
                text = pattern.sub(replacement, text)
        return text


def _holds_any(text: str, parts: Iterable[str]) -> bool:
    for part in parts:  # noqa: SIM110 - a generator inside any() takes twice the time, and every value comes here
        if part in text:
            return True
    return False


def _spellings(secret: str) -> set[str]:
    """The secret as itself, inside a Python or JSON literal, inside a URL, and inside HTML or XML."""
    encoded = secret.encode("utf-8", "surrogateescape")
    return {
        secret,
        repr(secret)[1:-1],
        repr(secret)[1:-1].replace("'", "\\'"),  # beside a double quote, repr keeps to single ones
        ascii(secret)[1:-1],
        repr(encoded)[2:-1],
        json.dumps(secret)[1:-1],
        quote(encoded, safe=""),
        quote(encoded),
        quote_plus(encoded),
        *_in_markup(secret),
    }


def _in_markup(secret: str) -> set[str]:
    """As servers repeat it on a page, or a serializer writes it: which of the characters and how differs."""
    bare = escape(secret, quote=False)
    double = bare.replace('"', "&quot;")
    return {bare, double, bare.replace('"', "&#34;"), escape(secret)} | {
        text.replace("'", single)
        for text in (bare, double, bare.replace('"', "&#34;"))
        for single in ("&#39;", "&apos;", "&#x27;")
    }


def _exactly(spelling: str) -> str:
    if len(spelling) < WHOLE_WORD_BELOW:
        return rf"(?<!\w){re.escape(spelling)}(?!\w)"
    return re.escape(spelling)
