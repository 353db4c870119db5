"""
The ``webhook`` authenticator: another server decides, asked over HTTP.

It is asked in JSON, or in the words of nginx-rtmp's ``on_publish`` and ``on_play`` or of SRS's HTTP callbacks, so that
what answers those need not be changed. One that does not answer holds up the client that waits for it and no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.http.outgoing import HttpAnswer, OutgoingError, OutgoingHttp
from rapidrtmp.http.signatures import read_signing_secret, sign
from rapidrtmp.interfaces import (
    Action,
    AuthenticatorContext,
    IAuthenticator,
    IAuthenticatorFactory,
    IPlayAuthenticator,
    PlayRequest,
    PublishRequest,
    Verdict,
)
from rapidrtmp.names import BadNameError, StreamName
from rapidrtmp.support.units import parse_duration_ms, parse_duration_s

__all__ = ["WebhookAuthenticator", "WebhookAuthenticatorFactory"]

#: How long consent to play is kept where the answer does not say.
KEEP_MS = 60_000
#: No consent lasts longer, and no limit is higher, than a number that any clock can bear.
MOST = 10**9
_LONGEST_REASON = 200
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"

Facts = Mapping[str, str]
Body = tuple[str, bytes]


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────────


def _facts_of(request: PublishRequest | PlayRequest) -> Facts:
    """What is to be said of a request, by the names of the JSON that is sent."""
    key = request.key if isinstance(request, PublishRequest) and request.key else request.stream.key
    shared = {"app": request.stream.app, "name": key, "address": request.peer, "token": request.token}
    if isinstance(request, PublishRequest):
        said = request.said
        return {
            "action": Action.PUBLISH.value,
            **shared,
            "protocol": "rtmp",
            "query": urlencode(request.parameters),
            "clientId": request.client_id,
            "agent": said.get("flashVer", ""),
            **{name: said.get(name, "") for name in ("tcUrl", "pageUrl", "swfUrl")},
        }
    client = hashlib.sha256("\0".join((request.peer, request.agent, request.token)).encode("utf-8", "replace"))
    query = request.query or (urlencode({"token": request.token}) if request.token else "")
    return {
        "action": Action.PLAY.value,
        **shared,
        "protocol": "hls",
        "query": query,
        "clientId": client.hexdigest()[:16],
        "agent": request.agent,
    }


def _json_body(facts: Facts) -> Body:
    return _JSON, json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace")


def _nginx_rtmp_body(facts: Facts) -> Body:
    """The form of nginx-rtmp, with the fields of the query behind its own, which they do not replace."""
    fields = {
        "app": facts["app"],
        "flashver": facts["agent"],
        "swfurl": facts.get("swfUrl", ""),
        "tcurl": facts.get("tcUrl", ""),
        "pageurl": facts.get("pageUrl", ""),
        "addr": facts["address"],
        "clientid": facts["clientId"],
        "call": facts["action"],
        "name": facts["name"],
    }
    fields |= {"type": "live"} if facts["action"] == "publish" else {"start": "0", "duration": "0", "reset": "0"}
    arguments = [each for each in parse_qsl(facts["query"], keep_blank_values=True) if each[0] not in fields]
    return _FORM, urlencode([*fields.items(), *arguments]).encode()


def _srs_body(facts: Facts) -> Body:
    """The JSON of SRS's ``on_publish`` and ``on_play``."""
    app, name, query = facts["app"], facts["name"], facts["query"]
    fields = {
        "server_id": "rapidrtmp",
        "service_id": "rapidrtmp",
        "action": f"on_{facts['action']}",
        "client_id": facts["clientId"],
        "ip": facts["address"],
        "vhost": "__defaultVhost__",
        "app": app,
        "tcUrl": facts.get("tcUrl", ""),
        "stream": name,
        "param": f"?{query}" if query else "",
        "stream_url": f"/{app}/{name}",
        "stream_id": f"{app}/{name}",
    }
    if facts["action"] == "play":
        fields["pageUrl"] = facts.get("pageUrl", "")
    return _JSON, json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


