"""
The ``jwt`` authenticator: JSON Web Tokens that another server has issued (RFC 7519).

A token says which actions on which streams it is for. The algorithm that it names must be one of the key's kind and one
of those that the operator allows; ``none`` is never.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jwt
from jwt.exceptions import PyJWTError
from twisted.internet.defer import Deferred
from zope.interface import implementer

from rapidrtmp.auth.claims import ClaimNames, Claims, read_claims
from rapidrtmp.auth.jwks import HMAC_ALGORITHMS, JwksUnavailableError, KeySet, VerifyingKey, key_in_file
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.http.outgoing import OutgoingHttp
from rapidrtmp.interfaces import (
    Action,
    AuthenticatorContext,
    IAuthenticator,
    IManageAuthenticator,
    IManageAuthenticatorFactory,
    IPlayAuthenticator,
    ManageRequest,
    PlayRequest,
    PublishRequest,
    Verdict,
)
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.units import parse_duration_s

__all__ = ["JwtAuthenticator", "JwtAuthenticatorFactory"]

KNOWN_ALGORITHMS = (
    *HMAC_ALGORITHMS,
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA"),
)
#: How long the answer to a fetch of keys may take.
FETCH_S = 5.0
#: How long a player's token is believed until it is looked at again.
KEEP_MS = 4_000
#: No token that is longer is looked at.
MAX_TOKEN_LENGTH = 8192
#: Of a key that signs by HMAC: shorter ones can be guessed.
SAFE_KEY_LENGTH = 32
#: What is checked here instead, or not at all.
_UNCHECKED = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "sub", "jti")}
_NO_TOKEN = Verdict(allowed=False, reason="a token is needed: ...?token=TOKEN", is_unauthenticated=True)


@implementer(IAuthenticator, IPlayAuthenticator, IManageAuthenticator)
class JwtAuthenticator:
    """
    Checks tokens.

    :param find_keys: tells the keys that a token of this ``kid``, or of none, may be signed with.
    :param algorithms: those that are allowed.
    :param issuer: what ``iss`` must be; ``""`` for anything. Likewise ``audience``.
    :param leeway_s: how far the issuer's clock may be from ours.
    """

    def __init__(
        self,
        find_keys: Callable[[str | None], Any],
        utc_ms: Callable[[], int],
        algorithms: Sequence[str],
        *,
        issuer: str = "",
        audience: str = "",
        leeway_s: int = 60,
        names: ClaimNames = ClaimNames(),  # noqa: B008 - it is frozen
    ) -> None:
        self._find_keys = find_keys
        self._utc_ms = utc_ms
        self._algorithms = algorithms
        self._issuer = issuer
        self._audience = audience
        self._leeway_s = leeway_s
        self._names = names

    def authorize_publish(self, request: PublishRequest) -> Deferred[Verdict]:
        """Consent if the token lets this stream be published."""
        return self._judged(request.token, lambda claims: claims.mismatch(Action.PUBLISH, request.stream))

    def authorize_play(self, request: PlayRequest) -> Deferred[Verdict]:
        """Consent if the token lets this stream be watched."""
        return self._judged(request.token, lambda claims: claims.mismatch(Action.PLAY, request.stream))

    def authorize_manage(self, request: ManageRequest) -> Deferred[Verdict]:
        """Consent if the token lets this stream, or the whole server, be managed."""
        return self._judged(request.token, lambda claims: claims.manage_mismatch(request.stream))

    def _judged(self, token: str, find_mismatch: Callable[[Claims], str]) -> Deferred[Verdict]:
        return Deferred.fromCoroutine(self._judge(token, find_mismatch))

    async def _judge(self, token: str, find_mismatch: Callable[[Claims], str]) -> Verdict:
        if not token:
            return _NO_TOKEN
        try:
            claims = await self._verified(token)
        except JwksUnavailableError:
            reason = "the token cannot be checked now; try again later"
            return Verdict(allowed=False, reason=reason, is_undecided=True)
        except (PyJWTError, ValueError):
            return Verdict(allowed=False, reason="the token is not a valid one", is_unauthenticated=True)
        return self._verdict(claims, find_mismatch, token)

    def _verdict(self, claims: Claims, find_mismatch: Callable[[Claims], str], token: str) -> Verdict:
        """What is thought of a token whose signature is good."""
        now_s = self._utc_ms() / 1000
        if claims.expires_s is not None and claims.expires_s + self._leeway_s <= now_s:
            return Verdict(allowed=False, reason="the token has expired: ask for a new one", is_unauthenticated=True)
        if claims.not_before_s is not None and claims.not_before_s - self._leeway_s > now_s:
            return Verdict(allowed=False, reason="the token is not valid yet", is_unauthenticated=True)
        mismatch = find_mismatch(claims)
        if mismatch:
            return Verdict(allowed=False, reason=mismatch)
        return Verdict(
            allowed=True,
            credential=hashlib.sha256(token.encode()).hexdigest(),
            expires_ms=None if claims.expires_s is None else int((claims.expires_s + self._leeway_s) * 1000),
            issued_ms=None if claims.issued_s is None else int(claims.issued_s * 1000),
            keep_ms=KEEP_MS,
            subject=claims.subject,
        )

    async def _verified(self, token: str) -> Claims:
        """
        What a token says, if its signature is good.

        :raises PyJWTError: it is not; so for ``ValueError``.
        :raises JwksUnavailableError: that cannot be known.
        """
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise ValueError("too long, or no text")
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise ValueError("an algorithm that is not allowed")
        for key in await self._find_keys(kid if isinstance(kid, str) else None):
            if algorithm in key.algorithms:
                claims = self._decode(token, key, algorithm)
                if claims is not None:
                    return read_claims(claims, self._names)
        raise ValueError("no key of ours has signed it")

    def _decode(self, token: str, key: VerifyingKey, algorithm: str) -> Mapping[str, Any] | None:
        """The claims; ``None`` if another key signed them. :raises PyJWTError: they are for others, or unreadable."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of keys that are short: that was said at the start
                claims: Mapping[str, Any] = jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],
                    issuer=self._issuer or None,
                    audience=self._audience or None,
                    options={**_UNCHECKED, "verify_aud": bool(self._audience)},  # type: ignore[arg-type]
                )
        except jwt.InvalidSignatureError:
            return None
        return claims


