"""Certificates of the simulator's own authority, made anew for each run; contexts that can change theirs."""

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fakes.xprotect.faults import Certificate

OTHER_NAME = "other.example"
_AUTHORITY = "authority of the XProtect simulator"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in a folder: `ca.pem`, and one with key and certificate of each kind."""

    folder: Path

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def file(self, kind: Certificate) -> Path:
        return self.folder / f"{kind}.pem"

    def context(self) -> ssl.SSLContext:
        """A server's, with the good certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.use(context, "good")
        return context

    def use(self, context: ssl.SSLContext, kind: Certificate) -> None:
        """For the handshakes from now on."""
        context.load_cert_chain(self.file(kind))


def make_certificates(folder: Path, host: str) -> Certificates:
    """Writes the files, unless they are there; `host` is a name or an address."""
    made = Certificates(folder)
    if all(made.file(kind).exists() for kind, _, _ in _kinds(host)):
        return made
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate(_AUTHORITY, None, authority_key, _AUTHORITY, authority_key)
    made.ca_file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    for kind, name, own in _kinds(host):
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, signer = (name, key) if own else (_AUTHORITY, authority_key)
        _write(made.file(kind), key, _certificate(name, name, key, issuer, signer))
    return made


def _kinds(host: str) -> tuple[tuple[Certificate, str, bool], ...]:
    return ("good", host, False), ("self_signed", host, True), ("wrong_name", OTHER_NAME, False)


def _certificate(
    subject: str,
    name: str | None,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    """`name`: what it vouches for; None for an authority."""
    now, identifier = datetime.now(UTC), x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=name is None, path_length=None), critical=True)
    )
    if name is None:
        builder = builder.add_extension(_may_sign(), critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(name)), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _may_sign() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(name: str) -> list[x509.GeneralName]:
    try:
        return [x509.IPAddress(ipaddress.ip_address(name)), x509.DNSName("localhost")]
    except ValueError:
        return [x509.DNSName(name)]


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(path: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
