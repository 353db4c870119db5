"""Names and passwords in a file."""

from __future__ import annotations

import os
from pathlib import Path

from argon2 import PasswordHasher
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.auth.http_users import MAX_WAITING, HttpUsersAuthenticatorFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import AuthenticatorContext, PlayRequest, PublishRequest, Verdict
from rapidrtmp.names import StreamName
from tests.slow import slow

CAMERA = StreamName("live", "camera")
#: As weak as it may be: this is about what is compared with what.
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("pass:word é")
PASSWORD = "pass:word é"


class UsersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.context = AuthenticatorContext(Clock(), lambda: 0, Logger())
        self.write(f"# who may what\n\nanna:{HASH}\nbert:{HASH}:publish:live/b-*,radio/*\nuwe:{HASH}:play\n")
        self.users = HttpUsersAuthenticatorFactory(str(self.path)).create(self.context)

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.times = getattr(self, "times", 0) + 1
        os.utime(self.path, (self.times, self.times))

    def play(self, token: str, stream: StreamName = CAMERA) -> Verdict:
        return self.successResultOf(self.users.authorize_play(PlayRequest(stream, token, "192.0.2.1")))

    def publish(self, stream: StreamName = CAMERA, **parameters: str) -> Verdict:
        request = PublishRequest(stream, parameters.get("pass", ""), parameters, "192.0.2.1")
        return self.successResultOf(self.users.authorize_publish(request))

    @slow
    def test_watch_by_name_and_password(self) -> None:
        """One who authenticates may watch what the file says; a wrong name or password is asked for again."""
        self.assertTrue(self.play(f"anna:{PASSWORD}").allowed)
        for token in (
            "",
            "anna",
            "anna:",
            ":x",
            "anna:pass",
            f"no one:{PASSWORD}",
            f"bert:{PASSWORD}x",
            "a:" + "x" * 5000,
        ):
            verdict = self.play(token)
            self.assertEqual((False, True), (verdict.allowed, verdict.is_unauthenticated), token[:20])
            self.assertTrue(verdict.challenge.startswith("Basic realm="))
        verdict = self.play(f"bert:{PASSWORD}")
        self.assertEqual((False, False), (verdict.allowed, verdict.is_unauthenticated))

    def test_publish_by_either_spelling(self) -> None:
        """A publisher says name and password in its URL, by either spelling."""
        for names in (("user", "pass"), ("username", "password")):
            given = dict(zip(names, ("anna", PASSWORD), strict=True))
            self.assertTrue(self.publish(**given).allowed)
        self.assertFalse(self.publish(user="uwe", **{"pass": PASSWORD}).allowed)
        for stream, allowed in (
            (StreamName("live", "b-1"), True),
            (StreamName("radio", "x"), True),
            (CAMERA, False),
        ):
            self.assertEqual(allowed, self.publish(stream, user="bert", **{"pass": PASSWORD}).allowed, stream)

    def test_credentials_follow_the_name(self) -> None:
        """One name is one credential, wherever it comes from."""
        verdicts = [self.publish(user="anna", **{"pass": PASSWORD}) for _ in range(2)]
        self.assertEqual(verdicts[0].credential, verdicts[1].credential)
        self.assertNotIn(PASSWORD, verdicts[0].credential)

    @slow
    def test_changed_file_is_read_again(self) -> None:
        """The file is read again when it changes; one that is wrong changes nothing and is reported."""
        self.write(f"carl:{HASH}\n")
        self.assertTrue(self.play(f"carl:{PASSWORD}").allowed)
        self.assertFalse(self.play(f"anna:{PASSWORD}").allowed)
        with capturedLogs() as events:
            self.write("carl:x\n")
            self.assertTrue(self.play(f"carl:{PASSWORD}").allowed)
            self.path.unlink()
            self.assertTrue(self.play(f"carl:{PASSWORD}").allowed)
        self.assertEqual({LogLevel.error}, {event["log_level"] for event in events})

    def test_wrong_files_stop_the_start(self) -> None:
        """A file that is wrong stops the start with the number of the line, and shows no hash."""
        for text, words in (
            ("anna", "line 1"),
            (f"\n:{HASH}", "line 2"),
            ("anna:secret", "line 1: it is not NAME:HASH"),
            ("anna:$argon2id$x", "cannot be read"),
            (f"anna:{HASH}:manage", "manage is neither"),
            (f"anna:{HASH}:play:a b", "not a pattern"),
            (f"anna:{HASH}\nanna:{HASH}", "line 2: anna is there twice"),
        ):
            self.write(text)
            with self.assertRaises(ConfigurationError) as caught:
                HttpUsersAuthenticatorFactory(str(self.path)).create(self.context)
            self.assertIn(words, str(caught.exception))
            self.assertNotIn("$argon2id$v", str(caught.exception))
        with self.assertRaises(ConfigurationError):
            HttpUsersAuthenticatorFactory("/nowhere/x").create(self.context)

    @slow
    def test_flood_of_passwords_is_bounded(self) -> None:
        """Of passwords that wait to be checked there are only so many."""
        held: list[Deferred[bool]] = []

        def in_thread(*_: object) -> Deferred[bool]:
            held.append(Deferred())
            return held[-1]

        context = AuthenticatorContext(Clock(), lambda: 0, Logger(), in_thread)
        users = HttpUsersAuthenticatorFactory(str(self.path)).create(context)
        request = PlayRequest(CAMERA, "anna:x", "192.0.2.1")
        waiting = [users.authorize_play(request) for _ in range(MAX_WAITING + 2)]
        self.assertTrue(self.successResultOf(users.authorize_play(request)).is_undecided)
        self.assertEqual(2, len(held))
        while held:
            held.pop().callback(False)
        self.assertEqual({False}, {self.successResultOf(each).allowed for each in waiting})
