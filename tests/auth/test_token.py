import base64
import errno
import hashlib
import hmac
import os
import shutil
import stat
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.auth import keys
from rapidrtmp.auth.keys import FixedKeys, KeysInFile
from rapidrtmp.auth.token import TokenAuthenticator, TokenAuthenticatorFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    Action,
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    IPlayAuthenticator,
    ITokenIssuer,
    PlayRequest,
    PublishRequest,
    TokenTerms,
    Verdict,
)
from rapidrtmp.names import StreamName

CAMERA = StreamName("live", "camera")
SECRET = b"a secret of some length"
KEYS = FixedKeys([SECRET])
NOW_MS = 1_800_000_000_500
TO_PUBLISH, TO_PLAY = TokenTerms(), TokenTerms(Action.PLAY)


def request(token: str, stream: StreamName = CAMERA) -> PublishRequest:
    return PublishRequest(stream=stream, token=token, parameters={"token": token}, peer="192.0.2.1")


class Day:
    """The time of day, set by hand."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def utc_ms(self) -> int:
        return self.now_ms


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.day = Day()
        self.authenticator = TokenAuthenticator(KEYS, self.day.utc_ms)

    def refusal(self, token: str, stream: StreamName = CAMERA) -> str:
        verdict = self.authenticator.authorize_publish(request(token, stream))
        self.assertFalse(verdict.allowed)
        self.is_unauthenticated = verdict.is_unauthenticated
        return verdict.reason

    def test_interfaces_decide_and_issue(self) -> None:
        """It decides, and it issues tokens."""
        verifyObject(IAuthenticator, self.authenticator)
        verifyObject(IPlayAuthenticator, self.authenticator)
        verifyObject(ITokenIssuer, self.authenticator)
        verifyObject(IAuthenticatorFactory, TokenAuthenticatorFactory(secret=SECRET.decode()))

    def test_good_token_for_its_stream(self) -> None:
        """A token lets its stream be published, says when that ends, and is not its own credential."""
        token = self.authenticator.issue_token(CAMERA, 60, TO_PUBLISH)
        self.assertRegex(token, r"\A[A-Za-z0-9_-]{60}\Z")
        verdict = self.authenticator.authorize_publish(request(token))
        self.assertTrue(verdict.allowed)
        self.assertEqual(1_800_000_061_000, verdict.expires_ms)
        self.assertNotIn(token, verdict.credential)

    def test_token_made_by_hand(self) -> None:
        """A token is flags, key, number, times, a digest of its stream and half an HMAC: here is one made elsewhere."""
        authenticator = TokenAuthenticator(KEYS, self.day.utc_ms, random_bytes=lambda count: bytes(range(count)))
        head = b"\x40" + hashlib.sha256(b"rapidrtmp key\0" + SECRET).digest()[:3] + bytes(range(6))
        times = NOW_MS.to_bytes(6, "big") + (1_800_000_061).to_bytes(5, "big")
        said = head + times + hashlib.sha256(b"live/camera").digest()[:8]
        made = said + hmac.digest(SECRET, b"rapidrtmp token 2\0" + said, "sha256")[:16]
        expected = base64.urlsafe_b64encode(made).decode()
        self.assertEqual(expected, authenticator.issue_token(CAMERA, 60, TO_PUBLISH))

    def test_reconnect_and_restart(self) -> None:
        """A token serves any number of times, also at another server with the same secret, with one credential."""
        token = self.authenticator.issue_token(CAMERA, 60, TO_PUBLISH)
        other = TokenAuthenticator(KEYS, self.day.utc_ms)
        verdicts = [each.authorize_publish(request(token)) for each in (self.authenticator, self.authenticator, other)]
        self.assertEqual([verdicts[0]] * 3, verdicts)

    def test_credentials_of_tokens_differ(self) -> None:
        """Two tokens for one stream are two credentials."""
        credentials = {
            self.authenticator.authorize_publish(
                request(self.authenticator.issue_token(CAMERA, 60, TO_PUBLISH))
            ).credential
            for _ in range(2)
        }
        self.assertEqual(2, len(credentials))

    def test_refusals_are_distinguished(self) -> None:
        """A refusal says whether the token is missing, unknown, for something else or expired, and never shows it."""
        token = self.authenticator.issue_token(CAMERA, 60, TO_PUBLISH)
        self.assertIn("needed", self.refusal(""))
        for text in ("x", token[:-1], token + "A", token[:-1] + "=", token[:-1] + "é", token[:-1] + "\n", "A" * 5000):
            self.assertIn("not one of this server's", self.refusal(text))
            self.assertTrue(self.is_unauthenticated)
        for stream in (StreamName("live", "camera2"), StreamName("radio", "camera")):
            self.assertIn("another stream", self.refusal(token, stream))
            self.assertFalse(self.is_unauthenticated)
        self.day.now_ms += 61_000
        self.assertIn("expired", self.refusal(token))
        self.assertTrue(self.is_unauthenticated)

    def test_actions_are_not_interchangeable(self) -> None:
        """A token to watch with is none to publish with, nor the other way round."""
        play = self.authenticator.issue_token(CAMERA, 60, TO_PLAY)
        self.assertIn("to play with, not to publish", self.refusal(play))
        self.assertTrue(self.watch(play).allowed)
        publish = self.authenticator.issue_token(CAMERA, 60, TO_PUBLISH)
        self.assertIn("to publish with, not to play", self.watch(publish).reason)
        self.assertIn("needed to watch", self.watch("").reason)

    def watch(self, token: str, peer: str = "192.0.2.1", stream: StreamName = CAMERA) -> Verdict:
        return self.authenticator.authorize_play(PlayRequest(stream, token, peer))

    def test_patterns_stand_for_streams(self) -> None:
        """A token for a pattern is for every stream that it stands for."""
        token = self.authenticator.issue_token(CAMERA, 60, TokenTerms(Action.PLAY, streams="live/cam*"))
        for key, allowed in (("camera", True), ("cam", True), ("ca", False), ("xcam", False)):
            self.assertEqual(allowed, self.watch(token, stream=StreamName("live", key)).allowed, key)
        self.assertFalse(self.watch(token, stream=StreamName("radio", "camera")).allowed)

    def test_networks_bind_a_token(self) -> None:
        """A token for a network is refused from elsewhere; an IPv4 address may be written as an IPv6 one."""
        for network, inside, outside in (
            ("192.0.2.0/24", ("192.0.2.1", "::ffff:192.0.2.9"), ("198.51.100.1", "2001:db8::1", "unix", "")),
            ("2001:db8::/32", ("2001:db8::1",), ("2001:db9::1", "192.0.2.1")),
        ):
            token = self.authenticator.issue_token(CAMERA, 60, TokenTerms(Action.PLAY, network=network))
            for peer in inside:
                self.assertTrue(self.watch(token, peer).allowed, peer)
            for peer in outside:
                self.assertIn("another network", self.watch(token, peer).reason)

    def test_terms_are_in_the_verdict(self) -> None:
        """What a token says of sessions and players is in the verdict, and the longest for one stream is short."""
        terms = TokenTerms(Action.PLAY, network="2001:db8::/32", reconnect_s=86_400, max_players=65_535)
        token = self.authenticator.issue_token(CAMERA, 60, terms)
        self.assertLessEqual(len(token), 128)
        verdict = self.watch(token, "2001:db8::1")
        self.assertEqual((86_400, 65_535, NOW_MS), (verdict.reconnect_s, verdict.max_players, verdict.issued_ms))

    def test_rotated_keys_stay_good(self) -> None:
        """The first key signs; what the others signed is good until they are removed."""
        old, new = SECRET, b"the key of this month"
        token = self.authenticator.issue_token(CAMERA, 60, TO_PUBLISH)
        rotated = TokenAuthenticator(FixedKeys([new, old]), self.day.utc_ms)
        self.assertTrue(rotated.authorize_publish(request(token)).allowed)
        newer = rotated.issue_token(CAMERA, 60, TO_PUBLISH)
        self.assertFalse(self.authenticator.authorize_publish(request(newer)).allowed)
        removed = TokenAuthenticator(FixedKeys([new]), self.day.utc_ms)
        self.assertTrue(removed.authorize_publish(request(newer)).allowed)
        self.assertFalse(removed.authorize_publish(request(token)).allowed)

    def test_another_secret_is_refused(self) -> None:
        """A token of a server with another secret is refused."""
        token = TokenAuthenticator(FixedKeys([b"another secret entirely"]), self.day.utc_ms).issue_token(
            CAMERA, 60, TO_PUBLISH
        )
        self.assertIn("not one of this server's", self.refusal(token))

    def test_expiry_to_the_second(self) -> None:
        """A token is good for at least its lifetime, and less than a second longer."""
        token = self.authenticator.issue_token(CAMERA, 60, TO_PUBLISH)
        self.day.now_ms = NOW_MS + 60_000
        self.assertTrue(self.authenticator.authorize_publish(request(token)).allowed)
        self.day.now_ms = NOW_MS + 61_000
        self.assertIn("expired", self.refusal(token))

    def test_kept_consent_has_no_end(self) -> None:
        """With mid-session=keep consent has no end, though the token does."""
        authenticator = TokenAuthenticator(KEYS, self.day.utc_ms, ends_publish=False)
        verdict = authenticator.authorize_publish(request(authenticator.issue_token(CAMERA, 60, TO_PUBLISH)))
        self.assertTrue(verdict.allowed)
        self.assertIsNone(verdict.expires_ms)

    def test_every_character_counts(self) -> None:
        """A token with any character changed is no token."""
        token = self.authenticator.issue_token(CAMERA, 60, TO_PUBLISH)
        for place in range(len(token)):
            for character in "ABab09-_":
                forged = token[:place] + character + token[place + 1 :]
                self.assertEqual(forged == token, self.authenticator.authorize_publish(request(forged)).allowed)


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "token.key"
        self.context = AuthenticatorContext(clock=Clock(), utc_ms=Day().utc_ms, log=Logger())

    def create(self) -> TokenAuthenticator:
        return TokenAuthenticatorFactory(secret_file=str(self.path)).create(self.context)

    def refusal(self, **arguments: str) -> str:
        return str(self.assertRaises(ConfigurationError, TokenAuthenticatorFactory, **arguments))

    def test_first_use_makes_the_file(self) -> None:
        """The secret is made when it is first needed, not before, for the server's own eyes; nothing else is left."""
        TokenAuthenticatorFactory(secret_file=str(self.path))
        self.assertFalse(self.path.exists())
        self.create()
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual([self.path], list(self.path.parent.iterdir()))

    def test_secret_is_kept_over_restarts(self) -> None:
        """A token issued before a restart is good after it."""
        token = self.create().issue_token(CAMERA, 60, TO_PUBLISH)
        self.assertTrue(self.create().authorize_publish(request(token)).allowed)

    def test_secrets_are_random(self) -> None:
        """Two installations have two secrets."""
        self.create()
        first = self.path.read_bytes()
        self.path.unlink()
        self.create()
        self.assertNotEqual(first, self.path.read_bytes())

    def test_lost_race_uses_the_winner(self) -> None:
        """If another process makes the file at the same moment, both use that one."""
        real_link = os.link

        def slow_link(source: Path, target: Path) -> None:
            Path(target).write_bytes(b"the other's secret is here")
            real_link(source, target)

        self.patch(os, "link", slow_link)
        token = self.create().issue_token(CAMERA, 60, TO_PUBLISH)
        other = TokenAuthenticator(FixedKeys([b"the other's secret is here"]), Day().utc_ms)
        self.assertTrue(other.authorize_publish(request(token)).allowed)
        self.assertEqual([self.path], list(self.path.parent.iterdir()))

    def test_rotation_by_a_new_line(self) -> None:
        """A key that is written above the first one signs from then on; a file that is damaged changes nothing."""
        day = Day()
        kept = KeysInFile(self.path, day.utc_ms, Logger())
        (first,) = kept.all.values()
        self.path.write_bytes(b"the key of this month\n" + first + b"\n")
        self.assertEqual([first], list(kept.all.values()))
        day.now_ms += keys.LOOK_EVERY_MS
        self.assertEqual([b"the key of this month", first], list(kept.all.values()))
        self.path.write_bytes(b"short\n")
        day.now_ms += keys.LOOK_EVERY_MS
        with capturedLogs() as events:
            self.assertEqual(2, len(kept.all))
        self.assertEqual([LogLevel.error], [event["log_level"] for event in events])
        self.path.unlink()
        day.now_ms += keys.LOOK_EVERY_MS
        self.assertEqual(2, len(kept.all))

    def test_given_secret_makes_no_file(self) -> None:
        """A secret in the spec is used as it is, and no file is made."""
        factory = TokenAuthenticatorFactory(secret=SECRET.decode(), secret_file=str(self.path))
        token = factory.create(self.context).issue_token(CAMERA, 60, TO_PUBLISH)
        self.assertTrue(TokenAuthenticator(KEYS, Day().utc_ms).authorize_publish(request(token)).allowed)
        self.assertFalse(self.path.exists())

    def test_unusable_files_stop_the_start(self) -> None:
        """A file that cannot be read, or holds next to nothing, stops the start with its name."""
        self.path.mkdir(parents=True)
        self.assertIn(str(self.path), str(self.assertRaises(ConfigurationError, self.create)))
        self.path.rmdir()
        self.path.write_bytes(b"short\n")
        self.assertIn("5 bytes", str(self.assertRaises(ConfigurationError, self.create)))

    def test_read_only_folder(self) -> None:
        """Where the default file cannot be made the secret lives in memory; one that was chosen must be made."""

        def refuse(*_: object) -> bytes:
            raise OSError(errno.EROFS, "Read-only file system")

        self.patch(keys, "keep_secret", refuse)
        with capturedLogs() as events:
            kept = TokenAuthenticatorFactory().create(self.context)
        self.assertTrue(kept.authorize_publish(request(kept.issue_token(CAMERA, 60, TO_PUBLISH))).allowed)
        self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])
        other = TokenAuthenticatorFactory().create(self.context)
        self.assertFalse(other.authorize_publish(request(kept.issue_token(CAMERA, 60, TO_PUBLISH))).allowed)
        self.assertIn("Read-only", str(self.assertRaises(ConfigurationError, self.create)))

    def test_unreadable_default_stops_the_start(self) -> None:
        """A default file that is there is never passed over: the tokens it signed would be void."""
        Path("data/token.key").mkdir(parents=True)
        self.addCleanup(shutil.rmtree, "data")
        self.assertRaises(ConfigurationError, TokenAuthenticatorFactory().create, self.context)

    def test_open_file_is_warned_of(self) -> None:
        """A secret that others may read is used, with a warning."""
        self.create()
        self.path.chmod(0o644)
        with capturedLogs() as events:
            self.create()
        self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])

    def test_bad_arguments_stop_the_start(self) -> None:
        """A guessable secret or an unknown mid-session stops the start, without showing the secret."""
        line = self.refusal(secret="hidden")
        self.assertIn("6 bytes", line)
        self.assertNotIn("hidden", line)
        self.assertIn("end or keep", self.refusal(mid_session="maybe"))

    def test_mid_session_argument(self) -> None:
        """mid-session decides whether consent has an end."""
        for argument, ends in (("end", True), ("keep", False)):
            authenticator = TokenAuthenticatorFactory(secret=SECRET.decode(), mid_session=argument).create(self.context)
            verdict = authenticator.authorize_publish(request(authenticator.issue_token(CAMERA, 60, TO_PUBLISH)))
            self.assertEqual(ends, verdict.expires_ms is not None)
