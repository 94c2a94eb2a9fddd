"""A certificate for the local network, made on this machine.

Two are made. The *authority* stays in the user's folder; a phone that shall keep the app for offline use has to trust it once. It is
constrained to private networks (RFC 5280, 4.2.1.10), so that whoever steals its key can't impersonate a site of the internet. It signs the
*certificate* that the server shows, anew at each start, for the address that this machine has then.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError, MissingError
from edgekit.files import replacing

if TYPE_CHECKING:
    from ipaddress import IPv4Address
    from pathlib import Path

PRIVATE_NETWORKS = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "192.0.2.0/24")
"""Where the authority may vouch for an address: private, shared, link-local, loopback and test networks (RFC 6890); none is routed."""

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 90
"""Phones refuse certificates of more than 825 days."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the server shows.

    Attributes
    ----------
    address
        The address it is for.
    file
        The certificate and its key, PEM; only the user can read it.
    authority
        The certificate of who signed it, DER: what a phone has to trust.
    """

    address: str
    file: Path
    authority: bytes

    @property
    def fingerprint(self) -> str:
        """Sha256 of the authority, as phones show it."""
        digest = hashlib.sha256(self.authority).hexdigest().upper()
        return " ".join(digest[i : i + 4] for i in range(0, len(digest), 4))

    def open_context(self) -> ssl.SSLContext:
        """Return the server's side of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.file)
        return context


def find_address() -> str:
    """Return the address that this machine has on the local network.

    Raises
    ------
    MissingError
        It is on no network.
    InputError
        Its address is a public one.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the interface
        except OSError as error:
            raise MissingError("this machine is on no network", "join one, or leave --lan out") from error
        address = str(probe.getsockname()[0])
    if not any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in PRIVATE_NETWORKS):
        raise InputError(f"{address} is a public address: --lan is for a local network", "leave --lan out, or use a private network")
    return address


def make_certificate(address: str, folder: Path) -> Certificate:
    """Make a certificate for an address, signed by the authority in `folder`, which is made when it is not there.

    Parameters
    ----------
    address
        IPv4 address in `PRIVATE_NETWORKS`.
    folder
        Where the authority is kept.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID

    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = _load_authority(folder / "authority.pem")
    key = _make_key()
    host = ipaddress.IPv4Address(address)
    builder = _begin(f"edgekit app on {address}", authority.subject, key, CERTIFICATE_DAYS)
    certificate = (
        builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(host), *_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, _sha256())
    )
    _write_secret(folder / "server.pem", certificate.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM), key)
    return Certificate(address, folder / "server.pem", authority.public_bytes(Encoding.DER))


def _load_authority(file: Path) -> tuple[Any, Any]:
    """Return the authority's certificate and key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    if file.exists():
        content = file.read_bytes()
        try:
            authority = x509.load_pem_x509_certificate(content)
            if authority.not_valid_after_utc > _now() + datetime.timedelta(days=CERTIFICATE_DAYS):
                return authority, load_pem_private_key(content, None)
        except ValueError as error:
            raise InputError(
                f"{file}: not a certificate with its key ({error})", f"delete {file}; phones must then trust a new one"
            ) from error
    key = _make_key()
    networks = [x509.IPAddress(ipaddress.ip_network(network)) for network in PRIVATE_NETWORKS]
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    name = f"edgekit app, {socket.gethostname()}"
    authority = (
        _begin(name, None, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.NameConstraints([*networks, x509.DNSName("localhost")], None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, _sha256())
    )
    _write_secret(file, authority.public_bytes(Encoding.PEM), key)
    return authority, key


def _begin(name: str, issuer: Any, key: Any, days: int) -> Any:
    """Begin a certificate that is valid from yesterday, for clocks differ."""
    from cryptography import x509

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    day = datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - day)
        .not_valid_after(_now() + days * day)
    )


def _name(host: IPv4Address) -> list[Any]:
    from cryptography import x509

    return [x509.DNSName("localhost")] if host.is_loopback else []


def _make_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _write_secret(file: Path, certificates: bytes, key: Any) -> None:
    """Write certificates and a key so that only the user can read them."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with replacing(file) as partial, os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        target.write(certificates + secret)
