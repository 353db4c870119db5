"""
A pull relay: plays a stream from another server, and is a publisher of it to the rest of this one.

How it thinks: as long as it is wanted there is an attempt, a connection, or a timer to the next attempt. Its sources
are asked in turn, one after the other without a pause, and with a growing pause between the rounds. The name is claimed
with the first media that comes, so that what waits for the stream elsewhere is not let down by a server that has
nothing to play. While the source is gone the stream waits in its grace time, like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from rapidrtmp.codec.table import fourccs_carried
from rapidrtmp.errors import RapidRTMPError
from rapidrtmp.interfaces import Publication
from rapidrtmp.media import MediaKind
from rapidrtmp.names import StreamName
from rapidrtmp.relay.failure import FailureKind, Patience, RelayFailure
from rapidrtmp.relay.outgoing import Attempt, Intent
from rapidrtmp.relay.push import PushParts
from rapidrtmp.relay.report import RelayState, RelayStatus
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.events import AudioReceived, Event, MetadataReceived, VideoReceived
from rapidrtmp.rtmp.remote import MASK, Address, redirected
from rapidrtmp.rtmp.replies import enhanced_properties
from rapidrtmp.rtmp.session.client import PLAYER_PROPERTIES
from rapidrtmp.rtmp.via import VIA, read_via, write_via
from rapidrtmp.support.clock import now_ms

__all__ = ["PullRelay"]

#: How long a source may take to the first media, or be silent, in milliseconds.
SILENCE_MS = 10_000
WATCH_S = 0.5
#: The name has a publisher: it is asked for again in so many seconds.
TAKEN_DELAY_S = 10.0
#: Messages that wait while the name is being claimed; a server that starts takes up to five seconds for that.
MOST_HELD = 1024


class PullRelay:
    """
    Pulls one stream.

    :param sources: where it is, in order of preference.
    :param ca: a file of certificates to trust instead of the system's.
    :param publish: brings it in.
    :param began: called when it is published.
    :param gave_up: called with the failure when every source has failed in turn.
    :ivar status: how it does.
    :ivar is_publishing: whether it is.
    """

    def __init__(
        self,
        name: StreamName,
        sources: Sequence[Address],
        ca: str,
        status: RelayStatus,
        parts: PushParts,
        publish: Callable[[Publication], Deferred[Any]],
        *,
        began: Callable[[], None] = lambda: None,
        gave_up: Callable[[RelayFailure], None] = lambda _failure: None,
    ) -> None:
        self.status = status
        self._name = name
        self._sources = sources
        self._ca = ca
        self._parts = parts
        self._publish = publish
        self._began = began
        self._gave_up = gave_up
        self._clock = parts.outgoing.clock
        self._patience = Patience(parts.random)
        self._via: tuple[str, ...] = ()
        self._next = self._tried = 0
        self._moved_to: Address | None = None
        self._attempt: Attempt | None = None
        self._timer: IDelayedCall | None = None
        self._publishing: Any = None
        self._claim: Deferred[Any] | None = None
        self._held: list[Event] = []
        self._heard_ms = self._accepted_ms = 0
        self._is_held_back = False
        self._watch = LoopingCall(self._look)
        self._watch.clock = self._clock

    @property
    def is_publishing(self) -> bool:
        """Whether it is published."""
        return self._publishing is not None

    def describe(self) -> dict[str, Any]:
        """As the API shows it."""
        said = {"url": self.status.target, "key": MASK, "rendition": None, "ca": self._ca or None, "isConfigured": True}
        return {**self.status.describe(), **said}

    def start(self, via: tuple[str, ...] = ()) -> None:
        """
        Begin.

        :param via: the servers through which the player has come that wants it.
        """
        self._via = via
        if self._attempt is None and self._timer is None:
            self._connect()

    def stop(self, *, is_final: bool = False) -> None:
        """
        End.

        :param is_final: whether the stream ends with it; else it waits in its grace time.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._disconnect(is_final=is_final)
        self.status.become(RelayState.WAITING)

    # ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _connect(self) -> None:
        self._timer = None
        self.status.connecting()
        moved_to, self._moved_to = self._moved_to, None
        address = moved_to or self._sources[self._next % len(self._sources)]
        self.status.target = address.shown
        self._attempt = attempt = Attempt(
            self._parts.outgoing, self, address, Intent.PLAY, ca=self._ca, properties=self._properties()
        )
        attempt.start()

    def _properties(self) -> dict[str, Value]:
        codecs = enhanced_properties(fourccs_carried(MediaKind.VIDEO), fourccs_carried(MediaKind.AUDIO))
        return {**PLAYER_PROPERTIES, **codecs, VIA: write_via((*self._via, self._parts.server_id))}

    def _disconnect(self, *, is_final: bool = False) -> None:
        attempt, self._attempt = self._attempt, None
        if self._watch.running:
            self._watch.stop()
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.cancel()
        self._held.clear()
        self._is_held_back = False
        publishing, self._publishing = self._publishing, None
        if publishing is not None:
            publishing.end(is_final=is_final)
        if attempt is not None:
            attempt.stop()

    # ── as the owner of the connection ───────────────────────────────────────────────────────────────────────────────

    def accepted(self, attempt: Attempt) -> None:  # noqa: ARG002 - it is the one that was made
        """The other server lets us play; that need not mean that there is anything to be played."""
        self._heard_ms = self._accepted_ms = now_ms(self._clock)
        self._watch.start(WATCH_S, now=False)

    def event_received(self, event: Event) -> None:
        """Take what it sends."""
        kind = type(event)
        if kind is VideoReceived or kind is AudioReceived:
            self._heard_ms = now_ms(self._clock)
            payload: bytes = event.payload  # type: ignore[union-attr]
            self.status.carried(len(payload))
        elif kind is not MetadataReceived:
            return
        if self._publishing is not None:
            self._feed(event)
        elif len(self._held) < MOST_HELD:
            self._held.append(event)
            if kind is not MetadataReceived and self._claim is None:
                self._begin()

    def backlogged(self, *, is_full: bool) -> None:
        """What we say is little, and can wait."""

    def failed(self, failure: RelayFailure) -> None:
        """The connection could not be made, or is gone."""
        was_publishing = self._publishing is not None
        worked_s = (now_ms(self._clock) - self._accepted_ms) / 1000 if was_publishing else 0.0
        attempt, self._attempt = self._attempt, None
        self._disconnect()
        self.status.failed(failure)
        if failure.kind is FailureKind.MOVED and attempt is not None:
            try:
                self._moved_to = redirected(attempt.address, failure.redirect)
            except RapidRTMPError:
                self._moved_to = None
            self._later(0.0 if self._moved_to else self._patience.delay_s(FailureKind.NETWORK, worked_s))
            return
        self._next += 1
        self._tried = 1 if was_publishing else self._tried + 1
        if self._tried < len(self._sources):
            self._later(0.0)
            return
        self._tried = 0
        self._later(self._patience.delay_s(failure.kind, worked_s))
        self._gave_up(failure)

    def _later(self, delay_s: float) -> None:
        self._timer = self._clock.callLater(delay_s, self._connect)

    def _look(self) -> None:
        """See whether anything comes."""
        silent_ms = now_ms(self._clock) - self._heard_ms
        if silent_ms >= SILENCE_MS and not self._is_held_back and self._attempt is not None:
            self._attempt.fail(RelayFailure(FailureKind.NETWORK, f"no media for {SILENCE_MS // 1000} s"))

    # ── as a publisher ───────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        attempt = self._attempt
        assert attempt is not None
        via = read_via(attempt.properties)
        publication = Publication(
            self._name,
            attempt.peer,
            "pull",
            f"pull {self._name}",
            via,
            ended=self._ended,
            hold=self._hold,
        )
        self._claim = claim = self._publish(publication)
        claim.addCallbacks(self._published, self._unpublished)

    def _published(self, publishing: Any) -> None:
        self._claim = None
        self._publishing = publishing
        self._tried = 0
        self.status.become(RelayState.RUNNING)
        held, self._held = self._held, []
        for event in held:
            self._feed(event)
        self._began()

    def _unpublished(self, failure: Failure) -> None:
        if self._claim is None:
            return
        self._claim = None
        if failure.check(RapidRTMPError) is None:
            self._parts.outgoing.bugs.failure("internal error in a pull", failure)
        self._give_way(f"it cannot be published here: {failure.value}")

    def _feed(self, event: Event) -> None:
        publishing = self._publishing
        if publishing is None:
            return
        if type(event) is VideoReceived:
            publishing.video(event.timestamp, event.payload)
        elif type(event) is AudioReceived:
            publishing.audio(event.timestamp, event.payload)
        elif type(event) is MetadataReceived:
            publishing.metadata(event.values)

    def _ended(self, reason: str) -> None:
        """The server has ended the publish."""
        self._publishing = None
        self._give_way(reason or "it was ended here")

    def _give_way(self, reason: str) -> None:
        self._disconnect()
        self.status.become(RelayState.REFUSED, reason)
        if self._timer is None:
            self._later(TAKEN_DELAY_S)

    def _hold(self, is_held: bool) -> None:
        self._is_held_back = is_held
        if self._attempt is None:
            return
        if is_held:
            self._attempt.pause()
        else:
            self._heard_ms = now_ms(self._clock)
            self._attempt.resume()
