"""Another server decides: what it is asked, and what becomes of its answers."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger, LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from rapidrtmp.auth.webhook import WebhookAuthenticator, WebhookAuthenticatorFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import AuthenticatorContext, PlayRequest, PublishRequest, Verdict
from rapidrtmp.names import StreamName

CAMERA = StreamName("live", "camera")
NOW_MS = 1_800_000_000_500
PUBLISH = PublishRequest(
    CAMERA,
    "T&1",
    {"token": "T&1", "room": "ä"},
    "192.0.2.1",
    "17",
    {"flashVer": "FMLE/3.0", "tcUrl": "rtmp://example.org/live"},
)
PLAY = PlayRequest(CAMERA, "T", "2001:db8::1", "VLC/3.0", "")


class Backend(Resource):
    """Answers as it is set to, and keeps what it was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status, self.body, self.headers = 200, b"", {}
        self.asked: list[tuple[Any, bytes]] = []
        self.hangs = False
        self.connections: set[int] = set()

    def render_POST(self, request: Any) -> Any:
        self.asked.append((request.requestHeaders, request.content.read()))
        self.connections.add(request.transport.getPeer().port)
        if self.hangs:
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return self.body


class WebhookCase(TestCase):
    def setUp(self) -> None:
        self.backend = Backend()
        self.port: Any = reactor.listenTCP(0, Site(self.backend), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.made: list[WebhookAuthenticator] = []

    @inlineCallbacks
    def tearDown(self) -> Any:
        for each in self.made:
            yield each.close()
        yield self.port.stopListening()

    def make(self, **options: str) -> WebhookAuthenticator:
        url = f"http://127.0.0.1:{self.port.getHost().port}/auth"
        context = AuthenticatorContext(reactor, lambda: NOW_MS, Logger())  # type: ignore[arg-type]
        self.made.append(WebhookAuthenticatorFactory(url=url, **options).create(context))
        return self.made[-1]

    def answer(self, body: object, status: int = 200, **headers: str) -> None:
        self.backend.status, self.backend.headers = status, headers
        self.backend.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class AskingTests(WebhookCase):
    @inlineCallbacks
    def test_json_question_is_complete(self) -> Any:
        """It is asked in JSON who wants what from where, and with which credential."""
        judge = self.make()
        yield judge.authorize_publish(PUBLISH)
        yield judge.authorize_play(PLAY)
        (fields, publish), (_, play) = self.backend.asked
        said = json.loads(publish)
        expected = {
            "action": "publish",
            "app": "live",
            "name": "camera",
            "address": "192.0.2.1",
            "protocol": "rtmp",
            "token": "T&1",
            "query": "token=T%261&room=%C3%A4",
            "clientId": "17",
            "agent": "FMLE/3.0",
        }
        self.assertEqual(expected, {name: said[name] for name in expected})
        self.assertEqual([b"application/json"], fields.getRawHeaders(b"content-type"))
        self.assertIsNone(fields.getRawHeaders(b"x-rapidrtmp-signature"))
        said = json.loads(play)
        self.assertEqual(("play", "2001:db8::1", "hls"), (said["action"], said["address"], said["protocol"]))

    @inlineCallbacks
    def test_signature_over_time_and_body(self) -> Any:
        """With a secret it is signed: by an HMAC over the time, a dot and the body."""
        path = Path(self.mktemp())
        path.write_bytes(b"the secret\n")
        yield self.make(secret=str(path)).authorize_publish(PUBLISH)
        ((fields, body),) = self.backend.asked
        expected = hmac.new(b"the secret", b"1800000000." + body, hashlib.sha256).hexdigest()
        self.assertEqual([b"1800000000"], fields.getRawHeaders(b"x-rapidrtmp-timestamp"))
        self.assertEqual([f"sha256={expected}".encode()], fields.getRawHeaders(b"x-rapidrtmp-signature"))

    @inlineCallbacks
    def test_nginx_rtmp_form_is_sent(self) -> Any:
        """With format=nginx-rtmp it is the form of that one's on_publish and on_play, the query's fields among it."""
        judge = self.make(format="nginx-rtmp")
        spoofed = PublishRequest(CAMERA, "", {"name": "other", "addr": "1.1.1.1", "x": "1"}, "192.0.2.1")
        for request in (PUBLISH, spoofed):
            yield judge.authorize_publish(request)
        yield judge.authorize_play(PLAY)
        first, second, third = (parse_qs(body.decode(), keep_blank_values=True) for _, body in self.backend.asked)
        expected = {
            "call": ["publish"],
            "app": ["live"],
            "name": ["camera"],
            "type": ["live"],
            "addr": ["192.0.2.1"],
            "clientid": ["17"],
            "flashver": ["FMLE/3.0"],
            "tcurl": ["rtmp://example.org/live"],
            "swfurl": [""],
            "pageurl": [""],
            "token": ["T&1"],
            "room": ["ä"],
        }
        self.assertEqual(expected, first)
        self.assertEqual((["camera"], ["192.0.2.1"], ["1"]), (second["name"], second["addr"], second["x"]))
        self.assertEqual((["play"], ["T"]), (third["call"], third["token"]))

    @inlineCallbacks
    def test_srs_json_is_sent(self) -> Any:
        """With format=srs it is the JSON of that one's callbacks."""
        judge = self.make(format="srs")
        yield judge.authorize_publish(PUBLISH)
        yield judge.authorize_play(PLAY)
        said, played = (json.loads(body) for _, body in self.backend.asked)
        expected = {
            "action": "on_publish",
            "client_id": "17",
            "ip": "192.0.2.1",
            "app": "live",
            "stream": "camera",
            "param": "?token=T%261&room=%C3%A4",
            "tcUrl": "rtmp://example.org/live",
            "vhost": "__defaultVhost__",
        }
        self.assertEqual(expected, {name: said[name] for name in expected})
        self.assertEqual(("on_play", "?token=T"), (played["action"], played["param"]))

    @inlineCallbacks
    def test_credentials_in_the_url(self) -> Any:
        """A name and a password in the URL are sent as a field, and shown nowhere."""
        url = f"http://na%20me:p%40ss@127.0.0.1:{self.port.getHost().port}/auth"
        context = AuthenticatorContext(reactor, lambda: NOW_MS, Logger())  # type: ignore[arg-type]
        judge = WebhookAuthenticatorFactory(url=url).create(context)
        self.made.append(judge)
        yield judge.authorize_publish(PUBLISH)
        ((fields, _),) = self.backend.asked
        self.assertEqual([b"Basic bmEgbWU6cEBzcw=="], fields.getRawHeaders(b"authorization"))

    @inlineCallbacks
    def test_url_that_is_none(self) -> Any:
        """A URL that cannot be asked fails without being shown."""
        context = AuthenticatorContext(reactor, lambda: NOW_MS, Logger())  # type: ignore[arg-type]
        for url in ("http://s3cret:p@ss@[::1/x", "http://s3cret host:99999/x", "http://s3cret:port/"):
            with capturedLogs() as events:
                verdict = yield WebhookAuthenticatorFactory(url=url).create(context).authorize_publish(PUBLISH)
            self.assertTrue(verdict.is_undecided)
            self.assertNotIn("s3cret", str([event.get("reason") for event in events]))

    @inlineCallbacks
    def test_connections_are_reused(self) -> Any:
        """One connection serves one question after the other."""
        judge = self.make()
        for _ in range(5):
            yield judge.authorize_play(PLAY)
        self.assertEqual(1, len(self.backend.connections))


class AnswerTests(WebhookCase):
    @inlineCallbacks
    def test_consent_with_its_terms(self) -> Any:
        """Any 2xx is consent, whatever its body; what it says of name, time and limits is followed."""
        judge = self.make()
        for body, status in ((b"", 200), (b"OK", 200), (b"", 204), (b"[1]", 201), ({}, 200), ({"allow": True}, 202)):
            self.answer(body, status)
            verdict: Verdict = yield judge.authorize_play(PLAY)
            self.assertEqual((True, 60_000, None), (verdict.allowed, verdict.keep_ms, verdict.expires_ms), body)
        self.answer({"name": "public", "expiresIn": 90, "maxBitrate": 4_000_000, "maxPlayers": 3})
        verdict = yield judge.authorize_publish(PUBLISH)
        self.assertEqual(
            ("public", NOW_MS + 90_000, 4_000_000, 3),
            (verdict.public_name, verdict.expires_ms, verdict.max_bitrate, verdict.max_players),
        )
        self.assertNotIn("T&1", verdict.credential)

    @inlineCallbacks
    def test_refusal_with_a_short_reason(self) -> Any:
        """401, 403 and allow=false refuse, with a reason if one is given, which is one short line."""
        judge = self.make()
        for body, status, words in (
            (b"", 403, "may not be published"),
            (b"", 401, "may not be published"),
            ({"reason": "not\npaid"}, 403, "not paid"),
            ({"allow": False, "reason": "closed"}, 200, "closed"),
            ({"allow": False, "reason": 3}, 200, "may not be published"),
            ({"allow": True}, 403, "may not be published"),
            ({"allow": False, "reason": "x" * 5000}, 200, "xxx"),
        ):
            self.answer(body, status)
            verdict: Verdict = yield judge.authorize_publish(PUBLISH)
            self.assertEqual((False, False), (verdict.allowed, verdict.is_undecided), body)
            self.assertIn(words, verdict.reason)
            self.assertLessEqual(len(verdict.reason), 200)

    @inlineCallbacks
    def test_failure_decides_as_chosen(self) -> Any:
        """Anything else decides nothing: it refuses for now or lets in, as is chosen, and is logged once."""
        for on_failure, allowed in (("deny", False), ("allow", True)):
            judge = self.make(on_failure=on_failure)
            with capturedLogs() as events:
                for body, status in (
                    (b"", 500),
                    (b"", 404),
                    (b"", 302),
                    (b"", 429),
                    ({"allow": "yes"}, 200),
                    ({"expiresIn": -1}, 200),
                    ({"name": "a b"}, 200),
                    ({"name": 3}, 200),
                    ({"maxBitrate": "much"}, 200),
                ):
                    self.answer(body, status, location="http://127.0.0.1:1/")
                    verdict: Verdict = yield judge.authorize_publish(PUBLISH)
                    self.assertEqual((allowed, not allowed), (verdict.allowed, verdict.is_undecided), (body, status))
                self.answer(b"")
                verdict = yield judge.authorize_publish(PUBLISH)
                self.assertTrue(verdict.allowed)
            levels = [event["log_level"] for event in events if event["log_namespace"].startswith("tests.")]
            self.assertEqual([LogLevel.error, LogLevel.info], levels)

    @inlineCallbacks
    def test_hanging_server_is_a_failure(self) -> Any:
        """A server that does not answer in time is one that fails, and others are asked meanwhile."""
        self.backend.hangs = True
        judge = self.make(timeout="300ms")
        hung: Deferred[Verdict] = judge.authorize_publish(PUBLISH)
        while not self.backend.asked:
            yield _turn()
        self.backend.hangs = False
        verdict = yield judge.authorize_publish(PUBLISH)
        self.assertTrue(verdict.allowed)
        self.assertFalse(hung.called)
        self.assertTrue((yield hung).is_undecided)

    @inlineCallbacks
    def test_server_away_shows_no_url(self) -> Any:
        """One that cannot be connected to fails in words without its URL."""
        judge = self.make()
        yield self.port.stopListening()
        with capturedLogs() as events:
            verdict: Verdict = yield judge.authorize_publish(PUBLISH)
        self.assertTrue(verdict.is_undecided)
        self.assertFalse(any("/auth" in str(event) for event in events))

    @inlineCallbacks
    def test_too_long_answer_is_failure(self) -> Any:
        """An answer without end is a failure."""
        self.answer(b" " * (1 << 20))
        self.assertTrue((yield self.make().authorize_publish(PUBLISH)).is_undecided)

    @inlineCallbacks
    def test_nginx_rtmp_redirect_renames(self) -> Any:
        """In its words a redirect gives the stream another name; it leads to no other server."""
        judge = self.make(format="nginx-rtmp")
        self.answer(b"", 302, location="public-name")
        verdict: Verdict = yield judge.authorize_publish(PUBLISH)
        self.assertEqual((True, "public-name"), (verdict.allowed, verdict.public_name))
        self.answer(b"", 302, location="rtmp://other.example/live/x")
        self.assertTrue((yield judge.authorize_publish(PUBLISH)).is_undecided)
        self.assertEqual(2, len(self.backend.asked))

    @inlineCallbacks
    def test_srs_codes_are_understood(self) -> Any:
        """In its words 0, and a code of 0, are consent; any other code refuses."""
        judge = self.make(format="srs")
        for body, allowed in ((b"0", True), ({"code": 0}, True), (b"", True), (b"1", False), ({"code": 403}, False)):
            self.answer(body)
            verdict: Verdict = yield judge.authorize_publish(PUBLISH)
            self.assertEqual((allowed, False), (verdict.allowed, verdict.is_undecided), body)


class SettingTests(SynchronousTestCase):
    def test_wrong_settings_stop_the_start(self) -> None:
        """What cannot work stops the start with one line."""
        for options, words in (
            ({"url": "ftp://a"}, "not a URL"),
            ({"url": "http://a", "format": "xml"}, "json, nginx-rtmp or srs"),
            ({"url": "http://a", "on_failure": "maybe"}, "deny or allow"),
            ({"url": "http://a", "timeout": "0s"}, "timeout"),
            ({"url": "http://a", "secret": "/nowhere/x"}, "No such file"),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                WebhookAuthenticatorFactory(**options)
            self.assertIn(words, str(caught.exception))


def _turn() -> Deferred[None]:
    """A turn of the reactor."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0.001, done.callback, None)  # type: ignore[attr-defined]
    return done
