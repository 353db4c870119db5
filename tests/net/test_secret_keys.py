"""Publishers whose keys are secrets, and who learns of them."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import Verdict
from tests.net.edge import Edge, Peer

KEY = "s3cretkey"


class SecretKeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.close)
        self.app: Any = self.edge.apps["live"]

    def publish(self, key: str = KEY) -> Peer:
        """Try to, and see to it that no line of the log has the key."""
        with capturedLogs() as events:
            peer = self.edge.peer().connect().publish(key)
        self.assert_not_in(events)
        return peer

    def assert_not_in(self, events: list[LogEvent]) -> None:
        for event in events:
            self.assertNotIn("s3cret", str({name: each for name, each in event.items() if name != "log_failure"}))

    def test_public_name_is_the_stream(self) -> None:
        """The stream is called by the public name, and the authenticator is given both."""
        self.app.names = {KEY: "show"}
        self.assertEqual("NetStream.Publish.Start", self.publish().statuses()[-1][1])
        self.assertEqual(["live/show"], [str(stream.name) for stream in self.edge.registry])
        (request,) = self.edge.authenticator.requests
        self.assertEqual(("show", KEY), (request.stream.key, request.key))
        self.assertNotIn(KEY, repr(request))

    def test_no_such_key(self) -> None:
        """A key that is not in the table publishes nothing, nor does a public name; who guesses must wait."""
        self.app.names = {KEY: "show"}
        for key in ("s3cretkez", "show", "s3cret/key", "s3cret key"):
            status = self.publish(key).statuses()[-1]
            self.assertIn(status[1], ("NetStream.Publish.Denied", "NetStream.Publish.BadName"), key)
        self.assertEqual([], list(self.edge.registry))
        words = ""
        for number in range(12):
            words = self.publish(f"s3cret{number}").statuses()[-1][2]
        self.assertIn("too many", words)
        self.assertEqual([], self.edge.authenticator.requests)

    def test_refused_key_is_not_shown(self) -> None:
        """Where a key may be a secret a refusal does not show it, however it comes about."""
        self.edge.authenticator.takes_secret_keys = True  # type: ignore[attr-defined]
        for answer in (Verdict(False, "no"), RuntimeError("away"), Verdict(False, "later", is_undecided=True)):
            self.edge.authenticator.answer = answer
            self.publish()
            self.flushLoggedErrors()

    def test_key_can_be_revoked(self) -> None:
        """Where the key is all that a publisher shows it is what keeps it out when its stream is stopped for good."""
        self.app.names = {KEY: "show", "another": "show"}
        self.publish().leave()
        (stream,) = self.edge.registry
        self.edge.revocations.revoke_token(stream.fingerprint)
        self.assertIn("revoked", self.publish().statuses()[-1][2])
        self.assertEqual("NetStream.Publish.Start", self.publish("another").statuses()[-1][1])
