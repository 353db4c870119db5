import errno
import os
import shutil
import stat
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.auth import token
from rapidrtmp.auth.token import TokenAuthenticator, TokenAuthenticatorFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import (
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    ITokenIssuer,
    PublishRequest,
    Verdict,
)
from rapidrtmp.names import StreamName

CAMERA = StreamName("live", "camera")
SECRET = b"a secret of some length"
NOW_MS = 1_800_000_000_500


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
        self.authenticator = TokenAuthenticator(SECRET, self.day.utc_ms)

    def refusal(self, token: str, stream: StreamName = CAMERA) -> str:
        verdict = self.authenticator.authorize_publish(request(token, stream))
        self.assertEqual(Verdict(allowed=False, reason=verdict.reason), verdict)
        return verdict.reason

    def test_interfaces(self) -> None:
        """It decides, and it issues tokens."""
        verifyObject(IAuthenticator, self.authenticator)
        verifyObject(ITokenIssuer, self.authenticator)
        verifyObject(IAuthenticatorFactory, TokenAuthenticatorFactory(secret=SECRET.decode()))

    def test_good_token(self) -> None:
        """A token lets its stream be published, says when that ends, and is not its own credential."""
        token = self.authenticator.issue_token(CAMERA, 60)
        self.assertRegex(token, r"\A[A-Za-z0-9_-]{36}\Z")
        verdict = self.authenticator.authorize_publish(request(token))
        self.assertTrue(verdict.allowed)
        self.assertEqual(1_800_000_061_000, verdict.expires_ms)
        self.assertNotIn(token, verdict.credential)

    def test_by_hand(self) -> None:
        """A token is nonce, expiry and the first half of an HMAC, as base64url: here is one made elsewhere."""
        authenticator = TokenAuthenticator(SECRET, self.day.utc_ms, random_bytes=lambda count: bytes(range(count)))
        self.assertEqual("AAECAwQFAGtJ0j2oPupO5EgNQ9hAGZQnTTY-", authenticator.issue_token(CAMERA, 60))

    def test_reconnect_and_restart(self) -> None:
        """A token serves any number of times, also at another server with the same secret, with one credential."""
        token = self.authenticator.issue_token(CAMERA, 60)
        other = TokenAuthenticator(SECRET, self.day.utc_ms)
        verdicts = [each.authorize_publish(request(token)) for each in (self.authenticator, self.authenticator, other)]
        self.assertEqual([verdicts[0]] * 3, verdicts)

    def test_credentials_differ(self) -> None:
        """Two tokens for one stream are two credentials."""
        credentials = {
            self.authenticator.authorize_publish(request(self.authenticator.issue_token(CAMERA, 60))).credential
            for _ in range(2)
        }
        self.assertEqual(2, len(credentials))

    def test_refusals_are_told_apart(self) -> None:
        """A refusal says whether the token is missing, malformed, for something else or expired, and never shows it."""
        token = self.authenticator.issue_token(CAMERA, 60)
        self.assertIn("needed", self.refusal(""))
        for text in ("x", token[:-1], token + "A", token[:-1] + "=", token[:-1] + "é", token[:-1] + "\n"):
            self.assertIn("malformed", self.refusal(text))
        for stream in (StreamName("live", "camera2"), StreamName("radio", "camera")):
            self.assertIn("another stream", self.refusal(token, stream))
        self.day.now_ms += 61_000
        self.assertIn("expired", self.refusal(token))

    def test_another_secret(self) -> None:
        """A token of a server with another secret is refused."""
        token = TokenAuthenticator(b"another secret entirely", self.day.utc_ms).issue_token(CAMERA, 60)
        self.assertIn("another", self.refusal(token))

    def test_expiry_to_the_second(self) -> None:
        """A token is good for at least its lifetime, and less than a second longer."""
        token = self.authenticator.issue_token(CAMERA, 60)
        self.day.now_ms = NOW_MS + 60_000
        self.assertTrue(self.authenticator.authorize_publish(request(token)).allowed)
        self.day.now_ms = NOW_MS + 61_000
        self.assertIn("expired", self.refusal(token))

    def test_keep(self) -> None:
        """With mid-session=keep consent has no end, though the token does."""
        authenticator = TokenAuthenticator(SECRET, self.day.utc_ms, ends_publish=False)
        verdict = authenticator.authorize_publish(request(authenticator.issue_token(CAMERA, 60)))
        self.assertTrue(verdict.allowed)
        self.assertIsNone(verdict.expires_ms)

    def test_every_character_counts(self) -> None:
        """A token with any character changed is no token."""
        token = self.authenticator.issue_token(CAMERA, 60)
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

    def test_is_kept(self) -> None:
        """A token issued before a restart is good after it."""
        token = self.create().issue_token(CAMERA, 60)
        self.assertTrue(self.create().authorize_publish(request(token)).allowed)

    def test_secrets_are_random(self) -> None:
        """Two installations have two secrets."""
        self.create()
        first = self.path.read_bytes()
        self.path.unlink()
        self.create()
        self.assertNotEqual(first, self.path.read_bytes())

    def test_lost_race(self) -> None:
        """If another process makes the file at the same moment, both use that one."""
        real_link = os.link

        def slow_link(source: Path, target: Path) -> None:
            Path(target).write_bytes(b"the other's secret is here")
            real_link(source, target)

        self.patch(os, "link", slow_link)
        token = self.create().issue_token(CAMERA, 60)
        other = TokenAuthenticator(b"the other's secret is here", Day().utc_ms)
        self.assertTrue(other.authorize_publish(request(token)).allowed)
        self.assertEqual([self.path], list(self.path.parent.iterdir()))

    def test_given_secret(self) -> None:
        """A secret in the spec is used as it is, and no file is made."""
        factory = TokenAuthenticatorFactory(secret=SECRET.decode(), secret_file=str(self.path))
        token = factory.create(self.context).issue_token(CAMERA, 60)
        self.assertTrue(TokenAuthenticator(SECRET, Day().utc_ms).authorize_publish(request(token)).allowed)
        self.assertFalse(self.path.exists())

    def test_unusable_files(self) -> None:
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

        self.patch(token, "keep_secret", refuse)
        with capturedLogs() as events:
            kept = TokenAuthenticatorFactory().create(self.context)
        self.assertTrue(kept.authorize_publish(request(kept.issue_token(CAMERA, 60))).allowed)
        self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])
        other = TokenAuthenticatorFactory().create(self.context)
        self.assertFalse(other.authorize_publish(request(kept.issue_token(CAMERA, 60))).allowed)
        self.assertIn("Read-only", str(self.assertRaises(ConfigurationError, self.create)))

    def test_unreadable_default(self) -> None:
        """A default file that is there is never passed over: the tokens it signed would be void."""
        Path("data/token.key").mkdir(parents=True)
        self.addCleanup(shutil.rmtree, "data")
        self.assertRaises(ConfigurationError, TokenAuthenticatorFactory().create, self.context)

    def test_open_file(self) -> None:
        """A secret that others may read is used, with a warning."""
        self.create()
        self.path.chmod(0o644)
        with capturedLogs() as events:
            self.create()
        self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])

    def test_arguments(self) -> None:
        """A guessable secret or an unknown mid-session stops the start, without showing the secret."""
        line = self.refusal(secret="hidden")
        self.assertIn("6 characters", line)
        self.assertNotIn("hidden", line)
        self.assertIn("end or keep", self.refusal(mid_session="maybe"))

    def test_mid_session_argument(self) -> None:
        """mid-session decides whether consent has an end."""
        for argument, ends in (("end", True), ("keep", False)):
            authenticator = TokenAuthenticatorFactory(secret=SECRET.decode(), mid_session=argument).create(self.context)
            verdict = authenticator.authorize_publish(request(authenticator.issue_token(CAMERA, 60)))
            self.assertEqual(ends, verdict.expires_ms is not None)
