"""
Keys that verify JSON Web Tokens: the one in a file, or those that an issuer publishes (RFC 7517).

Each key goes with the algorithms of its own kind only, whatever a token says: a public key is never taken for the
secret of an HMAC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rapidrtmp.errors import ConfigurationError, RapidRTMPError
from rapidrtmp.http.outgoing import HttpAnswer
from rapidrtmp.support.text import reason_of

__all__ = ["HMAC_ALGORITHMS", "JwksUnavailableError", "KeySet", "VerifyingKey", "key_in_file"]

HMAC_ALGORITHMS = ("HS256", "HS384", "HS512")
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",), "secp256k1": ("ES256K",)}
#: How often at most the keys are fetched because of a token whose key is not among them.
REFETCH_MS = 30_000
#: How long keys are believed before they are fetched again.
FRESH_MS = 600_000
#: A set of keys is no larger.
MAX_KEYS = 100


class JwksUnavailableError(RapidRTMPError):
    """The keys of the issuer cannot be had."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """
    One key.

    :ivar kid: what tokens call it; ``""`` if it has no name.
    :ivar algorithms: those that it is for.
    """

    kid: str
    key: Any = field(repr=False)
    algorithms: Sequence[str]


def _algorithms_of(key: object) -> Sequence[str]:
    """The algorithms of a public key's kind; none if it is of no kind that is known."""
    if isinstance(key, RSAPublicKey):
        return _RSA
    if isinstance(key, EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, ())
    return ("EdDSA",) if isinstance(key, Ed25519PublicKey | Ed448PublicKey) else ()


def key_in_file(path: str) -> VerifyingKey:
    """
    The key in a file: a public key or certificate in PEM, else the secret of an HMAC, less one line break at the end.

    :raises ConfigurationError: it cannot be read, or holds no key.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    if b"-----BEGIN" in data:
        return _pem_key(path, data)
    secret = data.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise ConfigurationError(f"{path} is empty")
    return VerifyingKey("", secret, HMAC_ALGORITHMS)


def _pem_key(path: str, data: bytes) -> VerifyingKey:
    if b"PRIVATE KEY" in data:
        raise ConfigurationError(f"{path} holds a private key: this server needs the public one alone")
    try:
        is_certificate = b"BEGIN CERTIFICATE" in data
        key = load_pem_x509_certificate(data).public_key() if is_certificate else load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} holds no public key in PEM: {reason_of(error)}") from error
    algorithms = _algorithms_of(key)
    if not algorithms:
        raise ConfigurationError(f"{path} holds a key of a kind that signs no tokens here")
    return VerifyingKey("", key, algorithms)


def _read_keys(text: bytes) -> Sequence[VerifyingKey]:
    """The keys of a set that can verify. :raises JwksUnavailableError: it is none."""
    try:
        keys = json.loads(text)["keys"]
        found = [key for each in keys[:MAX_KEYS] if (key := _read_key(each)) is not None]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JwksUnavailableError("the answer is no set of keys") from error
    return found


def _read_key(jwk: Mapping[str, Any]) -> VerifyingKey | None:
    """One key; ``None`` for one that is not for signatures, or whose kind is not known. Secrets are never published."""
    if not isinstance(jwk, dict) or jwk.get("kty") == "oct" or jwk.get("use", "sig") != "sig":
        return None
    try:
        key = PyJWK(jwk).key
    except (PyJWTError, ValueError, TypeError):
        return None
    algorithms = _algorithms_of(key)
    wanted = jwk.get("alg")
    if isinstance(wanted, str):
        algorithms = [each for each in algorithms if each == wanted]
    kid = jwk.get("kid")
    return VerifyingKey(kid if isinstance(kid, str) else "", key, algorithms) if algorithms else None


class KeySet:
    """
    What an issuer publishes, fetched when it is needed.

    :param fetch: asks for it.
    :param now_ms: the server's clock.
    """

    def __init__(self, fetch: Callable[[], Deferred[HttpAnswer]], now_ms: Callable[[], int], log: Logger) -> None:
        self._fetch = fetch
        self._now_ms = now_ms
        self._log = log
        self._keys: Sequence[VerifyingKey] = ()
        self._fetched_ms: int | None = None
        self._tried_ms: int | None = None
        self._waiting: list[Deferred[None]] | None = None
        self._reason = ""

    async def candidates(self, kid: str | None) -> Sequence[VerifyingKey]:
        """
        The keys that a token may be signed with.

        :param kid: what it calls its key; ``None`` if it does not say.
        :raises JwksUnavailableError: there are none yet, and they cannot be had.
        """
        found = self._find(kid)
        if self._is_due(is_unknown=not found):
            await self._refresh()
            found = self._find(kid)
        if not found and self._fetched_ms is None:
            raise JwksUnavailableError(self._reason or "the keys were not fetched yet")
        return found

    def _find(self, kid: str | None) -> Sequence[VerifyingKey]:
        return self._keys if kid is None else [each for each in self._keys if each.kid == kid]

    def _is_due(self, *, is_unknown: bool) -> bool:
        if self._waiting is not None:
            return is_unknown
        if self._tried_ms is not None and self._now_ms() - self._tried_ms < REFETCH_MS:
            return False
        return is_unknown or self._fetched_ms is None or self._now_ms() - self._fetched_ms >= FRESH_MS

    async def _refresh(self) -> None:
        """Fetch the keys; those who ask meanwhile wait for the same answer, each with a Deferred of its own."""
        if self._waiting is None:
            self._waiting = []
            self._tried_ms = self._now_ms()
            self._fetch().addCallback(self._arrived).addErrback(self._failed).addBoth(self._done)
        if self._waiting is not None:
            waiting: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiting)
            await waiting

    def _arrived(self, answer: HttpAnswer) -> None:
        if answer.status != 200:
            raise JwksUnavailableError(f"answered {answer.status}")
        self._keys = _read_keys(answer.body)
        self._fetched_ms = self._now_ms()
        self._reason = ""

    def _failed(self, failure: Any) -> None:
        self._reason = reason_of(failure.value)
        self._log.error("the keys that verify JWTs cannot be fetched: {error}", error=self._reason)

    def _done(self, _: object) -> None:
        waiting, self._waiting = self._waiting or [], None
        for each in waiting:
            each.callback(None)
