"""
Publishes that no client's connection carries: pulled streams, and what plugins bring.

The same :class:`~rapidrtmp.net.publisher.Publisher` makes frames of them; an :class:`Ingest` stands in for the
connection and the session that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rapidrtmp.errors import DirectoryError, LeaseHeldError
from rapidrtmp.interfaces import EventType, IPublishing, Publication, Verdict
from rapidrtmp.live.registry import LimitReachedError, NameTakenError
from rapidrtmp.net.publisher import Publisher
from rapidrtmp.net.services import RtmpServices
from rapidrtmp.rtmp.events import AudioReceived, Event, MetadataReceived, VideoReceived
from rapidrtmp.rtmp.session import State
from rapidrtmp.support.clock import now_ms

__all__ = ["Ingest", "publish"]

#: Between two looks at deadlines, as connections have it, in seconds.
TICK_S = 0.25


def publish(services: RtmpServices, publication: Publication) -> Deferred[Any]:
    """
    Begin a publish.

    :returns: fires with an ``IPublishing``; fails with ``NameTakenError``, if another connection or server publishes
        the stream, or ``LimitReachedError``, if it may not be published now.
    """
    return Deferred.fromCoroutine(_publish(services, publication))


async def _publish(services: RtmpServices, publication: Publication) -> Ingest:
    name = publication.name
    if name.app not in services.apps:
        raise LimitReachedError(f"there is no application {name.app!r} here")
    try:
        own = services.own
        await (services.leases.claim(name) if own is None else own(name, publication.credential, publication.peer))
    except LeaseHeldError as error:
        raise NameTakenError("another server publishes this stream") from error
    except DirectoryError as error:
        raise LimitReachedError(f"it cannot be seen which server has this stream: {error}") from error
    try:
        return Ingest(services, publication)
    finally:
        services.leases.release(name)  # the stream, if there is one, holds them as well


@implementer(IPublishing)
class Ingest:
    """
    One publish; also the connection and the session, as far as its publisher knows them.

    :ivar peer: see :class:`~rapidrtmp.interfaces.Publication`.
    :ivar heard_ms: when something came last, by the server's clock.
    :ivar is_paused: whether it is held back.
    :ivar bytes_received: of bodies, in all.
    :ivar state: ``PLAYING``: there is no publish of a client's to be ended.
    """

    _log = Logger()
    state = State.PLAYING

    def __init__(self, services: RtmpServices, publication: Publication) -> None:
        self.peer = publication.peer
        self.heard_ms = now_ms(services.clock)
        self.is_paused = False
        self.bytes_received = 0
        self.role: Any = None
        self._services = services
        self._publication = publication
        self._is_over = False
        verdict = Verdict(True, credential=publication.credential)
        connection: Any = self
        self._publisher = Publisher(connection, services, publication.name, verdict, 0, "", publication.via)
        services.record(
            EventType.PUBLISH,
            publication.name,
            self.peer,
            {"session": self._publisher.session_id, "client": publication.client},
        )
        services.metrics.publishes_total.labels("accepted").inc()
        self._log.info(
            "{stream} published by {peer} ({client})",
            stream=publication.name,
            peer=self.peer,
            client=publication.client,
        )
        self._watch = LoopingCall(self._look)
        self._watch.clock = services.clock
        self._watch.start(TICK_S, now=False)

    # ── what its source says ─────────────────────────────────────────────────────────────────────────────────────────

    def video(self, timestamp: int, body: bytes) -> None:
        """See :meth:`IPublishing.video <rapidrtmp.interfaces.IPublishing.video>`."""
        self._take(VideoReceived(0, timestamp, body), len(body))

    def audio(self, timestamp: int, body: bytes) -> None:
        """See :meth:`IPublishing.audio <rapidrtmp.interfaces.IPublishing.audio>`."""
        self._take(AudioReceived(0, timestamp, body), len(body))

    def metadata(self, values: Mapping[str, object]) -> None:
        """See :meth:`IPublishing.metadata <rapidrtmp.interfaces.IPublishing.metadata>`."""
        described: Any = dict(values)
        self._take(MetadataReceived(0, described), 0)

    def _take(self, event: Event, size: int) -> None:
        if not self._is_over:
            self.heard_ms = now_ms(self._services.clock)
            self.bytes_received += size
            self._publisher.react(event, self.heard_ms)

    def end(self, *, is_final: bool = False) -> None:
        """See :meth:`IPublishing.end <rapidrtmp.interfaces.IPublishing.end>`."""
        if self._is_over:
            return
        self._stop()
        self._publisher.leave()
        if is_final:
            self._services.registry.end(self._publisher.stream, "it is not wanted any more")

    def _stop(self) -> None:
        self._is_over = True
        if self._watch.running:
            self._watch.stop()

    def _look(self) -> None:
        self._publisher.watch(now_ms(self._services.clock))

    # ── as the connection and the session ────────────────────────────────────────────────────────────────────────────

    @property
    def session(self) -> Ingest:
        """The session."""
        return self

    def advise(self, _advice: str) -> None:
        """There is no encoder to be advised; the API and the log have it."""

    def request_reconnect(self, _description: str) -> bool:
        """It cannot be asked to come again."""
        return False

    def flush(self) -> None:
        """There is nothing to be sent."""

    def set_low_water_mark(self, _size: int) -> None:
        """There is no socket of ours."""

    def pause_reading(self) -> None:
        """Have the source send nothing."""
        self.is_paused = True
        self._publication.hold(True)

    def resume_reading(self) -> None:
        """Have it send again."""
        self.is_paused = False
        if not self._is_over:
            self._publication.hold(False)

    def close(self) -> None:
        """End it: the publisher has been disconnected by the server."""
        if not self._is_over:
            self._stop()
            self._publication.ended(self._publisher.ended_because)
