"""
The ``token`` authenticator: stateless signed tokens to publish or to play with, each until it expires.

Nothing is stored but the keys that sign them, so a token is good for every reconnect, survives a restart of the server,
and works at each server that has the keys. What a token says is in :mod:`rapidrtmp.auth.signed`; which ones were
revoked, in :mod:`rapidrtmp.auth.revocation`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path

from zope.interface import implementer

from rapidrtmp.auth.keys import DEFAULT_SECRET_FILE, FixedKeys, Keys, KeysInFile, check_keys
from rapidrtmp.auth.patterns import is_in_network
from rapidrtmp.auth.signed import SignedToken, digest_of, read_token, write_token
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    Action,
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    IPlayAuthenticator,
    ITokenIssuer,
    PlayRequest,
    PublishRequest,
    TokenTerms,
    Verdict,
)
from rapidrtmp.names import StreamName

__all__ = ["TokenAuthenticator", "TokenAuthenticatorFactory"]

_NUMBER_SIZE = 6
#: How long a player's token is believed until the keys, which may have changed, are asked again.
KEEP_MS = 4_000
_NEEDED = {
    Action.PUBLISH: "a token is needed: ...?token=TOKEN",
    Action.PLAY: "a token is needed to watch this: ask for one where you found the link",
}


@implementer(IAuthenticator, IPlayAuthenticator, ITokenIssuer)
class TokenAuthenticator:
    """
    Checks tokens, and makes them.

    :param keys: what signs them.
    :param utc_ms: the time of day in milliseconds since 1970.
    :param ends_publish: whether a running publish ends when its token expires.
    :param random_bytes: where their numbers come from.
    """

    def __init__(
        self,
        keys: Keys,
        utc_ms: Callable[[], int],
        *,
        ends_publish: bool = True,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._keys = keys
        self._utc_ms = utc_ms
        self._ends_publish = ends_publish
        self._random_bytes = random_bytes

    def issue_token(self, stream: StreamName, lifetime_s: int, terms: TokenTerms) -> str:
        """See :meth:`ITokenIssuer.issue_token <rapidrtmp.interfaces.ITokenIssuer.issue_token>`."""
        now_ms = self._utc_ms()
        token = SignedToken(
            terms.action,
            terms.streams or digest_of(stream),
            self._random_bytes(_NUMBER_SIZE),
            now_ms,
            -(-now_ms // 1000) + lifetime_s,
            terms.network,
            terms.reconnect_s,
            terms.max_players,
        )
        return write_token(token, next(iter(self._keys.all.values())))

    def authorize_publish(self, request: PublishRequest) -> Verdict:
        """Consent if the token lets this stream be published and has not expired; else say which of these fails."""
        return self._judge(Action.PUBLISH, request.stream, request.token, request.peer)

    def authorize_play(self, request: PlayRequest) -> Verdict:
        """Likewise, if it lets this stream be watched."""
        return self._judge(Action.PLAY, request.stream, request.token, request.peer)

    def _judge(self, action: Action, stream: StreamName, text: str, peer: str) -> Verdict:
        token = read_token(text, self._keys.all) if text else None
        if token is None:
            reason = "the token is not one of this server's" if text else _NEEDED[action]
            return Verdict(allowed=False, reason=reason, is_unauthenticated=True)
        expires_ms = token.expires_s * 1000
        if expires_ms <= self._utc_ms():
            return Verdict(allowed=False, reason="the token has expired: ask for a new one", is_unauthenticated=True)
        wrong = _mismatch(token, action, stream, peer)
        if wrong:
            return Verdict(allowed=False, reason=wrong)
        is_ending = self._ends_publish or action is Action.PLAY
        return Verdict(
            allowed=True,
            credential=hashlib.sha256(text.encode("ascii")).hexdigest(),
            expires_ms=expires_ms if is_ending else None,
            issued_ms=token.issued_ms,
            keep_ms=KEEP_MS,
            reconnect_s=token.reconnect_s,
            max_players=token.max_players,
        )


def _mismatch(token: SignedToken, action: Action, stream: StreamName, peer: str) -> str:
    """Why a token is not for what it is used for; ``""`` if it is."""
    if token.action is not action:
        return f"the token is to {token.action} with, not to {action}"
    if not token.is_for(stream):
        return "the token is for another stream"
    if token.network and not is_in_network(token.network, peer):
        return "the token is for another network"
    return ""


@implementer(IAuthenticatorFactory)
class TokenAuthenticatorFactory:
    """
    ``token:secret=TEXT`` or ``token:secret-file=FILE``, and ``mid-session=end|keep``.

    :param secret: at least 16 characters, the same at every server that is to take the same tokens.
    :param secret_file: where the keys are kept instead, one a line; made, with a random one, when it is not there.
    :param mid_session: whether a running publish ends (``end``) when its token expires or continues (``keep``).
    """

    def __init__(self, *, secret: str = "", secret_file: str = DEFAULT_SECRET_FILE, mid_session: str = "end") -> None:
        if mid_session not in ("end", "keep"):
            raise ConfigurationError("mid_session is end or keep")
        self._secret = check_keys(secret.encode(), "the secret") if secret else ()
        self._secret_file = Path(secret_file)
        self._ends_publish = mid_session == "end"

    def create(self, context: AuthenticatorContext) -> TokenAuthenticator:
        """
        Make the authenticator, and the secret if this is the first time.

        :raises ConfigurationError: the file can neither be read nor made, or holds no secret.
        """
        keys = FixedKeys(self._secret) if self._secret else KeysInFile(self._secret_file, context.utc_ms, context.log)
        return TokenAuthenticator(keys, context.utc_ms, ends_publish=self._ends_publish)