@implementer(IManageAuthenticatorFactory)
class JwtAuthenticatorFactory:
    """
    ``jwt:key=FILE`` or ``jwt:jwks=URL``; see ``docs/authentication.md``.

    :param key: a file with the secret of an HMAC, or a public key in PEM.
    :param jwks: where the issuer publishes its keys.
    :param algorithms: names with commas or spaces between; all that go with the key if it is empty.
    :param leeway: how far the issuer's clock may be from ours.
    :param actions: what the claim of the actions is called; likewise ``streams``.
    """

    def __init__(
        self,
        *,
        key: str = "",
        jwks: str = "",
        algorithms: str = "",
        issuer: str = "",
        audience: str = "",
        leeway: str = "60s",
        actions: str = "actions",
        streams: str = "streams",
    ) -> None:
        if bool(key) == bool(jwks):
            raise ConfigurationError("either key=FILE or jwks=URL is needed")
        if jwks and not jwks.startswith(("http://", "https://")):
            raise ConfigurationError(r"jwks is not a URL such as https\://example.com/jwks.json")
        self._key_file = key
        self._url = jwks
        self._algorithms = _checked_algorithms(algorithms)
        self._options: dict[str, Any] = {
            "issuer": issuer,
            "audience": audience,
            "leeway_s": parse_duration_s(leeway),
            "names": ClaimNames(actions, streams),
        }

    def create(self, context: AuthenticatorContext) -> JwtAuthenticator:
        """Make the authenticator. :raises ConfigurationError: the key cannot be read, or goes with no algorithm."""
        if self._url:
            http = OutgoingHttp(context.clock)
            fetch = partial(http.request, "GET", self._url, FETCH_S)
            keys = KeySet(fetch, partial(now_ms, context.clock), context.log)
            allowed = self._algorithms or tuple(each for each in KNOWN_ALGORITHMS if each not in HMAC_ALGORITHMS)
            if set(allowed) & set(HMAC_ALGORITHMS):
                raise ConfigurationError("algorithms: keys that are published sign by no HMAC")
            return JwtAuthenticator(keys.candidates, context.utc_ms, allowed, **self._options)
        key = key_in_file(self._key_file)
        allowed = self._algorithms or tuple(key.algorithms)
        wrong = sorted(set(allowed) - set(key.algorithms))
        if wrong:
            raise ConfigurationError(f"algorithms: {', '.join(wrong)} do not go with the key in {self._key_file}")
        if isinstance(key.key, bytes) and len(key.key) < SAFE_KEY_LENGTH:
            context.log.warn(
                "the key of JWTs has {length} bytes: fewer than {safe} can be guessed",
                length=len(key.key),
                safe=SAFE_KEY_LENGTH,
            )

        async def find_keys(_kid: str | None) -> Sequence[VerifyingKey]:
            return [key]

        return JwtAuthenticator(find_keys, context.utc_ms, allowed, **self._options)


def _checked_algorithms(text: str) -> tuple[str, ...]:
    names = tuple(text.replace(",", " ").split())
    unknown = [name for name in names if name not in KNOWN_ALGORITHMS]
    if unknown:
        raise ConfigurationError(f"algorithms: {unknown[0]!r} is not one of {', '.join(KNOWN_ALGORITHMS)}")
    return names
