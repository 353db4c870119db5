"""Several authenticators of one application: a peer that one of them admits may publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import alsoProvides, implementer

from rapidrtmp.interfaces import (
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    ITokenIssuer,
    PublishRequest,
    Verdict,
)
from rapidrtmp.names import StreamName
from rapidrtmp.support.factories import create
from rapidrtmp.support.text import class_name, reason_of

__all__ = ["AnyOfAuthenticator", "AnyOfAuthenticatorFactory"]


@implementer(IAuthenticator)
class AnyOfAuthenticator:
    """
    Asks each in turn until one consents; provides ``ITokenIssuer`` if one of them does.

    :param authenticators: one or more, in the order they are asked.
    """

    def __init__(self, authenticators: Sequence[Any], log: Logger) -> None:
        self._authenticators = authenticators
        self._log = log
        self._issuer = next((each for each in authenticators if ITokenIssuer.providedBy(each)), None)
        if self._issuer is not None:
            alsoProvides(self, ITokenIssuer)

    def issue_token(self, stream: StreamName, lifetime_s: int) -> str:
        """A token of the first that makes them."""
        token: str = self._issuer.issue_token(stream, lifetime_s)  # type: ignore[union-attr]  # provided only with one
        return token

    def authorize_publish(self, request: PublishRequest) -> Deferred[Verdict]:
        """The first consent; else the last refusal. One that fails is logged and counts as a refusal."""
        return Deferred.fromCoroutine(self._ask_in_turn(request))

    async def _ask_in_turn(self, request: PublishRequest) -> Verdict:
        verdict = Verdict(allowed=False, reason="the server cannot check this now")
        for authenticator in self._authenticators:
            try:
                verdict = await maybeDeferred(authenticator.authorize_publish, request)
            except CancelledError as error:
                raise CancelledError(class_name(authenticator)) from error
            except Exception as error:
                self._log.failure(
                    "{stream}: the authenticator {authenticator} failed: {error}",
                    stream=request.stream,
                    authenticator=class_name(authenticator),
                    error=reason_of(error),
                )
            if verdict.allowed:
                break
        return verdict


@implementer(IAuthenticatorFactory)
class AnyOfAuthenticatorFactory:
    """Holds the factories of several authenticators together."""

    def __init__(self, factories: Sequence[Any]) -> None:
        self._factories = factories

    def create(self, context: AuthenticatorContext) -> AnyOfAuthenticator:
        """Make them all."""
        return AnyOfAuthenticator(
            [create("authenticator", factory, context) for factory in self._factories], context.log
        )
