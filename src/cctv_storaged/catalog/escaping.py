"""Names of any bytes in columns of valid UTF-8, and back without loss. Pure.

File names are bytes; this program holds them as `os.fsdecode` gives them, with undecodable bytes as lone
surrogates (PEP 383). PostgreSQL stores neither those nor NUL. They are written as `%XX`, two upper-case hex
digits per byte, as in RFC 3986. A percent sign stays as it is, unless what follows would make it look like
such an escape: then it is written `%25`. So ordinary names, also with a `%` in them, read as they are.
"""

import re

# Only these escapes mean anything: NUL, the percent sign, and bytes that ASCII does not have.
_LOOKS_ESCAPED = r"(?:00|25|[89A-F][0-9A-F])"
_TO_ESCAPE = re.compile(f"\0|[\udc80-\udcff]|%(?={_LOOKS_ESCAPED})")
_ESCAPED = re.compile(f"%({_LOOKS_ESCAPED})")


def escaped(text: str) -> str:
    """`text` as PostgreSQL can store it."""
    return _TO_ESCAPE.sub(lambda match: f"%{_byte_of(match[0]):02X}", text)


def unescaped(text: str) -> str:
    """What was given to `escaped`."""
    return _ESCAPED.sub(lambda match: _character_of(int(match[1], 16)), text)


def _byte_of(character: str) -> int:
    return ord(character) & 0xFF


def _character_of(byte: int) -> str:
    return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