_BODIES: Mapping[str, Callable[[Facts], Body]] = {
    "json": _json_body,
    "nginx-rtmp": _nginx_rtmp_body,
    "srs": _srs_body,
}


# ── what is answered ─────────────────────────────────────────────────────────────────────────────────────────────────


class _FailedError(Exception):
    """The answer is none."""


def _read_answer(answer: HttpAnswer, format: str) -> Mapping[str, Any]:
    """
    The fields of an answer; ``allow`` is always there.

    :raises _FailedError: it is neither consent nor refusal.
    """
    fields = _fields(answer.body)
    if answer.status in (401, 403):
        return {**fields, "allow": False}
    if format == "nginx-rtmp" and answer.status in (301, 302, 303, 307, 308) and answer.headers.get("location"):
        return {"allow": True, "name": answer.headers["location"]}
    if not 200 <= answer.status < 300:
        raise _FailedError(f"answered {answer.status}")
    if format == "srs":
        return {**fields, "allow": fields.get("code", 0) == 0}
    allow = fields.get("allow", True)
    if not isinstance(allow, bool):
        raise _FailedError("answered an allow that is neither true nor false")
    return {**fields, "allow": allow}


def _fields(body: bytes) -> Mapping[str, Any]:
    """Those of the JSON object that is the body, or of the number that SRS takes for one; none if it is neither."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"code": value}
    return value if isinstance(value, dict) else {}


def _number(fields: Mapping[str, Any], name: str) -> int | None:
    """A number, or for ``expiresIn`` a duration. :raises _FailedError: it is something else."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, str) and name == "expiresIn":
        try:
            value = parse_duration_s(value)
        except ConfigurationError:
            value = -1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise _FailedError(f"answered a bad {name}")
    return int(value)


def _new_name(fields: Mapping[str, Any], stream: StreamName) -> str:
    name = fields.get("name")
    if name is None:
        return ""
    if not isinstance(name, str):
        raise _FailedError("answered a name that is no text")
    try:
        return StreamName.checked(stream.app, name).key
    except BadNameError as error:
        raise _FailedError(f"answered a bad name: {error}") from error


# ── the authenticator ────────────────────────────────────────────────────────────────────────────────────────────────


