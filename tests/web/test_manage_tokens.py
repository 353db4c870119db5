"""Tokens of another server to use the management API with, over HTTP."""

from __future__ import annotations

from typing import Any

import jwt
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.auth.jwks import JwksUnavailableError, VerifyingKey
from rapidrtmp.auth.jwt import JwtAuthenticator
from rapidrtmp.interfaces import EventType
from tests.web.kit import EPOCH_MS, Reply, Server

KEY = b"a secret of thirty-two bytes, yes"
OTHER_KEY = b"another secret, of another issuer"
#: What the server's clock shows.
NOW_S = EPOCH_MS // 1000 + 1_000
STRANGER = "192.0.2.1"


def token(key: bytes = KEY, **claims: Any) -> str:
    """A token of ``sub`` anna to manage everything with; a claim that is ``None`` is left out."""
    said = {"sub": "anna", "actions": ["manage"], "exp": NOW_S + 600, **claims}
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, "HS256")


class ManageCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        self.keys: Any = [VerifyingKey("", KEY, ("HS256",))]
        judge = JwtAuthenticator(self.find_keys, lambda: self.server.utc_ms(), ("HS256",))
        record: Any = lambda *event: self.events.append(event)  # noqa: E731
        self.server = Server(manager=judge, record=record, max_wrong_secrets=3)
        self.server.live("cam-1")
        self.server.live("show")

    async def find_keys(self, _kid: str | None) -> Any:
        return await self.keys if isinstance(self.keys, Deferred) else self.keys

    def ask(self, given: str, path: str = "/api/v1/streams", method: str = "GET", peer: str = STRANGER) -> Reply:
        return self.server.request(method, path, peer=peer, Authorization=f"Bearer {given}")


class TokenTests(ManageCase):
    def test_token_manages_everything(self) -> None:
        """A token to manage with, which speaks of no streams or of all, opens every route; so does the secret still."""
        for streams in (None, "*/*", ["live/x", "*/*"]):
            given = token(streams=streams)
            for path in ("/api/v1/streams", "/api/v1/streams/show", "/api/v1/streams/live/show", "/metrics"):
                self.assertEqual(200, self.ask(given, path).status, (streams, path))
        self.assertEqual(200, self.ask(token(), "/api/v1/streams/show/stop", "POST").status)
        self.assertEqual(200, self.ask("made-on-first-start").status)

    def test_streams_limit_it(self) -> None:
        """One that names streams opens their routes only, and none that is about the whole server."""
        given = token(streams=["live/cam-*"])
        for method, path, status in (
            ("GET", "/api/v1/streams/cam-1", 200),
            ("GET", "/api/v1/streams/live/cam-1", 200),
            ("GET", "/api/v1/streams/cam-none", 404),
            ("GET", "/api/v1/streams/show", 403),
            ("GET", "/api/v1/streams/open/cam-1", 403),
            ("POST", "/api/v1/streams/show/stop", 403),
            ("POST", "/api/v1/streams/show/record", 403),
            ("GET", "/api/v1/streams/.cam-1", 403),
            ("GET", "/api/v1/streams", 403),
            ("GET", "/api/v1/recordings", 403),
            ("DELETE", "/api/v1/recordings/live/cam-1/20260101T000000Z", 403),
            ("GET", "/metrics", 403),
            ("POST", "/api/v1/publish", 403),
            ("POST", "/api/v1/tokens/revoke", 403),
            ("POST", "/api/v1/streams/cam-1/stop", 200),
        ):
            reply = self.ask(given, path, method)
            self.assertEqual(status, reply.status, (method, path, reply.body))
            if status == 403:
                self.assertIn("insufficient_scope", reply.headers["www-authenticate"])

    def test_claim_that_cannot_be_read_opens_nothing(self) -> None:
        """A claim of streams that is there and says nothing readable is not a missing one."""
        for streams in ("", [], "*", ["a/b/c"], 7, {"*/*": 1}):
            self.assertEqual(403, self.ask(token(streams=streams)).status, streams)
        empty = jwt.encode({"actions": "manage", "streams": None}, KEY, "HS256")
        self.assertEqual(403, self.ask(empty).status)

    def test_other_actions_do_not_manage(self) -> None:
        """A good token for something else is answered 403, which is no guess but an event."""
        for number, actions in enumerate((["publish", "play"], "play", None, "MANAGE", {"manage": 1}), 1):
            reply = self.ask(token(actions=actions))
            self.assertEqual((403, "the token is not to manage with"), (reply.status, reply.json()["error"]))
            self.assertEqual(number, len(self.events))
        self.assertEqual(200, self.ask(token()).status)

    def test_wrong_tokens_count_as_wrong_secrets(self) -> None:
        """Tokens that are expired, of another issuer or none at all are slowed down, and events that hold none."""
        wrong = [token(exp=NOW_S - 100), token(OTHER_KEY), "guess"]
        for given in wrong:
            reply = self.ask(given)
            self.assertEqual(401, reply.status)
            self.assertIn("invalid_token", reply.headers["www-authenticate"])
        self.assertEqual(429, self.ask(token()).status)
        self.assertEqual(200, self.ask(token(), peer="192.0.2.2").status)
        self.assertEqual([(EventType.AUTH_REFUSED, None, STRANGER)] * 3, [event[:3] for event in self.events])
        self.assertEqual("the token has expired: ask for a new one", self.events[0][3]["reason"])
        self.assertFalse([given for given in wrong if given in repr(self.events)])

    def test_token_ends_at_its_expiry(self) -> None:
        """It is good until it expires, give or take the leeway."""
        given = token(exp=NOW_S + 10)
        self.server.clock.advance(69)
        self.assertEqual(200, self.ask(given).status)
        self.server.clock.advance(1)
        self.assertEqual(401, self.ask(given).status)

    def test_revoked_token_manages_no_more(self) -> None:
        """A token that is revoked is a wrong one."""
        given = token()
        self.assertEqual(200, self.ask(given).status)
        self.assertEqual(200, self.server.post("/api/v1/tokens/revoke", {"token": given}).status)
        self.assertEqual((401, "the token has been revoked"), (self.ask(given).status, self.ask(given).json()["error"]))

    def test_page_of_another_origin_is_refused(self) -> None:
        """A page of another origin is not answered, not even with a token."""
        headers = {"Authorization": f"Bearer {token()}", "Origin": "https://evil.example"}
        self.assertEqual(403, self.server.get("/api/v1/streams", **headers).status)

    def test_audit_names_the_subject(self) -> None:
        """The audit line names whom the token was issued to, in one short line, and never the token."""
        for subject, said in (
            ("anna", "anna"),
            ("x\ny\x1b[0m", "x?y?[0m"),
            ("n" * 99, "n" * 64),
            (None, "no name"),
        ):
            given = token(sub=subject)
            with capturedLogs() as events:
                self.ask(given)
            (line,) = [str(formatEvent(each)) for each in events if each["log_namespace"] == "rapidrtmp.audit"]
            self.assertEqual(f"{STRANGER} with a token of {said}: GET /api/v1/streams answered 200", line)
            self.assertFalse([each for each in events if given in str(formatEvent(each))])


