"""The ``ssl:`` endpoint strings of Twisted, and the certificates and keys that they name."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.ssl import CertificateOptions, DiffieHellmanParameters
from twisted.python.filepath import FilePath

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.settings.spec import parse_spec
from rapidrtmp.support.text import reason_of

__all__ = ["BEHIND_PROXY", "LoadedCertificate", "State", "TlsEndpoint", "is_tls", "user_name"]

#: What endpoints begin with where all who connect are proxies.
BEHIND_PROXY = "haproxy:"
#: What is a choice of the versions that both sides know; all else that ``sslmethod=`` can say is one old version.
_NEGOTIATED = ("SSLv23_METHOD", "TLS_METHOD", "TLS_SERVER_METHOD")
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)

#: What a file is like: it has changed when this has.
State = tuple[object, ...]


def is_tls(description: str) -> bool:
    """Whether an endpoint string is that of an encrypted door."""
    return description.removeprefix(BEHIND_PROXY).startswith("ssl:")


@dataclass(frozen=True)
class TlsEndpoint:
    """
    An ``ssl:`` endpoint string of Twisted, read.

    :ivar certificate: a PEM file: the certificate, and behind it those that lead to its authority, if any.
    :ivar chain: another file of those.
    """

    port: int
    private_key: Path
    certificate: Path
    chain: Path | None
    dh_parameters: Path | None
    interface: str
    backlog: int

    @classmethod
    def parse(cls, description: str) -> TlsEndpoint:
        """Read one. :raises ConfigurationError: it has unknown keys, or values that cannot be."""
        spec = parse_spec(description.removeprefix(BEHIND_PROXY))
        try:
            return cls._make(*spec.arguments, **spec.options)
        except TypeError as error:
            known = ["port", "privateKey", "certKey", "extraCertChain", "dhParameters", "interface", "backlog"]
            raise ConfigurationError(f"ssl: takes {', '.join(known)}") from error
        except ValueError as error:
            raise ConfigurationError(reason_of(error)) from error

    @classmethod
    def _make(
        cls,
        port: str,
        privateKey: str = "server.pem",
        certKey: str | None = None,
        sslmethod: str = _NEGOTIATED[0],
        interface: str = "",
        backlog: str = "50",
        extraCertChain: str | None = None,
        dhParameters: str | None = None,
    ) -> TlsEndpoint:
        if sslmethod not in _NEGOTIATED:
            raise ConfigurationError("sslmethod= is not supported: TLS 1.2 and 1.3 are spoken, whatever it says")
        return cls(
            port=int(port),
            private_key=Path(privateKey),
            certificate=Path(certKey or privateKey),
            chain=Path(extraCertChain) if extraCertChain else None,
            dh_parameters=Path(dhParameters) if dhParameters else None,
            interface=interface,
            backlog=int(backlog),
        )

    @property
    def files(self) -> Sequence[Path]:
        """All files that it names."""
        named = (self.private_key, self.certificate, self.chain, self.dh_parameters)
        return [path for path in named if path is not None]

    def state(self) -> State:
        """What the files are like now."""
        return tuple(_state(path) for path in self.files)

    def load(self) -> LoadedCertificate:
        """
        Read the files.

        :raises ConfigurationError: one cannot be read, is cut short or is no PEM, or the key is another's.
        """
        certificates = _read_certificates(self.certificate)
        if self.chain is not None:
            certificates += _read_certificates(self.chain)
        leaf, *chain = certificates
        key = _read_key(self.private_key)
        if _public_bytes(key.public_key()) != _public_bytes(leaf.public_key()):
            raise ConfigurationError(
                f"the key in {self.private_key} is not that of the certificate in {self.certificate}"
            )
        try:
            options = CertificateOptions(
                privateKey=crypto.PKey.from_cryptography_key(key),
                certificate=crypto.X509.from_cryptography(leaf),
                extraCertChain=[crypto.X509.from_cryptography(each) for each in chain],
                dhParameters=self._read_dh_parameters(),
            )  # which speaks TLS 1.2 and up
            context = options.getContext()
        except (SSL.Error, crypto.Error, ValueError) as error:
            raise ConfigurationError(f"{self.certificate} cannot be used: {reason_of(error)}") from error
        contents = b"".join(each.public_bytes(Encoding.DER) for each in certificates)
        return LoadedCertificate(context, hashlib.sha256(contents).digest(), leaf.not_valid_after_utc.timestamp())

    def _read_dh_parameters(self) -> DiffieHellmanParameters | None:
        if self.dh_parameters is None:
            return None
        _read(self.dh_parameters)
        return cast(DiffieHellmanParameters, DiffieHellmanParameters.fromFile(FilePath(str(self.dh_parameters))))


@dataclass(frozen=True)
class LoadedCertificate:
    """
    A certificate with its key, ready for connections.

    :ivar digest: that of the certificate and its chain.
    :ivar expires_s: when it ends, in seconds since 1970.
    """

    context: SSL.Context
    digest: bytes
    expires_s: float


def _state(path: Path) -> State:
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno,)
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except PermissionError as error:
        raise ConfigurationError(
            f"{path} is not readable for {user_name()}, as which the server runs: "
            "that user must be allowed to read the file and to enter its folders"
        ) from error
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} does not exist") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if not data.strip():
        raise ConfigurationError(f"{path} is empty")
    rest = _PEM_BLOCK.sub(b"", data).rstrip()
    if b"-----" in rest or rest.endswith(b"-"):
        raise ConfigurationError(f"{path} is cut short: a PEM block has no end")
    return data


def _read_certificates(path: Path) -> list[x509.Certificate]:
    data = _read(path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ConfigurationError(f"{path} holds no certificate in PEM") from error


def _read_key(path: Path) -> Any:
    data = _read(path)
    try:
        return load_pem_private_key(data, None)
    except TypeError as error:
        raise ConfigurationError(f"the key in {path} needs a password, which the server cannot give") from error
    except Exception as error:  # ValueError, or that the kind of key is unknown
        raise ConfigurationError(f"{path} holds no private key in PEM") from error


def _public_bytes(key: Any) -> bytes:
    return cast(bytes, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def user_name() -> str:
    """The user that the process runs as, as its administrator knows it."""
    if not hasattr(os, "geteuid"):
        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