@implementer(IAuthenticator, IPlayAuthenticator)
class WebhookAuthenticator:
    """
    Asks one server.

    :param secret: signs what is sent; ``None`` to not sign it.
    :param allows_on_failure: whether a client may when the server does not answer as it should.
    :param http: asks it.
    :param utc_ms: the time of day in milliseconds since 1970.
    :ivar takes_secret_keys: a name that it gives a stream may be the public one, and the key a secret.
    """

    takes_secret_keys = True

    def __init__(
        self,
        url: str,
        format: str,
        secret: bytes | None,
        timeout_s: float,
        *,
        allows_on_failure: bool,
        http: OutgoingHttp,
        utc_ms: Callable[[], int],
        log: Logger,
    ) -> None:
        self._url = url
        self._format = format
        self._secret = secret
        self._timeout_s = timeout_s
        self._allows_on_failure = allows_on_failure
        self._http = http
        self._utc_ms = utc_ms
        self._log = log
        self._is_failing = False

    def authorize_publish(self, request: PublishRequest) -> Deferred[Verdict]:
        """As the server says."""
        return Deferred.fromCoroutine(self._judge(request))

    def authorize_play(self, request: PlayRequest) -> Deferred[Verdict]:
        """As the server says; kept for as long as it says, or a minute."""
        return Deferred.fromCoroutine(self._judge(request))

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        return self._http.close()

    async def _judge(self, request: PublishRequest | PlayRequest) -> Verdict:
        try:
            answer = _read_answer(await self._ask(_facts_of(request)), self._format)
            verdict = self._verdict(answer, request)
        except (OutgoingError, _FailedError) as error:
            self._failed(str(error))
            return self._undecided(request)
        if self._is_failing:
            self._is_failing = False
            self._log.info("the webhook that decides who may publish or play answers again")
        return verdict

    def _ask(self, facts: Facts) -> Deferred[HttpAnswer]:
        content_type, body = _BODIES[self._format](facts)
        headers = {"Content-Type": content_type}
        if self._secret is not None:
            headers |= sign(self._secret, self._utc_ms() // 1000, body)
        return self._http.request("POST", self._url, self._timeout_s, headers, body)

    def _failed(self, reason: str) -> None:
        """Log that it fails once, until it answers again."""
        if not self._is_failing:
            self._is_failing = True
            self._log.error(
                "the webhook that decides who may publish or play fails: {reason}; until it answers, clients are "
                "{outcome}",
                reason=reason,
                outcome="admitted" if self._allows_on_failure else "refused",
            )

    def _undecided(self, request: PublishRequest | PlayRequest) -> Verdict:
        if self._allows_on_failure:
            return Verdict(allowed=True, credential=_credential(request), keep_ms=5_000)
        return Verdict(allowed=False, reason="it cannot be checked now; try again later", is_undecided=True)

    def _verdict(self, answer: Mapping[str, Any], request: PublishRequest | PlayRequest) -> Verdict:
        if not answer["allow"]:
            said = answer.get("reason")
            reason = said if isinstance(said, str) and said else f"this may not be {_DONE[type(request)]}"
            return Verdict(allowed=False, reason=" ".join(reason.split())[:_LONGEST_REASON])
        expires_s = _number(answer, "expiresIn")
        return Verdict(
            allowed=True,
            credential=_credential(request),
            expires_ms=None if expires_s is None else self._utc_ms() + expires_s * 1000,
            keep_ms=KEEP_MS if expires_s is None else None,
            public_name=_new_name(answer, request.stream) if isinstance(request, PublishRequest) else "",
            max_bitrate=_number(answer, "maxBitrate") or 0,
            max_players=_number(answer, "maxPlayers") or 0,
        )


_DONE = {PublishRequest: "published", PlayRequest: "watched"}


def _credential(request: PublishRequest | PlayRequest) -> str:
    """The same for one who comes back: by its token, or if it has none by its address."""
    said = request.token or request.peer
    return hashlib.sha256(f"{request.stream}\0{said}".encode("utf-8", "surrogateescape")).hexdigest()


@implementer(IAuthenticatorFactory)
class WebhookAuthenticatorFactory:
    r"""
    ``webhook:url=URL``; see ``docs/authentication.md``.

    :param url: what is asked, with its colons written ``\:``.
    :param secret: a file with the secret that signs what is sent.
    :param format: ``json``, ``nginx-rtmp`` or ``srs``.
    :param timeout: how long an answer may take.
    :param on_failure: ``deny`` or ``allow``: what becomes of clients when there is none.
    """

    def __init__(
        self, *, url: str, secret: str = "", format: str = "json", timeout: str = "3s", on_failure: str = "deny"
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(r"url is not a URL such as http\://localhost\:9000/auth")
        if format not in _BODIES:
            raise ConfigurationError(f"format is not {', '.join(list(_BODIES)[:-1])} or {list(_BODIES)[-1]}")
        if on_failure not in ("deny", "allow"):
            raise ConfigurationError("on_failure is deny or allow")
        self._url = url
        self._secret = read_signing_secret(secret) if secret else None
        self._format = format
        self._timeout_s = parse_duration_ms(timeout) / 1000
        if self._timeout_s <= 0:
            raise ConfigurationError("timeout is 0")
        self._allows_on_failure = on_failure == "allow"

    def create(self, context: AuthenticatorContext) -> WebhookAuthenticator:
        """Make the authenticator."""
        return WebhookAuthenticator(
            self._url,
            self._format,
            self._secret,
            self._timeout_s,
            allows_on_failure=self._allows_on_failure,
            http=OutgoingHttp(context.clock),
            utc_ms=context.utc_ms,
            log=context.log,
        )
