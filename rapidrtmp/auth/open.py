"""The ``open`` authenticator: any peer may publish. For a private network, or to try things out."""

from __future__ import annotations

from zope.interface import implementer

from rapidrtmp.interfaces import (
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    ITokenIssuer,
    PublishRequest,
    Verdict,
)
from rapidrtmp.names import StreamName

__all__ = ["OpenAuthenticator", "OpenAuthenticatorFactory"]


@implementer(IAuthenticator, ITokenIssuer)
class OpenAuthenticator:
    """Consents to all; a peer at the same address may take over a silent stream."""

    def authorize_publish(self, request: PublishRequest) -> Verdict:
        """Consent, without end."""
        return Verdict(allowed=True, credential=request.peer)

    def issue_token(self, stream: StreamName, lifetime_s: int) -> str:  # noqa: ARG002 - the contract's
        """``""``: no token is needed."""
        return ""


@implementer(IAuthenticatorFactory)
class OpenAuthenticatorFactory:
    """``open``; it has no arguments."""

    def create(self, context: AuthenticatorContext) -> OpenAuthenticator:  # noqa: ARG002 - the contract's
        """Make the authenticator."""
        return OpenAuthenticator()
