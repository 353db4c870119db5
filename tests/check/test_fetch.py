import gzip

from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import Data
from twisted.web.util import Redirect

from rapidrtmp.check.fetch import FetchError, HttpFetcher


class _Gzipped(Resource):
    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = body

    def render_GET(self, request):  # type: ignore[no-untyped-def]
        request.setHeader(b"Content-Encoding", b"gzip")
        return self._body


class _Asked(Resource):
    def render_GET(self, request):  # type: ignore[no-untyped-def]
        return request.getHeader(b"range") or b"no range"


class _Silent(Resource):
    def render_GET(self, request):  # type: ignore[no-untyped-def]
        request.notifyFinish().addErrback(lambda _: None)
        return NOT_DONE_YET


class FetchTests(TestCase):
    def setUp(self) -> None:
        root = Resource()
        root.putChild(b"media", Data(bytes(range(200)), "video/mp4"))
        root.putChild(b"gzip", _Gzipped(gzip.compress(b"#EXTM3U\n")))
        root.putChild(b"cut", _Gzipped(gzip.compress(b"#EXTM3U\n")[:-4]))
        root.putChild(b"asked", _Asked())
        root.putChild(b"silent", _Silent())
        root.putChild(b"moved", Redirect(b"/media"))
        self.port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.port.stopListening)
        self.fetch = HttpFetcher(reactor)
        self.addCleanup(self.fetch.close)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port.getHost().port}/{name}"

    async def test_get_tells_status_and_headers(self) -> None:
        """An answer is its status, its headers with the length, and its body."""
        answer = await self.fetch(self.url("media"))
        self.assertEqual((200, bytes(range(200)), False), (answer.status, answer.body, answer.redirected))
        self.assertEqual(("video/mp4", "200"), (answer.headers["content-type"], answer.headers["content-length"]))
        self.assertLessEqual(answer.asked_s, answer.answered_s)

    async def test_head_and_range(self) -> None:
        """HEAD has no body; a range is asked for as one."""
        head = await self.fetch(self.url("media"), method="HEAD")
        self.assertEqual((200, b"", "video/mp4"), (head.status, head.body, head.headers["content-type"]))
        asked = await self.fetch(self.url("asked"), byte_range="10-19")
        self.assertEqual(b"bytes=10-19", asked.body)

    async def test_gzip_bodies_come_plain(self) -> None:
        """A compressed body comes plain, and its header still tells; one that is cut short is an error."""
        answer = await self.fetch(self.url("gzip"))
        self.assertEqual((b"#EXTM3U\n", "gzip"), (answer.body, answer.headers["content-encoding"]))
        with self.assertRaisesRegex(FetchError, "cut short"):
            await self.fetch(self.url("cut"))

    async def test_redirect_is_followed_and_reported(self) -> None:
        """A redirect is followed, and reported with the URL that answered in the end."""
        answer = await self.fetch(self.url("moved"))
        self.assertEqual((200, True, self.url("media")), (answer.status, answer.redirected, answer.url))

    async def test_missing_answer_names_the_url(self) -> None:
        """No answer in time, and no server there, are errors that name the URL."""
        with self.assertRaisesRegex(FetchError, "silent"):
            await self.fetch(self.url("silent"), timeout_s=0.05)
        with self.assertRaisesRegex(FetchError, "127.0.0.1:1/: ConnectionRefusedError"):
            await self.fetch("http://127.0.0.1:1/")
