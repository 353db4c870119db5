"""JSON Web Tokens of others: who is let in, and which tricks are not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from rapidrtmp.auth.jwks import FRESH_MS, REFETCH_MS, KeySet
from rapidrtmp.auth.jwt import JwtAuthenticator, JwtAuthenticatorFactory
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.http.outgoing import HttpAnswer, OutgoingError
from rapidrtmp.interfaces import (
    AuthenticatorContext,
    IAuthenticator,
    IManageAuthenticator,
    IManageAuthenticatorFactory,
    IPlayAuthenticator,
    PlayRequest,
    PublishRequest,
    Verdict,
)
from rapidrtmp.names import StreamName

CAMERA = StreamName("live", "cam-1")
SECRET = b"a secret of thirty-two bytes, yes"
NOW_S = 1_800_000_000
GOOD = {"actions": ["publish", "play"], "streams": ["live/cam-*"], "exp": NOW_S + 600, "iat": NOW_S - 5}
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in (header, claims)]
    return ".".join(parts)


class JwtCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now_s: float = NOW_S
        self.clock = Clock()
        self.context = AuthenticatorContext(self.clock, lambda: int(self.now_s * 1000), Logger())

    def file(self, data: bytes) -> str:
        path = Path(self.mktemp())
        path.write_bytes(data)
        return str(path)

    def make(self, data: bytes = SECRET + b"\n", **options: str) -> JwtAuthenticator:
        return JwtAuthenticatorFactory(key=self.file(data), **options).create(self.context)

    def play(self, judge: JwtAuthenticator, token: str, stream: StreamName = CAMERA) -> Verdict:
        return self.successResultOf(judge.authorize_play(PlayRequest(stream, token, "192.0.2.1")))

    def publish(self, judge: JwtAuthenticator, token: str, stream: StreamName = CAMERA) -> Verdict:
        return self.successResultOf(judge.authorize_publish(PublishRequest(stream, token, {}, "192.0.2.1")))


class ClaimTests(JwtCase):
    def token(self, **claims: Any) -> str:
        said = {name: value for name, value in {**GOOD, **claims}.items() if value is not None}
        return jwt.encode(said, SECRET, "HS256")

    def test_interfaces_of_all_decisions(self) -> None:
        """It decides who may publish, who may watch and who may manage."""
        judge = self.make()
        verifyObject(IAuthenticator, judge)
        verifyObject(IPlayAuthenticator, judge)
        verifyObject(IManageAuthenticator, judge)
        verifyObject(IManageAuthenticatorFactory, JwtAuthenticatorFactory(key="x"))

    def test_good_token_lets_in(self) -> None:
        """A good token lets in, says until when and since when, and is not its own credential."""
        token = self.token()
        for ask in (self.play, self.publish):
            verdict = ask(self.make(), token)
            self.assertTrue(verdict.allowed, verdict)
            self.assertEqual((NOW_S + 660) * 1000, verdict.expires_ms)
            self.assertEqual((NOW_S - 5) * 1000, verdict.issued_ms)
            self.assertNotIn(token, verdict.credential)

    def test_actions_as_list_or_text(self) -> None:
        """Actions are a list, or text with spaces; one that is not named is refused, and so is nonsense."""
        for actions, allowed in (
            ("play", True),
            ("publish play", True),
            (["play"], True),
            (["publish"], False),
            ("playing", False),
            (None, False),
            ({"play": 1}, False),
            ([["play"]], False),
        ):
            verdict = self.play(self.make(), self.token(actions=actions))
            self.assertEqual((allowed, False), (verdict.allowed, verdict.is_unauthenticated), actions)

    def test_streams_are_patterns(self) -> None:
        """Streams are patterns, in a list or in text with spaces; without an application they are of live."""
        for streams, allowed in (
            (["live/*"], True),
            ("radio/x live/cam-1", True),
            ("cam-?", True),
            (["*"], True),
            (["*/*"], True),
            (["radio/*"], False),
            (["live/cam"], False),
            (None, False),
            (["live/", "", "a/b/c", 3], False),
            ("live/[a-z]*", False),
        ):
            verdict = self.play(self.make(), self.token(streams=streams))
            self.assertEqual((allowed, False), (verdict.allowed, verdict.is_unauthenticated), streams)

    def test_names_of_claims(self) -> None:
        """The claims may be called otherwise."""
        judge = self.make(actions="can", streams="what")
        self.assertTrue(self.play(judge, self.token(can="play", what="live/cam-1")).allowed)
        self.assertFalse(self.play(judge, self.token()).allowed)

    def test_times_with_a_leeway(self) -> None:
        """A token is good from nbf to exp, give or take the leeway; to the second."""
        for claims, leeway, allowed in (
            ({"exp": NOW_S - 59}, "60s", True),
            ({"exp": NOW_S - 60}, "60s", False),
            ({"exp": NOW_S + 1}, "0s", True),
            ({"exp": NOW_S}, "0s", False),
            ({"nbf": NOW_S + 60}, "60s", True),
            ({"nbf": NOW_S + 61}, "60s", False),
            ({"exp": None}, "0s", True),
        ):
            verdict = self.play(self.make(leeway=leeway), self.token(**claims))
            self.assertEqual((allowed, not allowed), (verdict.allowed, verdict.is_unauthenticated), claims)

    def test_times_that_are_none(self) -> None:
        """A time that is no number makes a token invalid."""
        for name in ("exp", "nbf", "iat"):
            for value in ("soon", [], True, -1, 1e300):
                claims = unsigned({"alg": "HS256"}, {**GOOD, name: value})
                mac = hmac.digest(SECRET, claims.encode(), hashlib.sha256)
                token = f"{claims}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
                self.assertTrue(self.play(self.make(), token).is_unauthenticated, (name, value))

    def test_issuer_and_audience(self) -> None:
        """Where they are set they must be there; where not, they may be anything."""
        self.assertTrue(self.play(self.make(), self.token(iss="a", aud="b")).allowed)
        judge = self.make(issuer="a", audience="b")
        self.assertTrue(self.play(judge, self.token(iss="a", aud=["x", "b"])).allowed)
        for claims in ({"iss": "x", "aud": "b"}, {"iss": "a", "aud": "x"}, {"iss": "a"}, {"aud": "b"}):
            self.assertTrue(self.play(judge, self.token(**claims)).is_unauthenticated, claims)

    def test_no_token_is_refused(self) -> None:
        """None at all, and nonsense, are refused in words."""
        for token in ("", "x", "a.b.c", "é", "." * 9000, "a" * 9000, "eyJ.eyJ.", self.token()[:-2], self.token() + "A"):
            verdict = self.play(self.make(), token)
            self.assertEqual((False, True), (verdict.allowed, verdict.is_unauthenticated), token[:20])
            self.assertTrue(verdict.reason)


class AlgorithmTests(JwtCase):
    def test_kinds_of_keys_verify(self) -> None:
        """A public key verifies what its private one has signed, with each algorithm of its kind."""
        for key, algorithms in ((RSA, ("RS256", "RS512", "PS256")), (EC, ("ES256",)), (ED, ("EdDSA",))):
            for algorithm in algorithms:
                judge = self.make(public_pem(key))
                self.assertTrue(self.play(judge, jwt.encode(GOOD, key, algorithm)).allowed, algorithm)

    def test_unsigned_tokens_are_refused(self) -> None:
        """Tokens without a signature are refused, however they say it."""
        for judge in (self.make(), self.make(public_pem(RSA))):
            for name in ("none", "None", "NONE", "", None):
                for signature in ("", "AAAA"):
                    token = f"{unsigned({'alg': name, 'typ': 'JWT'}, GOOD)}.{signature}"
                    self.assertTrue(self.play(judge, token).is_unauthenticated, name)

    def test_confusion_of_keys_is_refused(self) -> None:
        """A public key is not taken for the secret of an HMAC, nor are keys within the token believed."""
        pem = public_pem(RSA)
        judge = self.make(pem)
        for key in (pem, pem.strip(), pem + b"\n"):
            claims = unsigned({"alg": "HS256", "typ": "JWT"}, GOOD)
            mac = base64.urlsafe_b64encode(hmac.digest(key, claims.encode(), hashlib.sha256)).rstrip(b"=").decode()
            self.assertFalse(self.play(judge, f"{claims}.{mac}").allowed)
        other = rsa.generate_private_key(65537, 2048)
        header = {"jwk": json.loads(RSAAlgorithm.to_jwk(other.public_key())), "jku": "https://a.example", "kid": "x"}
        self.assertFalse(self.play(judge, jwt.encode(GOOD, other, "RS256", header)).allowed)

    def test_only_allowed_algorithms_serve(self) -> None:
        """Only the algorithms that are allowed serve."""
        judge = self.make(algorithms="HS384, HS512")
        for algorithm, allowed in (("HS256", False), ("HS384", True), ("HS512", True)):
            self.assertEqual(allowed, self.play(judge, jwt.encode(GOOD, SECRET, algorithm)).allowed)

    def test_key_file_without_line_break(self) -> None:
        """Of the file one line break at the end is no part of the secret."""
        for data, secret in ((b"abc\n", b"abc"), (b"abc", b"abc"), (b"abc\n\n", b"abc\n"), (b" abc ", b" abc ")):
            self.assertTrue(self.play(self.make(data), jwt.encode(GOOD, secret, "HS256")).allowed, data)


class SettingTests(JwtCase):
    def refusal(self, **options: str) -> str:
        with self.assertRaises(ConfigurationError) as caught:
            JwtAuthenticatorFactory(**options).create(self.context)
        return str(caught.exception)

    def test_wrong_settings_stop_the_start(self) -> None:
        """What cannot work stops the start with one line that shows no secret."""
        secret, private = self.file(SECRET), RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for options, words in (
            ({}, "either key=FILE or jwks=URL"),
            ({"key": "a", "jwks": "https://a"}, "either key=FILE or jwks=URL"),
            ({"key": "/nowhere/a"}, "No such file"),
            ({"key": self.file(b"")}, "is empty"),
            ({"key": self.file(private)}, "private key"),
            ({"key": self.file(b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n")}, "no public key"),
            ({"key": secret, "algorithms": "none"}, "'none' is not one of"),
            ({"key": secret, "algorithms": "RS256"}, "do not go with the key"),
            ({"key": self.file(public_pem(RSA)), "algorithms": "HS256 RS256"}, "HS256 do not go with the key"),
            ({"jwks": "https://a.example", "algorithms": "HS256"}, "no HMAC"),
            ({"jwks": "file:///etc/passwd"}, "not a URL"),
            ({"key": secret, "leeway": "soon"}, "soon"),
        ):
            line = self.refusal(**options)
            self.assertIn(words, line)
            self.assertNotIn(SECRET.decode(), line)


class Issuer:
    """A server that publishes keys."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.answer: HttpAnswer | Failure | None = None
        self.held: list[Deferred[HttpAnswer]] | None = None

    def add(self, key: Any, algorithm: Any, **more: Any) -> None:
        self.keys.append({**json.loads(algorithm.to_jwk(key.public_key())), **more})

    def fetch(self) -> Deferred[HttpAnswer]:
        self.asked += 1
        answer: Deferred[HttpAnswer] = Deferred()
        if self.held is not None:
            self.held.append(answer)
        elif isinstance(self.answer, Failure):
            answer.errback(self.answer)
        else:
            answer.callback(self.answer or HttpAnswer(200, {}, json.dumps({"keys": self.keys}).encode()))
        return answer


