"""
Who may use the management API: the server's own user on this machine, and every client that sends the secret, or a
token that the server's own authenticators consent to.

A loopback address is no credential, for a reverse proxy on the same host has one too, and lends it to the whole world.
So without the secret the kernel must know the user at the other end (:mod:`rapidrtmp.web.peer_user`), and the request
must be one that a program sent for itself: it names this machine and bears no sign of a proxy. A page of another origin
is never answered, not even with the secret: a browser sends requests for pages that no one asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from rapidrtmp.auth.revocation import Revocations, fingerprint_of
from rapidrtmp.http.addresses import host_name, read_address
from rapidrtmp.http.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from rapidrtmp.interfaces import (
    EventType,
    ManageRequest,
    RecordEvent,
    Request,
    UnavailableError,
    Verdict,
    no_event,
)
from rapidrtmp.names import StreamName
from rapidrtmp.support.backoff import Backoff
from rapidrtmp.support.client_prefix import origin_of
from rapidrtmp.support.clock import now_ms, utc_ms
from rapidrtmp.web.console.sessions import Sessions
from rapidrtmp.web.peer_user import LocalPeer, find_local_peer
from rapidrtmp.web.policy import HttpPolicy

__all__ = ["PAGE_TOKEN_FIELD", "ApiAccess", "ApiSecret"]

#: Fields that proxies, balancers and CDNs add; with those that begin so.
_PROXY_FIELDS = frozenset({"cdn-loop", "client-ip", "fastly-client-ip", "true-client-ip", "via", "x-varnish"})
_PROXY_PREFIXES = (
    "cf-", "forwarded", "proxy-", "x-amzn-", "x-client-ip", "x-cluster-", "x-envoy-", "x-forwarded", "x-original-",
    "x-proxy", "x-real-", "x-remote-",
)  # fmt: skip
#: What pages of the console send along with what changes something.
PAGE_TOKEN_FIELD = "x-rapidrtmp-token"
_CHALLENGE = 'Bearer realm="rapidrtmp"'
#: How long the judge of a token may take.
JUDGE_S = 10
#: How soon to ask again, where it could not decide.
RETRY_S = 2
#: So much of a token's subject is logged.
MAX_SUBJECT = 64
#: Of a judge that took too long.
_UNDECIDED = Verdict(allowed=False, reason="the server cannot check the token now", is_undecided=True)


class ApiSecret:
    """
    What ``Authorization: Bearer`` must hold, of which only a digest is kept.

    :param secret: ``None`` until it is known: nothing matches before.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._digest: bytes | None = None
        if secret is not None:
            self.set(secret)

    def set(self, secret: bytes) -> None:
        """From now on it is this."""
        self._digest = hashlib.sha256(secret).digest()

    def key(self, purpose: bytes) -> bytes | None:
        """A key for another purpose, which tells nothing of the secret; ``None`` until that is known."""
        return None if self._digest is None else hmac.digest(self._digest, purpose, "sha256")

    def matches(self, given: bytes) -> bool:
        """Compare, in a time that tells nothing of the secret."""
        digest = hashlib.sha256(given).digest()
        return self._digest is not None and hmac.compare_digest(digest, self._digest)


