"""URLs that let others fetch objects of one bucket, formed as the client library forms its own.

What flows through: keys in, URLs out; nobody is asked anything. Where the bucket answers (host, path or
virtual-host style, region) is learnt from one URL that the library signed.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from cctv_storaged.backends.sigv4 import Credentials, Signer, ToPresign

SAMPLE_KEY = "sample"
EXPIRES_MAX_S = 604_800  # AWS, "Authenticating requests: using query parameters": X-Amz-Expires
_PLAIN = re.compile(r"[^\w. ()+,-]", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presigner:
    """Signs for one bucket with one set of credentials."""

    bucket: SplitResult  # its URL; the path ends in "/"
    signer: Signer
    credentials: Credentials

    @classmethod
    def learnt(cls, sample: str, credentials: Credentials) -> "Presigner":
        """From the library's URL for `SAMPLE_KEY`."""
        url = urlsplit(sample)
        region = parse_qs(url.query)["X-Amz-Credential"][0].split("/")[-3]
        bucket = url._replace(path=url.path.removesuffix(SAMPLE_KEY), query="")
        return cls(bucket=bucket, signer=Signer(region), credentials=credentials)

    def url(self, key: str, expires_s: int, filename: str | None) -> str:
        """A URL to GET the object with."""
        path = self.bucket.path + quote(key, safe="/-_.~")
        wanted = {} if filename is None else {"response-content-disposition": attachment(filename)}
        request = ToPresign(
            host=self.bucket.netloc,
            path=path,
            query=wanted,
            expires_s=max(1, min(expires_s, EXPIRES_MAX_S)),
        )
        query = self.signer.presign(request, self.credentials)
        return f"{self.bucket.scheme}://{self.bucket.netloc}{path}?{query}"


def attachment(filename: str) -> str:
    """Content-Disposition: a name that is safe everywhere and, where it differs, the full one (RFC 6266)."""
    plain = _PLAIN.sub("_", filename)
    full = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='', errors='replace')}"
    return f'attachment; filename="{plain}"{full}'
