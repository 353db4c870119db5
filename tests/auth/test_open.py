from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.auth.open import OpenAuthenticatorFactory
from rapidrtmp.interfaces import (
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    ITokenIssuer,
    PublishRequest,
    TokenTerms,
    Verdict,
)
from rapidrtmp.names import StreamName


class OpenTests(SynchronousTestCase):
    def test_open_consents_to_any_peer(self) -> None:
        """Any peer may publish without a token; connections from one address are one publisher."""
        factory = OpenAuthenticatorFactory()
        verifyObject(IAuthenticatorFactory, factory)
        authenticator = factory.create(AuthenticatorContext(clock=Clock(), utc_ms=lambda: 0, log=Logger()))
        verifyObject(IAuthenticator, authenticator)
        verifyObject(ITokenIssuer, authenticator)
        stream = StreamName("live", "camera")
        verdict = authenticator.authorize_publish(PublishRequest(stream, "", {}, "192.0.2.1"))
        self.assertEqual(Verdict(allowed=True, credential="192.0.2.1"), verdict)
        self.assertEqual("", authenticator.issue_token(stream, 60, TokenTerms()))
