from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.auth.revocation import Revocations, fingerprint_of
from rapidrtmp.http.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from rapidrtmp.interfaces import EventType, IPlayAuthenticator, PlayRequest, Request, UnavailableError, Verdict
from rapidrtmp.names import StreamName
from rapidrtmp.playback.verdicts import CHECK_MS, MAX_REFUSED, PLAYER_MS, REFUSED_MS, Verdicts
from tests.slow import slow

NAME = StreamName("live", "k")
YES, NO = Verdict(allowed=True), Verdict(allowed=False, reason="not today")


@implementer(IPlayAuthenticator)
class Judge:
    """Answers as a test wants, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Verdict | Deferred[Verdict] | Exception = YES
        self.asked: list[PlayRequest] = []

    def authorize_play(self, request: PlayRequest) -> Verdict | Deferred[Verdict]:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class VerdictsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now_ms = 1_000_000
        self.clock = Clock()
        self.judge = Judge()
        self.revocations = Revocations(lambda: self.now_ms)
        self.events: list[tuple[Any, ...]] = []
        self.verdicts = Verdicts(
            self.judge, lambda: self.now_ms, self.clock, self.revocations, lambda *event: self.events.append(event)
        )

    def ask(
        self, token: str = "t", name: StreamName = NAME, client: str = "192.0.2.1", most: int = 0
    ) -> Deferred[None] | None:
        request = Request("GET", "", {}, client, client, token=token)
        return self.verdicts.ask(request, name, most)

    def advance(self, ms: int) -> None:
        self.now_ms += ms
        self.clock.advance(ms / 1000)

    def test_hanging_judge_is_given_up(self) -> None:
        """A judge that hangs is given up after a while: its clients are refused, in words, and it is logged once."""
        with capturedLogs() as logs:
            for token in ("a", "b", "c"):
                self.judge.answer = Deferred()
                waiting = self.ask(token)
                assert waiting is not None
                self.advance(30_000)
                self.failureResultOf(waiting, UnavailableError)
        self.assertEqual(1, len(logs))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], self.events)

    def test_fails_again_and_again(self) -> None:
        """One that fails for each client is logged once per burst."""
        self.judge.answer = RuntimeError("broken")
        for number in range(20):
            self.assertRaises(UnavailableError, self.ask, f"{number}")
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_refusal_is_recorded_once(self) -> None:
        """A refusal is an event, once for each token while it holds; consent is none."""
        self.ask("good")
        self.judge.answer = NO
        for _ in range(3):
            self.assertRaises(ForbiddenError, self.ask, "bad")
        said = {"action": "play", "reason": "not today"}
        self.assertEqual([(EventType.AUTH_REFUSED, NAME, "192.0.2.1", said)], self.events)

    def test_verdicts_are_kept_by_token(self) -> None:
        """A token is judged once, for each stream; another token anew."""
        for _ in range(3):
            self.assertIsNone(self.ask())
        self.ask("u")
        self.ask("t", StreamName("live", "other"))
        self.assertEqual(["t", "u", "t"], [request.token for request in self.judge.asked])

    def test_until_it_ends(self) -> None:
        """Consent holds until its end, and is asked for again then."""
        self.judge.answer = Verdict(allowed=True, expires_ms=self.now_ms + 5000)
        self.ask()
        self.now_ms += 4999
        self.assertIsNone(self.ask())
        self.judge.answer = NO
        self.now_ms += 1
        self.assertRaises(ForbiddenError, self.ask)
        self.assertEqual(2, len(self.judge.asked))

    def test_refusal_holds_some_seconds(self) -> None:
        """A refusal tells the reason, holds for some seconds, and asks for a token where none was shown."""
        self.judge.answer = NO
        error = self.assertRaises(ForbiddenError, self.ask)
        self.assertEqual("not today", str(error))
        self.assertRaises(ForbiddenError, self.ask)
        self.assertRaises(UnauthorizedError, self.ask, "")
        self.assertEqual(2, len(self.judge.asked))
        self.judge.answer = YES
        self.advance(REFUSED_MS)
        self.assertIsNone(self.ask())

    def test_waiting_requests_share_a_verdict(self) -> None:
        """Requests that come while a token is judged wait for one verdict, and one that leaves takes no other along."""
        self.judge.answer = judging = Deferred()
        waiting = [self.ask() for _ in range(3)]
        leaving = waiting.pop(0)
        assert leaving is not None
        leaving.cancel()
        self.failureResultOf(leaving)
        judging.callback(YES)
        for each in waiting:
            assert each is not None
            self.assertIsNone(self.successResultOf(each))
        self.assertIsNone(self.ask())
        self.assertEqual(1, len(self.judge.asked))

    def test_late_refusal_reaches_waiters(self) -> None:
        """A refusal that took time reaches those who wait."""
        self.judge.answer = judging = Deferred()
        waiting = self.ask()
        assert waiting is not None
        judging.callback(NO)
        self.failureResultOf(waiting, ForbiddenError)

    def test_failing_judge_lets_no_one_in(self) -> None:
        """A judge that fails lets no one in, is logged, and is asked again some seconds later."""
        self.judge.answer = RuntimeError("no connection to the token t")
        error = self.assertRaises(UnavailableError, self.ask)
        self.assertNotIn("token", str(error))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertRaises(UnavailableError, self.ask)
        self.judge.answer = YES
        self.advance(REFUSED_MS)
        self.assertIsNone(self.ask())

    def test_hung_judge_holds_no_others(self) -> None:
        """A judge that does not answer lets no one in, after a while, and others do not wait for it."""
        self.judge.answer = Deferred()
        waiting = self.ask()
        assert waiting is not None
        self.judge.answer = YES
        self.assertIsNone(self.ask("u"))
        self.advance(10_000)
        self.failureResultOf(waiting, UnavailableError)
        self.flushLoggedErrors()

    def test_each_client_is_judged(self) -> None:
        """Another client with the same token is judged for itself: a token may be for a network."""
        self.ask()
        self.judge.answer = NO
        self.assertRaises(ForbiddenError, self.ask, client="192.0.2.2")
        self.assertIsNone(self.ask())

    def test_unauthenticated_differs_from_forbidden(self) -> None:
        """A token that is no good at all is another matter than one for something else."""
        self.judge.answer = Verdict(allowed=False, reason="it has expired", is_unauthenticated=True)
        error = self.assertRaises(UnauthorizedError, self.ask)
        self.assertEqual({"WWW-Authenticate": "Bearer"}, error.headers)

    @slow
    def test_wrong_tokens_displace_nothing(self) -> None:
        """However many wrong tokens are tried, a good one is not judged anew."""
        self.ask()
        self.judge.answer = NO
        for number in range(MAX_REFUSED + 10):
            self.assertRaises(ForbiddenError, self.ask, f"wrong-{number}")
        self.assertIsNone(self.ask())

    def test_kept_consent_is_renewed(self) -> None:
        """Consent that may be kept for some time only is asked for again then."""
        self.judge.answer = Verdict(allowed=True, expires_ms=self.now_ms + 60_000, keep_ms=5_000)
        self.ask()
        self.advance(4_999)
        self.ask()
        self.assertEqual(1, len(self.judge.asked))
        self.advance(1)
        self.ask()
        self.assertEqual(2, len(self.judge.asked))

    def test_revoked_token_ends_soon(self) -> None:
        """A token that is revoked is good no more, two seconds later at the latest."""
        self.ask()
        self.revocations.revoke_token(fingerprint_of("t"))
        self.advance(CHECK_MS)
        self.assertRaises(UnauthorizedError, self.ask)
        self.assertIsNone(self.ask("u"))

    def test_revoked_by_stream(self) -> None:
        """Tokens of a stream that were issued up to a moment are revoked together."""
        self.judge.answer = Verdict(allowed=True, issued_ms=self.now_ms)
        other = StreamName("live", "other")
        self.ask()
        self.ask(name=other)
        self.revocations.revoke_stream(NAME)
        self.advance(CHECK_MS)
        self.assertRaises(UnauthorizedError, self.ask)
        self.assertIsNone(self.ask(name=other))
        self.judge.answer = Verdict(allowed=True, issued_ms=self.now_ms)
        self.assertIsNone(self.ask("newer"))

    def test_players_of_a_token_are_bounded(self) -> None:
        """As many players as the limit says use one token at a time; one that stops makes room for another."""
        for most, verdict in ((2, YES), (9, Verdict(allowed=True, max_players=2))):
            self.judge.answer = verdict
            token = f"t{most}"
            self.ask(token, client="192.0.2.1", most=most)
            self.ask(token, client="192.0.2.2", most=most)
            error = self.assertRaises(TooManyRequestsError, self.ask, token, client="192.0.2.3", most=most)
            self.assertIn("2 players", str(error))
            self.advance(PLAYER_MS // 2)
            self.assertIsNone(self.ask(token, client="192.0.2.1", most=most))
            self.advance(PLAYER_MS // 2)
            self.assertIsNone(self.ask(token, client="192.0.2.3", most=most))
            self.assertRaises(TooManyRequestsError, self.ask, token, client="192.0.2.2", most=most)

    def test_without_token_no_limit(self) -> None:
        """Clients that need no token are not counted as players of one."""
        for number in range(5):
            self.assertIsNone(self.ask("", client=f"192.0.2.{number}", most=1))

    def test_session_is_its_first_clients(self) -> None:
        """A token for one session is its first client's, and good for some time after the last request."""
        self.judge.answer = Verdict(allowed=True, reconnect_s=30)
        self.ask()
        self.assertRaises(UnauthorizedError, self.ask, client="192.0.2.2")
        self.advance(30_000)
        self.assertIsNone(self.ask())
        self.advance(30_001)
        self.assertRaises(UnauthorizedError, self.ask)

    def test_secret_token_is_not_shown(self) -> None:
        """What is asked does not show the token."""
        self.assertNotIn("hidden", repr(PlayRequest(NAME, "hidden", "192.0.2.1")))
