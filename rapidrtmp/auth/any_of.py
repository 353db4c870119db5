"""Several authenticators of one application, or of the server: a peer that one of them admits may do what it wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import alsoProvides, implementer

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    IPlayAuthenticator,
    ITokenIssuer,
    ManageRequest,
    PlayRequest,
    PublishRequest,
    TokenTerms,
    Verdict,
)
from rapidrtmp.names import StreamName
from rapidrtmp.support.factories import create
from rapidrtmp.support.text import class_name, reason_of

__all__ = ["AnyOfAuthenticator", "AnyOfAuthenticatorFactory"]


@implementer(IAuthenticator, IPlayAuthenticator)
class AnyOfAuthenticator:
    """
    Asks each in turn until one consents; provides ``ITokenIssuer`` if one of them does.

    :param authenticators: one or more, in the order they are asked.
    """

    def __init__(self, authenticators: Sequence[Any], log: Logger) -> None:
        self._authenticators = authenticators
        self._log = log
        self.takes_secret_keys = any(getattr(each, "takes_secret_keys", False) for each in authenticators)
        self._issuer = next((each for each in authenticators if ITokenIssuer.providedBy(each)), None)
        if self._issuer is not None:
            alsoProvides(self, ITokenIssuer)

    def issue_token(self, stream: StreamName, lifetime_s: int, terms: TokenTerms) -> str:
        """A token of the first that makes them."""
        issuer: Any = self._issuer
        token: str = issuer.issue_token(stream, lifetime_s, terms)
        return token

    def authorize_publish(self, request: PublishRequest) -> Deferred[Verdict]:
        """The first consent; else the refusal that tells most. One that fails is logged, and decides nothing."""
        return Deferred.fromCoroutine(self._ask_in_turn(request, lambda each: each.authorize_publish))

    def authorize_play(self, request: PlayRequest) -> Deferred[Verdict]:
        """Likewise."""
        return Deferred.fromCoroutine(self._ask_in_turn(request, lambda each: each.authorize_play))

    def authorize_manage(self, request: ManageRequest) -> Deferred[Verdict]:
        """Likewise; each of them must be an ``IManageAuthenticator``."""
        return Deferred.fromCoroutine(self._ask_in_turn(request, lambda each: each.authorize_manage))

    async def _ask_in_turn(
        self, request: PublishRequest | PlayRequest | ManageRequest, question: Callable[[Any], Any]
    ) -> Verdict:
        refusals: list[Verdict] = []
        for authenticator in self._authenticators:
            try:
                verdict: Verdict = await maybeDeferred(question(authenticator), request)
            except CancelledError as error:
                raise CancelledError(class_name(authenticator)) from error
            except Exception as error:
                self._log.failure(
                    "{asked}: the authenticator {authenticator} failed: {error}",
                    asked="management" if isinstance(request, ManageRequest) else f"application {request.stream.app}",
                    authenticator=class_name(authenticator),
                    error=reason_of(error),
                )
                verdict = _FAILED
            if verdict.allowed:
                return verdict
            refusals.append(verdict)
        return _most_telling(refusals)


#: Of an authenticator that failed.
_FAILED = Verdict(allowed=False, reason="the server cannot check this now", is_undecided=True)


def _most_telling(refusals: Sequence[Verdict]) -> Verdict:
    """
    The refusal that tells most, of several the last: one for now, for it may be consent later; then one of a good
    credential, which is for something else; then one of a credential that says nothing, with the challenges of all.
    """
    for is_kind in (lambda each: each.is_undecided, lambda each: not each.is_unauthenticated):
        found = [each for each in refusals if is_kind(each)]
        if found:
            return found[-1]
    challenges = dict.fromkeys(each.challenge for each in refusals)
    return replace(refusals[-1], challenge=", ".join(challenges))


@implementer(IAuthenticatorFactory)
class AnyOfAuthenticatorFactory:
    """
    Holds the factories of several authenticators together.

    :param decides_play: whether each of them must be able to decide who may watch.
    """

    def __init__(self, factories: Sequence[Any], *, decides_play: bool = False) -> None:
        self._factories = factories
        self._decides_play = decides_play

    def create(self, context: AuthenticatorContext) -> Any:
        """Make them all. :raises ConfigurationError: one can never work."""
        made = [create("authenticator", factory, context) for factory in self._factories]
        unfit = [each for each in made if self._decides_play and not IPlayAuthenticator.providedBy(each)]
        if unfit:
            raise ConfigurationError(f"{class_name(unfit[0])} cannot decide who may watch")
        return made[0] if len(made) == 1 else AnyOfAuthenticator(made, context.log)
