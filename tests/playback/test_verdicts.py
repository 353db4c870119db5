from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.http.errors import ForbiddenError, UnauthorizedError
from rapidrtmp.interfaces import UnavailableError, Verdict
from rapidrtmp.names import StreamName
from rapidrtmp.playback.verdicts import REFUSED_MS, PlayRequest, Verdicts

NAME = StreamName("live", "k")
YES, NO = Verdict(allowed=True), Verdict(allowed=False, reason="not today")


class Judge:
    """Answers as a test wants, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Verdict | Deferred[Verdict] | Exception = YES
        self.asked: list[PlayRequest] = []

    def __call__(self, request: PlayRequest) -> Verdict | Deferred[Verdict]:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class VerdictsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now_ms = 1_000_000
        self.judge = Judge()
        self.verdicts = Verdicts(self.judge, lambda: self.now_ms)

    def ask(self, token: str = "t", name: StreamName = NAME) -> Deferred[None] | None:
        return self.verdicts.ask(PlayRequest(name, token, "192.0.2.1"))

    def test_kept(self) -> None:
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

    def test_refusal(self) -> None:
        """A refusal tells the reason, holds for some seconds, and asks for a token where none was shown."""
        self.judge.answer = NO
        error = self.assertRaises(ForbiddenError, self.ask)
        self.assertEqual("not today", str(error))
        self.assertRaises(ForbiddenError, self.ask)
        self.assertRaises(UnauthorizedError, self.ask, "")
        self.assertEqual(2, len(self.judge.asked))
        self.judge.answer = YES
        self.now_ms += REFUSED_MS
        self.assertIsNone(self.ask())

    def test_waiting(self) -> None:
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

    def test_refused_later(self) -> None:
        """A refusal that took time reaches those who wait."""
        self.judge.answer = judging = Deferred()
        waiting = self.ask()
        assert waiting is not None
        judging.callback(NO)
        self.failureResultOf(waiting, ForbiddenError)

    def test_undecided(self) -> None:
        """A judge that fails lets no one in, is logged, and is asked again some seconds later."""
        self.judge.answer = RuntimeError("no connection to the token t")
        error = self.assertRaises(UnavailableError, self.ask)
        self.assertNotIn("token", str(error))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertRaises(UnavailableError, self.ask)
        self.judge.answer = YES
        self.now_ms += REFUSED_MS
        self.assertIsNone(self.ask())

    def test_secret(self) -> None:
        """What is asked does not show the token."""
        self.assertNotIn("hidden", repr(PlayRequest(NAME, "hidden", "192.0.2.1")))
