"""The role of a connection that does not publish: it connects, asks to publish, and is admitted or refused."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from rapidrtmp.auth.revocation import fingerprint_of
from rapidrtmp.codec.flv_capabilities import FIRST_TRACKS, read_flv_capabilities
from rapidrtmp.codec.table import fourccs_carried
from rapidrtmp.errors import DirectoryError, LeaseHeldError
from rapidrtmp.interfaces import EventType, IAuthenticator, PublishRequest, Verdict
from rapidrtmp.live.registry import LimitReachedError, NameTakenError
from rapidrtmp.media import MediaKind
from rapidrtmp.names import BadNameError, StreamName
from rapidrtmp.net.player import PlayAsking
from rapidrtmp.net.publisher import Publisher
from rapidrtmp.net.role import SHARED_REACTIONS, Role
from rapidrtmp.net.services import RtmpServices
from rapidrtmp.net.shown import showable, showable_part
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.events import ConnectRequested, Event, PlayEnded, PlayRequested, PublishEnded, PublishRequested
from rapidrtmp.rtmp.replies import CONNECT_REJECTED, enhanced_properties
from rapidrtmp.rtmp.via import find_loop, read_via
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.text import class_name, reason_of

if TYPE_CHECKING:
    from rapidrtmp.net.connection import RtmpConnection

__all__ = ["Waiting"]

BAD_NAME, DENIED = "NetStream.Publish.BadName", "NetStream.Publish.Denied"
INVALID_APP = "NetConnection.Connect.InvalidApp"
#: The names under which encoders send the secret.
TOKEN_NAMES = ("token", "key", "auth", "pass")
#: What clients say of themselves that authenticators may want to know.
SAID = ("flashVer", "tcUrl", "pageUrl", "swfUrl")
#: Those of attempts to publish.
_numbers = count(secrets.randbits(32))


class Waiting(Role):
    """
    Asks the authenticator about each publish request, and makes the connection a publisher when it consents.

    A verdict is pending from the request until the authenticator has consented and the stream's leases are held, or one
    of them has refused, or the request was taken back.
    """

    is_pending = True

    def __init__(self, connection: RtmpConnection, services: RtmpServices) -> None:
        super().__init__(connection, services)
        self._client = ""
        self._msid = 0
        self._fingerprint = ""
        self._is_key_secret = False
        self._said: Mapping[str, str] = {}
        self._via: tuple[str, ...] = ()
        self._verdict: Deferred[Verdict] | None = None
        self._asking: PlayAsking | None = None
        self._capabilities = FIRST_TRACKS

    def react(self, event: Event, time_ms: int) -> None:  # noqa: ARG002
        """Do what one event asks for; media of no publish is dropped."""
        reaction = _REACTIONS.get(type(event))
        if reaction is not None:
            reaction(self, event)

    def leave(self) -> None:
        """Take back what was asked of the authenticator."""
        verdict, self._verdict = self._verdict, None
        if verdict is not None:
            verdict.cancel()
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    def watch(self, time_ms: int) -> None:
        """A player that waits for a stream is not overdue."""
        if self._asking is not None and self._asking.is_waiting:
            self._connection.restart_stage(time_ms)

    def _connect_requested(self, event: ConnectRequested) -> None:
        self._via = read_via(event.properties)
        loop = find_loop(self._via, self._services.server_id)
        if loop:
            self._refuse_loop(loop)
            return
        self._client = event.client
        players = self._services.players
        if players is not None:
            self._capabilities = read_flv_capabilities(event.properties, players.policy.silent)
        self._said = {
            name: value for name in SAID if isinstance(value := event.properties.get(name), str) and len(value) < 2048
        }
        if not event.app or event.app_may_be_key or self._services.app_names.find(event.app) is not None:
            self._connection.session.accept_connect(_enhanced())
        else:
            self._refuse_connect(showable_part(event.app.partition("/")[0]))

    def _refuse_loop(self, reason: str) -> None:
        """Refuse another server, or ourselves, that would bring a stream back to where it was."""
        connection = self._connection
        self._services.metrics.publishes_total.labels("refused").inc()
        if self._is_first("relay loop"):
            self._log.warn("connection of {peer} refused: {reason}", peer=connection.peer, reason=reason)
        connection.session.reject_connect(CONNECT_REJECTED, reason)
        connection.close()

    def _refuse_connect(self, app: str) -> None:
        """Refuse an application that does not exist."""
        connection = self._connection
        self._services.metrics.publishes_total.labels("refused").inc()
        if self._is_first("unknown application"):
            self._log.info(
                "connection of {peer} to {app} refused: there is no such application", peer=connection.peer, app=app
            )
        connection.session.reject_connect(INVALID_APP, f"there is no application {app!r} here")
        connection.close()

    def _play_requested(self, event: PlayRequested) -> None:
        self._asking = PlayAsking(self._connection, self._services, event, self._client, self._capabilities, self._via)
        self._asking.ask()

    def _play_ended(self, _event: PlayEnded) -> None:
        self.leave()

    def _publish_ended(self, _event: PublishEnded) -> None:
        self.leave()

    # ── admission ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _publish_requested(self, event: PublishRequested) -> None:
        self._msid = event.msid
        app_name = self._services.app_names.find(event.app) or event.app
        app = self._services.apps.get(app_name)
        self._is_key_secret = app is not None and app.has_secret_keys
        try:
            asked = StreamName.checked(app_name, event.key)
            StreamName(app_name, (app and app.public_name(asked.key)) or asked.key).check_publishable()
        except BadNameError as error:
            self._refuse(
                f"{app_name}/…" if self._is_key_secret else showable(event.app, event.key), BAD_NAME, str(error)
            )
            return
        if app is None:
            self._refuse(str(asked), BAD_NAME, f"there is no application {app_name!r} here")
            return
        public = app.public_name(asked.key)
        name = StreamName(app_name, public or asked.key)
        wait_ms = self._services.auth_backoff.wait_ms(self._connection.client_prefix, name, self._now_ms())
        if wait_ms:
            self._put_off(name, wait_ms)
        elif public is None:
            self._services.auth_backoff.refused(self._connection.client_prefix, self._now_ms())
            self._refuse_access(name, "there is no such stream key")
        else:
            self._is_key_secret = self._is_key_secret and name == asked
            self._ask(app.authenticator, self._request(event, name, asked.key))

    def _request(self, event: PublishRequested, name: StreamName, key: str) -> PublishRequest:
        token = next((event.parameters[each] for each in TOKEN_NAMES if event.parameters.get(each)), "")
        user = event.parameters.get("user") or event.parameters.get("username", "")
        shown = f"{user}:{token}" if user and token else token
        if not shown and (self._is_key_secret or key != name.key):  # then the key is what can be revoked
            shown = f"{name.app}/{key}"
        self._fingerprint = fingerprint_of(shown)
        return PublishRequest(
            name,
            token,
            event.parameters,
            self._connection.peer,
            client_id=f"{next(_numbers)}",
            key="" if key == name.key else key,
            said=self._said,
        )

    def _ask(self, authenticator: IAuthenticator, request: PublishRequest) -> None:
        verdict = self._verdict = _answer_of(authenticator, request)
        verdict.addTimeout(self._services.auth_timeout_ms / 1000, self._services.clock, _unanswered)
        verdict.addCallback(_checked)
        name = request.stream
        verdict.addCallbacks(self._decided, self._undecided, callbackArgs=(name,), errbackArgs=(name, authenticator))
        if self._verdict is not None:  # not yet decided: then what came meanwhile is not being read any more
            verdict.addCallback(lambda _: self._connection.read_held())
        verdict.addErrback(self._connection.fail)

    def _put_off(self, name: StreamName, wait_ms: int) -> None:
        """Refuse without asking: too many publishes from there were refused lately."""
        wait_s = -(-wait_ms // 1000)
        reason = f"too many publishes from this address were refused; try again in {wait_s} s"
        self._refuse(self._shown(name), DENIED, reason, result="throttled", kind="too many refused publishes")

    def _undecided(self, failure: Failure, name: StreamName, authenticator: IAuthenticator) -> None:
        if self._verdict is None:  # the publisher left while we asked
            return
        self._verdict = None
        self._log.error(
            "{stream}: the authenticator {authenticator} failed: {error}",
            stream=self._shown(name),
            authenticator=class_name(authenticator),
            error=reason_of(failure.value),
        )
        self._refuse(self._shown(name), DENIED, "it could not be checked who may publish this stream; try again later")

    def _decided(self, verdict: Verdict, name: StreamName) -> Deferred[None] | None:
        if self._verdict is None:
            return None
        verdict = self._unless_revoked(verdict, name)
        backoff, client_prefix = self._services.auth_backoff, self._connection.client_prefix
        if not verdict.allowed:
            self._verdict = None
            if not verdict.is_undecided:
                backoff.refused(client_prefix, self._now_ms())
            self._refuse_access(name, verdict.reason)
            return None
        backoff.admitted(client_prefix, name)
        self._is_key_secret = False
        if verdict.public_name:
            name = StreamName(name.app, verdict.public_name)
        own = self._services.own
        leased = (
            self._services.leases.claim(name) if own is None else own(name, verdict.credential, self._connection.peer)
        )
        return leased.addCallbacks(self._leased, self._not_leased, callbackArgs=(name, verdict), errbackArgs=(name,))

    def _refuse_access(self, name: StreamName, reason: str) -> None:
        said = {"action": "publish", "reason": reason}
        shown = None if self._is_key_secret else name
        self._services.record(EventType.AUTH_REFUSED, shown, self._connection.peer, said)
        self._refuse(self._shown(name), DENIED, reason)

    def _shown(self, name: StreamName) -> str:
        """A name as it may be shown: a key that is a secret may not."""
        return f"{name.app}/…" if self._is_key_secret else str(name)

    def _unless_revoked(self, verdict: Verdict, name: StreamName) -> Verdict:
        """A verdict, or a refusal where what it was given for is good no more."""
        if not verdict.allowed:
            return verdict
        revocations = self._services.revocations
        reason = revocations.refusal(name, self._fingerprint, verdict.issued_ms)
        if not reason and verdict.reconnect_s is not None:
            reason = revocations.session_refusal(self._fingerprint, str(name))
        return Verdict(allowed=False, reason=reason) if reason else verdict

    def _leased(self, _: None, name: StreamName, verdict: Verdict) -> None:
        """Publish, unless another connection to this server does."""
        self._verdict = None
        try:
            publisher = Publisher(
                self._connection, self._services, name, verdict, self._msid, self._fingerprint, self._via
            )
        except NameTakenError as error:
            self._refuse(str(name), BAD_NAME, str(error))
        except LimitReachedError as error:
            self._refuse(str(name), DENIED, str(error))
        else:
            self._begin(name, publisher)
        finally:
            self._services.leases.release(name)  # the stream, if there is one, holds them as well

    def _not_leased(self, failure: Failure, name: StreamName) -> None:
        if self._verdict is None:  # the publisher left meanwhile
            return
        self._verdict = None
        if failure.check(NameTakenError):
            self._refuse(str(name), BAD_NAME, str(failure.value))
            return
        if failure.check(LimitReachedError):
            self._refuse(str(name), DENIED, str(failure.value))
            return
        if failure.check(DirectoryError):
            self._log.error("{stream}: {error}", stream=name, error=failure.value)
            self._refuse(str(name), DENIED, "it could not be checked which server has this stream; try again later")
            return
        failure.trap(LeaseHeldError)
        self._log.debug("{stream}: {error}", stream=name, error=failure.value)
        self._refuse(str(name), BAD_NAME, "another server publishes this stream")

    def _begin(self, name: StreamName, publisher: Publisher) -> None:
        connection = self._connection
        self._services.metrics.publishes_total.labels("accepted").inc()
        connection.change_role(publisher)
        connection.session.accept_publish(self._msid)
        self._services.record(
            EventType.PUBLISH, name, connection.peer, {"session": publisher.session_id, "client": self._client}
        )
        self._log.info(
            "{stream} published by {peer} ({client})", stream=name, peer=connection.peer, client=self._client
        )

    def _refuse(self, stream: str, code: str, reason: str, *, result: str = "refused", kind: str = "") -> None:
        """Tell the encoder, count it, and log it once per burst: encoders try again and again."""
        services, connection = self._services, self._connection
        services.metrics.publishes_total.labels(result).inc()
        source = f"{connection.client_prefix}: {kind or stream + reason}"
        if services.log_throttle.is_news("refusal", source, self._now_ms()):
            self._log.info(
                "publish of {stream} by {peer} refused: {reason}", stream=stream, peer=connection.peer, reason=reason
            )
        connection.session.reject_publish(self._msid, code, reason)
        connection.close()

    def _now_ms(self) -> int:
        return now_ms(self._services.clock)


def _answer_of(authenticator: IAuthenticator, request: PublishRequest) -> Deferred[Verdict]:
    """The authenticator's answer as a Deferred, whichever way it was given."""
    try:
        answer = authenticator.authorize_publish(request)
    except Exception:
        return fail(Failure())
    return answer if isinstance(answer, Deferred) else succeed(answer)


def _unanswered(cancelled: object, timeout_s: float) -> NoReturn:
    """
    Tell that the time of an authenticator is over.

    :param cancelled: why it was given up; one that asks others in turn says which of them did not answer.
    """
    asked = str(cancelled.value) if isinstance(cancelled, Failure) else ""
    raise TimeoutError(f"no answer within {timeout_s:g} s{' from ' if asked else ''}{asked}")


def _checked(answer: object) -> Verdict:
    """The authenticator's answer, if it is a verdict."""
    if not isinstance(answer, Verdict):
        raise TypeError(f"{type(answer).__name__} is no Verdict")
    return answer


_REACTIONS: Mapping[type, Callable[[Any, Any], None]] = {
    **SHARED_REACTIONS,
    ConnectRequested: Waiting._connect_requested,
    PlayEnded: Waiting._play_ended,
    PlayRequested: Waiting._play_requested,
    PublishRequested: Waiting._publish_requested,
    PublishEnded: Waiting._publish_ended,
}


def _enhanced() -> dict[str, Value]:
    """What clients of Enhanced RTMP are offered."""
    return enhanced_properties(fourccs_carried(MediaKind.VIDEO), fourccs_carried(MediaKind.AUDIO))