class WaitingTests(ManageCase):
    """Keys that must be fetched first."""

    def setUp(self) -> None:
        super().setUp()
        self.good, self.keys = self.keys, Deferred()
        self.wire = self.server.connect(STRANGER)

    def begin(self, given: str) -> None:
        self.wire.request("GET", "/api/v1/streams", Authorization=f"Bearer {given}")
        self.assertFalse(self.wire.is_answered)

    def test_request_waits_for_keys(self) -> None:
        """A request is answered once the keys are there."""
        self.begin(token())
        self.keys.callback(self.good)
        self.assertEqual(200, self.wire.reply().status)

    def test_wrong_token_is_refused_afterwards(self) -> None:
        """One with a wrong token is refused then."""
        self.begin(token(OTHER_KEY))
        self.keys.callback(self.good)
        self.assertEqual(401, self.wire.reply().status)
        self.assertEqual(1, len(self.events))

    def test_no_keys_is_for_now(self) -> None:
        """Where the keys cannot be had the client shall ask again, and is not counted as wrong."""
        self.begin(token())
        self.keys.errback(JwksUnavailableError("away"))
        reply = self.wire.reply()
        self.assertEqual((503, "2"), (reply.status, reply.headers["retry-after"]))
        self.assertEqual([], self.events)

    def test_no_answer_in_time(self) -> None:
        """A judge that says nothing for ten seconds holds a request no longer."""
        self.begin(token())
        self.server.clock.advance(10)
        self.assertEqual(503, self.wire.reply().status)

    def test_client_leaves_while_it_waits(self) -> None:
        """A client that leaves meanwhile is no error, and nothing is asked on its behalf any more."""
        cancelled: list[Any] = []
        self.keys = Deferred(cancelled.append)
        self.begin(token())
        self.wire.leave()
        self.assertEqual(1, len(cancelled))

    def test_the_secret_does_not_wait(self) -> None:
        """The secret needs no keys."""
        self.assertEqual(200, self.ask("made-on-first-start").status)
