"""Admission by token, through the whole HTTP side."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.interfaces import IPlayAuthenticator, PlayRequest, Verdict
from tests.web.kit import MP4, Server, playlist

PATH = "/live/k/index.m3u8"


@implementer(IPlayAuthenticator)
class DoorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.answer: Verdict | Deferred[Verdict] = Verdict(allowed=True)
        self.asked: list[PlayRequest] = []
        self.server = Server(judge=self, max_viewers=4)
        self.stream = self.server.live()
        self.stream.shelf.put_playlist("index.m3u8", playlist())

    def authorize_play(self, request: PlayRequest) -> Verdict | Deferred[Verdict]:
        self.asked.append(request)
        return self.answer

    def test_admitted_client_is_answered(self) -> None:
        """A client that may watch is answered, and a stream that is full is full for it, too."""
        for number in range(4):
            self.assertEqual(200, self.server.get(PATH, peer=f"192.0.2.{number}").status)
        self.assertEqual(503, self.server.get(PATH, peer="192.0.2.9").status)
        self.assertEqual(5, len(self.asked))

    def test_refused_client_learns_why(self) -> None:
        """One that may not is refused with the reason, whatever there is to be had."""
        self.answer = Verdict(allowed=False, reason="members only")
        for path in (PATH, "/live/k/none.m4s", "/live/missing/index.m3u8", "/live/k/clip.mp4"):
            reply = self.server.get(path)
            self.assertEqual((401, "members only"), (reply.status, reply.json()["error"]), path)
            self.assertEqual("*", reply.headers["access-control-allow-origin"])

    def test_held_while_it_is_decided(self) -> None:
        """While that is being decided the request is held, and counts as such."""
        self.answer = judging = Deferred()
        wire = self.server.connect()
        wire.request("GET", PATH)
        self.assertFalse(wire.is_answered)
        self.assertEqual(1, self.server.metric("http_waiting_requests"))
        judging.callback(Verdict(allowed=True))
        self.assertEqual(200, wire.reply().status)
        self.assertEqual(0, self.server.metric("http_waiting_requests"))

    def test_token_is_judged_once(self) -> None:
        """The token in front of a name is what is judged, on either way through the server, and each is judged once."""
        self.stream.shelf.put("part.m4s", [b"moof"], MP4)
        for token in ("abc", "eyJh.eyJz_d-I.c~1", "%61bc", "x" * 1200):
            for name in ("index.m3u8", "part.m4s", "index.m3u8?_HLS_msn=9"):
                self.assertEqual(200, self.server.get(f"/live/k/~{token}/{name}").status, (token, name))
        expected = ["abc", "eyJh.eyJz_d-I.c~1", "x" * 1200]
        self.assertEqual(expected, [request.token for request in self.asked])

    def test_token_and_without(self) -> None:
        """The answer, errors too, is the same with a token as without, and does not name it."""
        self.stream.shelf.put("part.m4s", [b"moof"], MP4)
        for name in ("index.m3u8", "part.m4s", "none.m4s", "index.m3u8?_HLS_part=1"):
            plain, tokened = self.server.get(f"/live/k/{name}"), self.server.get(f"/live/k/~secret/{name}")
            self.assertEqual((plain.status, plain.body), (tokened.status, tokened.body))
            self.assertEqual({**plain.headers, "date": ""}, {**tokened.headers, "date": ""})
        self.assertNotIn(b"secret", self.server.metrics.render())

    def test_token_is_ignored_where_open(self) -> None:
        """Where watching is open any token will do, and preflights are answered below one."""
        server = Server()
        server.live().shelf.put_playlist("index.m3u8", playlist())
        for token in ("a", "b.c", "%20"):
            self.assertEqual(200, server.get(f"/live/k/~{token}/index.m3u8").status)
            self.assertEqual(204, server.request("OPTIONS", f"/live/k/~{token}/index.m3u8").status)
        self.assertEqual(404, server.get("/live/k/~/index.m3u8").status)
