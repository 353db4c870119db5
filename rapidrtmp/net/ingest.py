"""
What becomes of a session's events: admission, then a publication.

One :class:`Ingest` per connection. It asks the authenticator, claims the name, and is the stream's publisher as far as
the registry is concerned; what the publisher then sends is a :class:`~rapidrtmp.net.publication.Publication`'s work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp.episodes import Episodes
from rapidrtmp.interfaces import IAuthenticator, PublishRequest, Verdict
from rapidrtmp.live.clocks import now_ms
from rapidrtmp.live.registry import LimitReachedError, NameTakenError, Registry
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import BadNameError, StreamName
from rapidrtmp.net.publication import Publication
from rapidrtmp.net.refusals import Refusals
from rapidrtmp.origin import origin_of
from rapidrtmp.rtmp.events import (
    AudioReceived,
    CommandIgnored,
    Connected,
    Event,
    MessageIgnored,
    MetadataReceived,
    PlayRefused,
    PublishEnded,
    PublishRequested,
    VideoReceived,
)
from rapidrtmp.rtmp.session import ServerSession
from rapidrtmp.rtmp.state import State
from rapidrtmp.timeline.policy import TimelinePolicy

__all__ = ["Ingest", "IngestServices"]

BAD_NAME, DENIED = "NetStream.Publish.BadName", "NetStream.Publish.Denied"
#: The names under which encoders send the secret.
TOKEN_NAMES = ("token", "key", "auth", "pass")


class _Connection(Protocol):
    heard_ms: int

    def flush(self) -> None: ...

    def resume(self) -> None: ...

    def hold(self) -> None: ...

    def release(self) -> None: ...

    def wake_at(self, octets: int) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class IngestServices:
    """
    What every connection shares.

    :ivar authenticators: by application; one that is not here does not exist.
    :ivar utc_ms: the time of day in milliseconds since 1970.
    :ivar auth_timeout_ms: how long an authenticator may take.
    :ivar refusals: who was refused too often.
    :ivar episodes: what is worth a line in the log.
    """

    registry: Registry
    authenticators: Mapping[str, IAuthenticator]
    metrics: Metrics
    clock: IReactorTime
    utc_ms: Callable[[], int]
    timeline: TimelinePolicy
    auth_timeout_ms: int = 10_000
    refusals: Refusals = field(default_factory=Refusals)
    episodes: Episodes = field(default_factory=Episodes)


class Ingest:
    """
    One publisher's way into a live stream.

    :ivar peer: its network address, without the port.
    :ivar credential: what it was admitted by; see :class:`~rapidrtmp.interfaces.Verdict`.
    """

    _log = Logger()

    def __init__(self, session: ServerSession, connection: _Connection, services: IngestServices, peer: str) -> None:
        self.peer = peer
        self.credential = ""
        self._origin = origin_of(peer)
        self.client = ""
        self._session = session
        self._connection = connection
        self._services = services
        self._pending: Deferred[Verdict] | None = None
        self._is_asking = False  # within the call of the authenticator: what is read goes on by itself
        self._publication: Publication | None = None
        self._msid = 0
        self._expires_ms: int | None = None

    @property
    def is_publishing(self) -> bool:
        """Whether a publish was accepted and has not ended."""
        return self._publication is not None

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def react(self, event: Event, time_ms: int) -> None:
        """Do what one event asks for."""
        kind = type(event)
        if kind is VideoReceived or kind is AudioReceived:
            publication = self._publication
            if publication is not None:
                receive = publication.video_received if kind is VideoReceived else publication.audio_received
                receive(event.timestamp, event.payload, time_ms)  # type: ignore[union-attr]
            return
        reaction = _REACTIONS.get(kind)
        if reaction is not None:
            reaction(self, event)

    def _connected(self, event: Connected) -> None:
        self.client = event.client

    def _metadata(self, event: MetadataReceived) -> None:
        if self._publication is not None:
            self._publication.metadata_received(event.values)

    def _command_ignored(self, event: CommandIgnored) -> None:
        self._services.metrics.rtmp_ignored_total.labels("command").inc()
        if self._is_news("skipped command"):
            self._log.debug("{peer}: command {name} skipped", peer=self.peer, name=event.name)

    def _message_ignored(self, event: MessageIgnored) -> None:
        self._services.metrics.rtmp_ignored_total.labels("message").inc()
        if self._is_news("skipped message"):
            self._log.debug(
                "{peer}: message type {type} skipped: {reason}", peer=self.peer, type=event.type_id, reason=event.reason
            )

    def _play_refused(self, _event: PlayRefused) -> None:
        self._services.metrics.rtmp_ignored_total.labels("play").inc()
        if self._is_news("play"):
            self._log.info("{peer} wanted to play over RTMP, which is not served here", peer=self.peer)

    def _is_news(self, kind: str) -> bool:
        """Whether to log what a peer can make happen as often as it likes."""
        return self._services.episodes.is_news(kind, self._origin, now_ms(self._services.clock))

    # ── admission ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _publish_requested(self, event: PublishRequested) -> None:
        self._msid = event.msid
        try:
            name = StreamName.checked(event.app, event.key)
        except BadNameError as error:
            self._refuse(BAD_NAME, str(error))
            return
        authenticator = self._services.authenticators.get(name.app)
        if authenticator is None:
            self._refuse(BAD_NAME, f"there is no application {name.app!r} here")
            return
        wait_ms = self._services.refusals.wait_ms(self._origin, name, now_ms(self._services.clock))
        if wait_ms:
            self._put_off(wait_ms)
            return
        token = next((event.parameters[key] for key in TOKEN_NAMES if event.parameters.get(key)), "")
        request = PublishRequest(name, token, event.parameters, self.peer)
        self._is_asking = True
        verdict = self._pending = _ask(authenticator, request)
        verdict.addTimeout(self._services.auth_timeout_ms / 1000, self._services.clock)
        verdict.addCallback(_checked)
        verdict.addCallbacks(self._decided, self._undecided, callbackArgs=(name,), errbackArgs=(name,))
        verdict.addErrback(self._failed)
        self._is_asking = False

    def _put_off(self, wait_ms: int) -> None:
        """Refuse without asking: too many publishes from there were refused lately."""
        wait_s = -(-wait_ms // 1000)
        reason = f"too many publishes from this address were refused; try again in {wait_s} s"
        self._refuse(DENIED, reason, as_what="throttled", news="too many refused publishes")

    def _undecided(self, failure: Failure, name: StreamName) -> None:
        if self._pending is None:  # the publisher left while we asked; how that ended is nobody's concern
            return
        self._pending = None
        self._log.error("{stream}: the authenticator failed: {error}", stream=name, error=failure.getErrorMessage())
        self._refuse(DENIED, "it could not be checked who may publish this stream; try again later")

    def _failed(self, failure: Failure) -> None:
        self._log.failure("a bug of ours ends the connection of {peer}", failure, peer=self.peer)
        self._connection.close()

    def _decided(self, verdict: Verdict, name: StreamName) -> None:
        if self._pending is None:
            return
        self._pending = None
        if not verdict.allowed:
            self._services.refusals.refused(self._origin, now_ms(self._services.clock))
            self._refuse(DENIED, verdict.reason, of=f" of {name}")
            return
        self._services.refusals.admitted(self._origin, name)
        self.credential = verdict.credential
        try:
            stream = self._services.registry.claim(name, self)
        except NameTakenError as error:
            self._refuse(BAD_NAME, str(error))
        except LimitReachedError as error:
            self._refuse(DENIED, str(error))
        else:
            self._begin(stream, verdict.expires_ms)

    def _refuse(self, code: str, reason: str, *, of: str = "", as_what: str = "refused", news: str = "") -> None:
        """Tell the encoder, count it, and log it if it is news: encoders try again and again."""
        services = self._services
        services.metrics.publishes_total.labels(as_what).inc()
        if services.episodes.is_news("refusal", f"{self._origin}: {news or of + reason}", now_ms(services.clock)):
            self._log.info("publish{of} by {peer} refused: {reason}", of=of, peer=self.peer, reason=reason)
        self._session.reject_publish(self._msid, code, reason)
        self._connection.close()

    def _begin(self, stream: LiveStream, expires_ms: int | None) -> None:
        services = self._services
        services.metrics.publishes_total.labels("accepted").inc()
        self._expires_ms = expires_ms
        try:
            self._publication = Publication(stream, self, services.metrics, services.timeline, now_ms(services.clock))
        except BaseException:  # a bug of ours: the name is free again
            services.registry.release(stream, self)
            raise
        self._session.accept_publish(self._msid)
        self._log.info(
            "{stream} published by {peer} ({client})", stream=stream.name, peer=self.peer, client=self.client
        )
        if not self._is_asking:
            self._connection.resume()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _publish_ended(self, _event: PublishEnded) -> None:
        self._leave()

    def connection_lost(self) -> None:
        """The connection is gone; what was held goes to the stream, and the name is released."""
        self._leave()

    def _leave(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        publication, self._publication = self._publication, None
        if publication is None:
            return
        try:
            publication.finish()
        finally:  # whatever happens, the name is free again
            self._services.registry.release(publication.stream, self)

    def watch(self, time_ms: int) -> None:
        """Called every quarter of a second: deadlines of the demuxer, expiry of the token."""
        if self._publication is None:
            return
        self._publication.watch(time_ms)
        if self._expires_ms is not None and self._services.utc_ms() >= self._expires_ms:
            self._log.info("{peer}: its permission to publish has expired", peer=self.peer)
            self.disconnect("the permission to publish has expired")

    # ── Publisher ────────────────────────────────────────────────────────────────────────────────────────────────────

    def silent_ms(self) -> int:
        """How long nothing has been received from it; one that is held back is not silent."""
        if self._publication is not None and self._publication.is_held:
            return 0
        return now_ms(self._services.clock) - self._connection.heard_ms

    # ── Encoder ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def advise(self, advice: str) -> None:
        """Tell the encoder how its publish goes."""
        self._session.advise(advice)
        self._connection.flush()

    def hold(self) -> None:
        """Stop reading from the encoder."""
        self._connection.hold()

    def go_on(self) -> None:
        """Read from it again."""
        self._connection.release()

    def wake_at(self, octets: int) -> None:
        """Read from it no sooner than so many octets are there."""
        self._connection.wake_at(octets)

    def disconnect(self, reason: str) -> None:
        """Tell the encoder why, and close; the stream keeps what it has."""
        if self._session.state is State.PUBLISHING:
            self._session.end_publish(self._msid, DENIED, reason)
        self._leave()
        self._connection.close()


def _ask(authenticator: IAuthenticator, request: PublishRequest) -> Deferred[Verdict]:
    """The answer as a Deferred, whichever way it was given."""
    try:
        answer = authenticator.authorize_publish(request)
    except Exception:
        return fail(Failure())
    return answer if isinstance(answer, Deferred) else succeed(answer)


def _checked(answer: object) -> Verdict:
    """What an authenticator answered, if it is an answer."""
    if not isinstance(answer, Verdict):
        raise TypeError(f"{type(answer).__name__} is no Verdict")
    return answer


_REACTIONS: Mapping[type, Callable[[Ingest, Any], None]] = {
    Connected: Ingest._connected,
    PublishRequested: Ingest._publish_requested,
    MetadataReceived: Ingest._metadata,
    PublishEnded: Ingest._publish_ended,
    CommandIgnored: Ingest._command_ignored,
    MessageIgnored: Ingest._message_ignored,
    PlayRefused: Ingest._play_refused,
}
