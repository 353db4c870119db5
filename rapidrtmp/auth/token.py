"""
The ``token`` authenticator: stateless signed tokens, each for one stream until it expires.

A token is 27 bytes, 36 characters of base64url: a nonce (6), the time it expires (5, big-endian seconds since 1970)
and the first 16 bytes of an HMAC-SHA256 over its purpose, the stream's name and those two. Nothing is stored but the
secret, so a token is good for every reconnect, survives a restart of the server, and works at each server that shares
the secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    ITokenIssuer,
    PublishRequest,
    Verdict,
)
from rapidrtmp.names import StreamName
from rapidrtmp.support.secret_file import keep_secret

__all__ = ["TokenAuthenticator", "TokenAuthenticatorFactory"]

_TOKEN = re.compile(r"[A-Za-z0-9_-]{36}", re.ASCII)
_PURPOSE = b"rapidrtmp publish 1"
_NONCE_SIZE, _EXPIRY_SIZE, _MAC_SIZE = 6, 5, 16
MINIMUM_SECRET_LENGTH = 16
DEFAULT_SECRET_FILE = "data/token.key"


@implementer(IAuthenticator, ITokenIssuer)
class TokenAuthenticator:
    """
    Checks tokens, and makes them.

    :param secret: what signs them.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param ends_publish: whether a running publish ends when its token expires.
    :param random_bytes: where nonces come from.
    """

    def __init__(
        self,
        secret: bytes,
        utc_ms: Callable[[], int],
        *,
        ends_publish: bool = True,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._secret = secret
        self._utc_ms = utc_ms
        self._ends_publish = ends_publish
        self._random_bytes = random_bytes

    def issue_token(self, stream: StreamName, lifetime_s: int) -> str:
        """A new token of 36 URL-safe characters, good for ``stream`` for at least ``lifetime_s`` seconds."""
        expires_s = -(-self._utc_ms() // 1000) + lifetime_s
        claims = self._random_bytes(_NONCE_SIZE) + expires_s.to_bytes(_EXPIRY_SIZE, "big")
        return base64.urlsafe_b64encode(claims + self._mac(stream, claims)).decode("ascii")

    def authorize_publish(self, request: PublishRequest) -> Verdict:
        """Consent if the token was made for this stream and has not expired; else say which of these fails."""
        if not request.token:
            return Verdict(allowed=False, reason="a token is needed: ...?token=TOKEN")
        if not _TOKEN.fullmatch(request.token):
            return Verdict(allowed=False, reason="the token is malformed: it is not one of this server's")
        data = base64.urlsafe_b64decode(request.token)
        claims, mac = data[:-_MAC_SIZE], data[-_MAC_SIZE:]
        if not hmac.compare_digest(mac, self._mac(request.stream, claims)):
            return Verdict(allowed=False, reason="the token is for another stream, or another server's")
        expires_ms = int.from_bytes(claims[_NONCE_SIZE:], "big") * 1000
        if expires_ms <= self._utc_ms():
            return Verdict(allowed=False, reason="the token has expired: ask for a new one")
        return Verdict(
            allowed=True,
            credential=hashlib.sha256(request.token.encode("ascii")).hexdigest(),
            expires_ms=expires_ms if self._ends_publish else None,
        )

    def _mac(self, stream: StreamName, claims: bytes) -> bytes:
        # Names hold no NUL, so no two streams give the same bytes to sign.
        signed = b"\0".join((_PURPOSE, stream.app.encode(), stream.key.encode(), claims))
        return hmac.digest(self._secret, signed, "sha256")[:_MAC_SIZE]


@implementer(IAuthenticatorFactory)
class TokenAuthenticatorFactory:
    """
    ``token:secret=TEXT`` or ``token:secret-file=FILE``, and ``mid-session=end|keep``.

    :param secret: at least 16 characters, the same at every server that is to take the same tokens.
    :param secret_file: where the secret is kept instead; made, with a random one, when it is not there. Where the
        default one cannot be made, in a folder that is read-only, the secret lives as long as the server.
    :param mid_session: whether a running publish ends (``end``) when its token expires or continues (``keep``).
    """

    def __init__(self, *, secret: str = "", secret_file: str = DEFAULT_SECRET_FILE, mid_session: str = "end") -> None:
        if mid_session not in ("end", "keep"):
            raise ConfigurationError("mid_session is end or keep")
        if secret and len(secret) < MINIMUM_SECRET_LENGTH:
            raise ConfigurationError(f"the secret has {len(secret)} characters, fewer than {MINIMUM_SECRET_LENGTH}")
        self._secret = secret
        self._secret_file = Path(secret_file)
        self._ends_publish = mid_session == "end"

    def create(self, context: AuthenticatorContext) -> TokenAuthenticator:
        """
        Make the authenticator, and the secret if this is the first time.

        :raises ConfigurationError: the file can neither be read nor made, or holds no secret.
        """
        secret = self._secret.encode() or _kept_secret(self._secret_file, context.log)
        return TokenAuthenticator(secret, context.utc_ms, ends_publish=self._ends_publish)


def _may_exist(path: Path) -> bool:
    """Whether there may be a file: it is there, or its folder cannot be looked into."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _kept_secret(path: Path, log: Logger) -> bytes:
    try:
        secret = keep_secret(path, "token secret", log)
    except OSError as error:
        if str(path) != DEFAULT_SECRET_FILE or _may_exist(path):
            raise ConfigurationError(f"the token secret {path}: {error.strerror or error}") from error
        log.warn(
            "the token secret cannot be kept in {path} ({error}): tokens are good until this server ends",
            path=str(path.absolute()),
            error=error.strerror or str(error),
        )
        return secrets.token_bytes(32)
    if len(secret) < MINIMUM_SECRET_LENGTH:
        raise ConfigurationError(
            f"the token secret {path} holds {len(secret)} bytes, fewer than {MINIMUM_SECRET_LENGTH}: "
            "delete it to have a new one made"
        )
    return secret