class JwksTests(JwtCase):
    def setUp(self) -> None:
        super().setUp()
        self.issuer = Issuer()
        self.issuer.add(RSA, RSAAlgorithm, kid="r", use="sig")
        self.issuer.add(EC, ECAlgorithm, kid="e", alg="ES256")
        self.issuer.add(ED, OKPAlgorithm, kid="d")
        keys = KeySet(self.issuer.fetch, lambda: int(self.clock.seconds() * 1000), Logger())
        self.judge = JwtAuthenticator(
            keys.candidates, self.context.utc_ms, ("RS256", "ES256", "EdDSA", "PS256"), leeway_s=60
        )

    def token(self, key: Any, algorithm: str, kid: str | None) -> str:
        return jwt.encode(GOOD, key, algorithm, {} if kid is None else {"kid": kid})

    def test_found_by_name(self) -> None:
        """Keys are fetched once and found by their names; a token that names none is tried with all of its kind."""
        for key, algorithm, kid in ((RSA, "RS256", "r"), (RSA, "PS256", "r"), (EC, "ES256", "e"), (ED, "EdDSA", "d")):
            self.assertTrue(self.play(self.judge, self.token(key, algorithm, kid)).allowed, kid)
            self.assertTrue(self.play(self.judge, self.token(key, algorithm, None)).allowed, kid)
        self.assertEqual(1, self.issuer.asked)

    def test_another_key_name_is_refused(self) -> None:
        """A token that names another key than has signed it is refused."""
        self.assertTrue(self.play(self.judge, self.token(RSA, "RS256", "e")).is_unauthenticated)

    def test_unknown_key_is_fetched_rarely(self) -> None:
        """A key that is not known is looked for every half a minute at most, however many tokens name one."""
        self.play(self.judge, self.token(RSA, "RS256", "r"))
        other = ec.generate_private_key(ec.SECP256R1())
        for number in range(20):
            self.assertTrue(self.play(self.judge, self.token(other, "ES256", f"new{number}")).is_unauthenticated)
        self.assertEqual(1, self.issuer.asked)
        self.issuer.add(other, ECAlgorithm, kid="new")
        self.clock.advance(REFETCH_MS / 1000)
        self.assertTrue(self.play(self.judge, self.token(other, "ES256", "new")).allowed)
        self.assertEqual(2, self.issuer.asked)

    def test_removed_key_is_forgotten(self) -> None:
        """A key that the issuer has removed is believed for ten minutes at most."""
        token = self.token(RSA, "RS256", "r")
        self.play(self.judge, token)
        del self.issuer.keys[0]
        self.clock.advance(FRESH_MS / 1000)
        self.assertFalse(self.play(self.judge, token).allowed)

    def test_no_answer_is_undecided(self) -> None:
        """Where the keys cannot be had it is undecided; where they were had once, they serve on."""
        token = self.token(RSA, "RS256", "r")
        for answer in (
            HttpAnswer(500, {}, b""),
            HttpAnswer(200, {}, b"<html>"),
            HttpAnswer(200, {}, b'{"keys": 3}'),
            Failure(OutgoingError("no answer within 5 s")),
        ):
            self.issuer.answer = answer
            self.assertTrue(self.play(self.judge, token).is_undecided, answer)
            self.clock.advance(REFETCH_MS / 1000)
        self.issuer.answer = None
        self.assertTrue(self.play(self.judge, token).allowed)
        self.issuer.answer = HttpAnswer(500, {}, b"")
        self.clock.advance(FRESH_MS / 1000)
        self.assertTrue(self.play(self.judge, token).allowed)

    def test_waiting_tokens_share_a_fetch(self) -> None:
        """Tokens that come while the keys are fetched wait for them, and one that is given up takes no other along."""
        self.issuer.held = []
        token = self.token(RSA, "RS256", "r")
        waiting = [self.judge.authorize_play(PlayRequest(CAMERA, token, "192.0.2.1")) for _ in range(3)]
        leaving = waiting.pop(0)
        leaving.cancel()
        self.failureResultOf(leaving)
        self.issuer.held[0].callback(HttpAnswer(200, {}, json.dumps({"keys": self.issuer.keys}).encode()))
        self.assertEqual([True, True], [self.successResultOf(each).allowed for each in waiting])
        self.assertEqual(1, self.issuer.asked)

    def test_keys_that_do_not_count(self) -> None:
        """Secrets, keys for encryption and keys of unknown kinds verify nothing, and harm no other."""
        self.issuer.keys[:0] = [
            {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode(), "kid": "r"},
            {"kty": "XYZ", "kid": "r"},
            {"kty": "RSA", "kid": "r", "n": "x"},
            {**json.loads(RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "enc", "use": "enc"},
        ]
        self.assertTrue(self.play(self.judge, self.token(RSA, "RS256", "r")).allowed)
        self.assertFalse(self.play(self.judge, self.token(RSA, "RS256", "enc")).allowed)
        self.assertFalse(self.play(self.judge, jwt.encode(GOOD, SECRET, "HS256", {"kid": "r"})).allowed)


class Keys(Resource):
    """Publishes keys."""

    isLeaf = True

    def __init__(self, keys: list[dict[str, Any]]) -> None:
        super().__init__()
        self.keys = keys

    def render_GET(self, request: Any) -> bytes:
        request.setHeader("connection", "close")
        return json.dumps({"keys": self.keys}).encode()


class FetchTests(TestCase):
    @inlineCallbacks
    def test_keys_are_fetched(self) -> Any:
        """The keys are fetched from the URL that is set, over HTTP, and verify what their owner has signed."""
        issuer = Issuer()
        issuer.add(RSA, RSAAlgorithm, kid="r")
        port: Any = reactor.listenTCP(0, Site(Keys(issuer.keys)), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/keys"
        context = AuthenticatorContext(reactor, lambda: NOW_S * 1000, Logger())  # type: ignore[arg-type]
        judge = JwtAuthenticatorFactory(jwks=url).create(context)
        verdict = yield judge.authorize_play(PlayRequest(CAMERA, jwt.encode(GOOD, RSA, "RS256", {"kid": "r"}), "::1"))
        self.assertTrue(verdict.allowed, verdict)
