from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rapidrtmp.auth.any_of import AnyOfAuthenticator, AnyOfAuthenticatorFactory
from rapidrtmp.auth.open import OpenAuthenticatorFactory
from rapidrtmp.interfaces import AuthenticatorContext, IAuthenticator, ITokenIssuer, PublishRequest, TokenTerms, Verdict
from rapidrtmp.names import StreamName

CAMERA = StreamName("live", "camera")
REQUEST = PublishRequest(CAMERA, "", {}, "192.0.2.1")
YES = Verdict(allowed=True, credential="yes")
NO = Verdict(allowed=False, reason="no")


@implementer(IAuthenticator)
class Answering:
    """Gives a fixed answer, and counts how often."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    def authorize_publish(self, request: PublishRequest) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class AnyOfTests(SynchronousTestCase):
    def ask(self, *authenticators: Answering) -> Deferred[Verdict]:
        return AnyOfAuthenticator(authenticators, Logger()).authorize_publish(REQUEST)

    def test_first_consent_decides_alone(self) -> None:
        """The first that consents decides, and the rest are not asked."""
        last = Answering(NO)
        self.assertEqual(YES, self.successResultOf(self.ask(Answering(NO), Answering(YES), last)))
        self.assertEqual(0, last.asked)

    def test_last_refusal_gives_the_reason(self) -> None:
        """If none consents, the last reason is given."""
        last = Verdict(allowed=False, reason="last")
        self.assertEqual(last, self.successResultOf(self.ask(Answering(NO), Answering(last))))

    def test_most_telling_refusal(self) -> None:
        """One that could not decide comes first, then one who knows the credential; strangers get all challenges."""
        stranger = Verdict(allowed=False, reason="who?", is_unauthenticated=True)
        basic = Verdict(allowed=False, reason="who?", is_unauthenticated=True, challenge="Basic realm=x")
        later = Verdict(allowed=False, reason="later", is_undecided=True)
        for verdicts, expected in (
            ((NO, stranger), NO),
            ((later, NO, stranger), later),
            ((stranger, basic), Verdict(False, "who?", is_unauthenticated=True, challenge="Bearer, Basic realm=x")),
        ):
            asked = self.ask(*map(Answering, verdicts))
            self.assertEqual(expected, self.successResultOf(asked))

    def test_waits_before_asking_the_next(self) -> None:
        """One that takes its time is waited for before the next is asked."""
        slow: Deferred[Verdict] = Deferred()
        last = Answering(YES)
        asked = self.ask(Answering(slow), last)
        self.assertNoResult(asked)
        self.assertEqual(0, last.asked)
        slow.callback(NO)
        self.assertEqual(YES, self.successResultOf(asked))

    def test_failure_counts_as_refusal(self) -> None:
        """One that fails is logged and counts as a refusal, with a neutral reason."""
        self.assertEqual(YES, self.successResultOf(self.ask(Answering(ZeroDivisionError()), Answering(YES))))
        verdict = self.successResultOf(self.ask(Answering(ZeroDivisionError("hidden"))))
        self.assertFalse(verdict.allowed)
        self.assertNotIn("hidden", verdict.reason)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_cancelled_question_is_given_up(self) -> None:
        """When the server gives up on the answer, so does the one being asked, and no other is."""
        slow: Deferred[Verdict] = Deferred()
        last = Answering(YES)
        asked = self.ask(Answering(slow), last)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(0, last.asked)

    def test_issuer_if_one_issues(self) -> None:
        """It issues tokens if one of its authenticators does."""
        context = AuthenticatorContext(clock=Clock(), utc_ms=lambda: 0, log=Logger())
        issuing = AnyOfAuthenticatorFactory([OpenAuthenticatorFactory()]).create(context)
        verifyObject(IAuthenticator, issuing)
        self.assertTrue(ITokenIssuer.providedBy(issuing))
        self.assertEqual("", issuing.issue_token(CAMERA, 60, TokenTerms()))
        self.assertFalse(ITokenIssuer.providedBy(AnyOfAuthenticator([Answering(YES)], Logger())))
