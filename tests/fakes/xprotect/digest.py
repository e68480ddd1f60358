"""HTTP Digest (RFC 7616, and RFC 2617 without qop), as a driver answers it over HTTP and RTSP."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field

_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


@dataclass(slots=True)
class DigestAuth:
    """One user at one server; remembers the last challenge."""

    user: str
    password: str = field(repr=False)
    _challenge: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def challenged(self, headers: list[str]) -> bool:
        """Whether one of the `WWW-Authenticate` headers is a Digest that can be answered anew."""
        for header in headers:
            kind, _, rest = header.strip().partition(" ")
            found = {name.lower(): quoted or bare for name, quoted, bare in _FIELD.findall(rest)}
            if kind.lower() != "digest" or found.get("algorithm", "MD5").upper() not in _HASHES:
                continue
            again = self._challenge.get("nonce") == found.get("nonce")
            self._challenge, self._count = found, 0
            return not again or found.get("stale", "").lower() == "true"
        return False

    def header(self, method: str, uri: str) -> dict[str, str]:
        """`Authorization`, once there was a challenge."""
        if not self._challenge:
            return {}
        self._count += 1
        told = self._challenge
        algorithm = told.get("algorithm", "MD5").upper()
        named = {"username": self.user, "realm": told.get("realm", ""), "nonce": told.get("nonce", "")}
        inner = (
            f"{self._hash(algorithm, ':'.join([self.user, named['realm'], self.password]))}:{named['nonce']}"
        )
        outer = self._hash(algorithm, f"{method}:{uri}")
        count, own = f"{self._count:08x}", secrets.token_hex(8)
        qop = "auth" in [each.strip() for each in told.get("qop", "").split(",")]
        middle = f":{count}:{own}:auth:" if qop else ":"
        named |= {"uri": uri, "response": self._hash(algorithm, f"{inner}{middle}{outer}")}
        named |= {name: told[name] for name in ("opaque",) if name in told}
        fields = [f'{name}="{value}"' for name, value in named.items()]
        fields += [f"algorithm={told['algorithm']}"] if "algorithm" in told else []
        fields += ["qop=auth", f"nc={count}", f'cnonce="{own}"'] if qop else []
        return {"Authorization": "Digest " + ", ".join(fields)}

    @staticmethod
    def _hash(algorithm: str, text: str) -> str:
        return _HASHES[algorithm](text.encode()).hexdigest()
