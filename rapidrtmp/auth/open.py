"""The ``open`` authenticator: any peer may publish, or watch. For a private network, or to try things out."""

from __future__ import annotations

from zope.interface import implementer

from rapidrtmp.interfaces import (
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

__all__ = ["OpenAuthenticator", "OpenAuthenticatorFactory"]


@implementer(IAuthenticator, IPlayAuthenticator, ITokenIssuer)
class OpenAuthenticator:
    """Consents to all; a peer at the same address may take over a silent stream."""

    def authorize_publish(self, request: PublishRequest) -> Verdict:
        """Consent, without end."""
        return Verdict(allowed=True, credential=request.peer)

    def authorize_play(self, request: PlayRequest) -> Verdict:  # noqa: ARG002 - the contract's
        """Consent, without end."""
        return Verdict(allowed=True)

    def issue_token(self, stream: StreamName, lifetime_s: int, terms: TokenTerms) -> str:  # noqa: ARG002 - the contract's
        """``""``: no token is needed."""
        return ""


@implementer(IAuthenticatorFactory)
class OpenAuthenticatorFactory:
    """``open``; it has no arguments."""

    def create(self, context: AuthenticatorContext) -> OpenAuthenticator:  # noqa: ARG002 - the contract's
        """Make the authenticator."""
        return OpenAuthenticator()