class ApiAccess:
    """
    Admits requests to the management API.

    :param clock: what wrong secrets are counted by.
    :param find_peer: tells the user at the other end of a connection.
    :param record: records who tries a wrong secret.
    :param find_judge: tells the ``IManageAuthenticator`` of tokens; ``None`` if there is none.
    :param revocations: which tokens are good no more.
    :param time_ms: the time of day in milliseconds since 1970.
    :ivar sessions: those of the console.
    """

    def __init__(
        self,
        secret: ApiSecret,
        policy: HttpPolicy,
        clock: IReactorTime,
        find_peer: Callable[[Any], LocalPeer | None] = find_local_peer,
        record: RecordEvent = no_event,
        find_judge: Callable[[], Any] = lambda: None,
        revocations: Revocations | None = None,
        time_ms: Callable[[], int] = utc_ms,
    ) -> None:
        self.sessions = Sessions(lambda: secret.key(b"console"), time_ms)
        self._record = record
        self._find_judge = find_judge
        self._revocations = revocations
        self._secret = secret
        self._trust_own_user = policy.trust_own_user
        self._asked = Backoff(policy.api_requests_per_minute)
        self._per_minute = policy.api_requests_per_minute
        self._wrong = Backoff(policy.max_wrong_secrets)
        self._clock = clock
        self._find_peer = find_peer

    def check(self, request: Request, transport: Any, stream: StreamName | None = None) -> str | Deferred[str]:
        """
        Return if the request may pass.

        :param transport: of the connection that it came by.
        :param stream: what the request is about; ``None`` for the whole server.
        :returns: who it is from, in words; a Deferred of that where a token must be judged, which fails with what is
            raised else, or ``UnavailableError``.
        :raises ForbiddenError: a page of another origin sends it; or the token is for something else.
        :raises UnauthorizedError: the secret is wrong, or is missing and needed.
        :raises TooManyRequestsError: the client was wrong too often to be asked again now, or asks for too much.
        """
        self._check_rate(request)
        if not _is_of_this_origin(request):
            raise ForbiddenError("the management API does not answer pages of other origins")
        if "authorization" in request.headers:
            return self._check_bearer(request, stream)
        session = self.sessions.of(request)
        if self.sessions.is_good(session):
            if request.method not in ("GET", "HEAD"):
                self.check_page(request, session, request.header(PAGE_TOKEN_FIELD))
            return "from the console"
        if not (self._trust_own_user and self._is_own_user(request, transport)):
            raise UnauthorizedError(
                "the management secret is needed: Authorization: Bearer SECRET", {"WWW-Authenticate": _CHALLENGE}
            )
        return "as the server's own user"

    def check_login(self, request: Request, secret: str) -> None:
        """
        Return if a page of ours sends the secret, to begin a session.

        :raises: as :meth:`check`.
        """
        self._check_rate(request)
        if "origin" not in request.headers or not _is_of_this_origin(request):
            raise ForbiddenError("the console takes no forms of other origins")
        self._check_patience(request)
        if not self._secret.matches(secret.encode("utf-8", "surrogateescape")):
            raise self._wrong_token(request, "the secret is wrong")

    def check_page(self, request: Request, session: str, token: str) -> None:
        """
        Return if a page of a session sends what changes something.

        :raises ForbiddenError: it does not say that it is of this origin, or lacks the token of the session's pages.
        """
        if "origin" not in request.headers or not _is_of_this_origin(request):
            raise ForbiddenError("what changes something must come from a page of this server")
        if not self.sessions.is_page_token(session, token):
            raise ForbiddenError("the token of the console's page is missing or wrong: load the page anew")

    def _check_rate(self, request: Request) -> None:
        if not self._per_minute:
            return
        origin, time_ms = origin_of(request.client), now_ms(self._clock)
        wait_ms = self._asked.wait_ms(origin, time_ms)
        if wait_ms:
            raise TooManyRequestsError(
                f"one address may ask the management API {self._per_minute} times a minute",
                {"Retry-After": str(-(-wait_ms // 1000))},
            )
        self._asked.refused(origin, time_ms)  # counts it

    def _check_patience(self, request: Request) -> None:
        """:raises TooManyRequestsError: the client was wrong too often to be asked again now."""
        wait_ms = self._wrong.wait_ms(origin_of(request.client), now_ms(self._clock))
        if wait_ms:
            raise TooManyRequestsError(
                "too many wrong secrets came from this address", {"Retry-After": str(-(-wait_ms // 1000))}
            )

    def _check_bearer(self, request: Request, stream: StreamName | None) -> str | Deferred[str]:
        self._check_patience(request)
        scheme, _, secret = request.header("authorization").partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthorizedError("a bearer token is needed", {"WWW-Authenticate": _CHALLENGE})
        token = secret.strip()
        if self._secret.matches(token.encode("utf-8", "surrogateescape")):
            return "with the secret"
        judge = self._find_judge()
        if judge is None or not token:
            raise self._wrong_token(request, "the bearer token is wrong")
        return Deferred.fromCoroutine(self._check_token(judge, request, ManageRequest(stream, token, request.client)))

    async def _check_token(self, judge: Any, request: Request, asked: ManageRequest) -> str:
        """Whom a token names, in words, if it may pass; else as :meth:`check`."""
        verdict = await self._judge(judge, asked)
        if verdict.is_undecided:
            raise UnavailableError(verdict.reason, RETRY_S)
        if not verdict.allowed and verdict.is_unauthenticated:
            raise self._wrong_token(request, verdict.reason)
        if not verdict.allowed:
            self._record_refusal(request, verdict.reason)
            raise ForbiddenError(verdict.reason, {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'})
        revoked = self._revocation(asked, verdict)
        if revoked:
            raise self._wrong_token(request, revoked)
        subject = "".join(each if each.isprintable() else "?" for each in verdict.subject[:MAX_SUBJECT])
        return f"with a token of {subject}" if subject else "with a token of no name"

    async def _judge(self, judge: Any, asked: ManageRequest) -> Verdict:
        judging = maybeDeferred(judge.authorize_manage, asked)
        judging.addTimeout(JUDGE_S, self._clock, lambda *_: _UNDECIDED)
        verdict: Verdict = await judging
        return verdict

    def _revocation(self, asked: ManageRequest, verdict: Verdict) -> str:
        """Why a token that was good is good no more; ``""`` if it still is."""
        if self._revocations is None:
            return ""
        name = asked.stream or StreamName("", "")
        return self._revocations.refusal(name, fingerprint_of(asked.token), verdict.issued_ms)

    def _wrong_token(self, request: Request, reason: str) -> UnauthorizedError:
        """The error of a secret or token that says nothing, once it is counted and recorded."""
        self._wrong.refused(origin_of(request.client), now_ms(self._clock))
        self._record_refusal(request, reason)
        return UnauthorizedError(reason, {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'})

    def _record_refusal(self, request: Request, reason: str) -> None:
        self._record(EventType.AUTH_REFUSED, None, request.client, {"action": "manage", "reason": reason})

    def _is_own_user(self, request: Request, transport: Any) -> bool:
        """Whether a program of the server's user sends it for itself; what costs least is looked at first."""
        if any(name in _PROXY_FIELDS or name.startswith(_PROXY_PREFIXES) for name in request.headers):
            return False
        name = host_name(request.header("host")).lower().rstrip(".")
        address = read_address(name)
        if not name or (address is None and not _is_own_name(name)):
            return False
        peer = self._find_peer(transport)
        if peer is None or peer.uid != os.geteuid():
            return False
        return address is None or address.is_loopback or address == peer.address


def _is_own_name(name: str) -> bool:
    """Whether a lower-case name means this machine, without asking any other."""
    own = socket.gethostname().lower().rstrip(".")
    own_names = {"localhost", own, own.partition(".")[0], f"{own.partition('.')[0]}.local"} - {"", ".local"}
    return name in own_names or name.endswith(".localhost")


def _is_of_this_origin(request: Request) -> bool:
    """Whether no page sends it, or one of this very server."""
    host = request.header("host").lower()
    if request.header("sec-fetch-site").lower() not in ("", "same-origin", "none"):
        return False
    return all(_location(request.header(name)) == host for name in ("origin", "referer") if name in request.headers)


def _location(url: str) -> str | None:
    """Host and port in a URL as ``Host`` has them; ``None`` if there is none."""
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:
        return None
