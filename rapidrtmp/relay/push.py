"""
A push relay: a sink that publishes what it gets on another server.

How it thinks: as long as the stream is there, there is an attempt under way, a connection, or a timer to the next
attempt. Frames go straight into the connection while that takes them; else they wait in a :class:`Backlog`, which keeps
whole GOPs and drops them before they are old. Whatever fails, fails here alone: the stream and its other sinks never
notice. While the publisher is interrupted the connection is kept, and silent.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from rapidrtmp.codec.flv_capabilities import read_flv_capabilities
from rapidrtmp.codec.flv_writing import DATA_TAG, VIDEO_TAG, FlvWriter, describe_tracks
from rapidrtmp.codec.table import AAC, AVC, CODECS
from rapidrtmp.interfaces import ISink, SinkContext
from rapidrtmp.interfaces.relays import PushTarget
from rapidrtmp.media import Frame, MediaKind, Track
from rapidrtmp.names import StreamName
from rapidrtmp.relay.backlog import Backlog
from rapidrtmp.relay.failure import FailureKind, Patience, RelayFailure
from rapidrtmp.relay.outgoing import Attempt, Intent, Outgoing
from rapidrtmp.relay.report import RelayState, RelayStatus
from rapidrtmp.rtmp.amf import Value
from rapidrtmp.rtmp.events import Event
from rapidrtmp.rtmp.remote import Address, BadAddressError, parse_address, redirected
from rapidrtmp.rtmp.via import VIA, write_via
from rapidrtmp.support.clock import now_ms

__all__ = ["KeyClaims", "PushParts", "PushSink", "address_of"]

#: A way that was too slow for so long is given up, and tried anew, in milliseconds.
SLOW_MS = 15_000
#: Audio waits for the next picture, so long at most, in milliseconds: one write carries both.
FLUSH_MS = 100
#: Audio is no further behind pictures than this, in milliseconds.
INTERLEAVED_MS = 1_000
#: Platforms want keyframes at least so often, in seconds.
LONGEST_KEYFRAME_INTERVAL_S = 4
#: Another stream uses the key: it is looked at again in so many seconds.
KEY_TAKEN_DELAY_S = 10.0
#: What every receiver takes without a word.
_USUAL = frozenset({AVC.fourcc, AAC.fourcc})
_CAN_ENCODE = 2
_VIDEO = MediaKind.VIDEO
_CAN_RECONNECT = 1


def address_of(target: PushTarget, stream: StreamName, turn: int = 0) -> Address:
    """
    Where a stream is pushed to.

    :param turn: counts attempts: the URLs of the target take turns.
    :raises BadAddressError: the target leads nowhere, or its key cannot be read.
    """
    key = target.key
    if target.key_file:
        try:
            key = Path(target.key_file).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise BadAddressError(f"its key file {target.key_file} cannot be read") from error
    elif target.key_env:
        key = os.environ.get(target.key_env, "")
    if (target.key_file or target.key_env) and not key:
        raise BadAddressError(f"there is no key in {target.key_file or target.key_env}")
    urls = (target.url, *target.others)
    return parse_address(urls[turn % len(urls)], key, stream.key)


class KeyClaims:
    """Which streams use which keys of other servers: one that two would use is used by the first."""

    def __init__(self) -> None:
        self._users: dict[Address, tuple[StreamName, object]] = {}

    def claim(self, address: Address, stream: StreamName, user: object) -> StreamName | None:
        """Claim an address for a stream's relay; the stream that uses it, if another does."""
        claimed_by, other = self._users.setdefault(address, (stream, user))
        return None if other is user else claimed_by

    def release(self, address: Address, user: object) -> None:
        """Let go of it."""
        if self._users.get(address, (None, None))[1] is user:
            del self._users[address]


@dataclass(frozen=True)
class PushParts:
    """
    What all push relays share.

    :ivar server_id: what this server is known by to others.
    :ivar claims: which keys are in use.
    :ivar via: tells which servers a stream came through.
    """

    outgoing: Outgoing
    claims: KeyClaims
    server_id: str
    via: Callable[[StreamName], Sequence[str]] = lambda _stream: ()
    random: Callable[[], float] = random.random


@implementer(ISink)
class PushSink:
    """
    Pushes one stream, from its beginning to its end, to one target.

    :param status: how the relay does; it outlives the sink.
    :param ended: called when the sink has ended.
    """

    def __init__(
        self,
        target: PushTarget,
        status: RelayStatus,
        context: SinkContext,
        parts: PushParts,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._ended = ended
        self._target = target
        self._status = status
        self._context = context
        self._parts = parts
        self._clock = context.clock
        self._patience = Patience(parts.random)
        self._backlog = Backlog()
        self._tracks: tuple[Track, ...] = ()
        self._address: Address | None = None
        self._redirect = ""
        self._turn = 0  # which of its URLs
        self._attempt: Attempt | None = None
        self._timer: IDelayedCall | None = None
        self._is_over = False
        self._rest()

    def _rest(self) -> None:
        """Be without a connection."""
        self._writer: FlvWriter | None = None  # when there is a connection that takes media
        self._base_ms = -1  # the stream's time at which the connection's begins
        self._is_beginning = True  # whether audio may come that belongs to what was before
        self._is_full = False
        self._accepted_ms = 0
        self._flushed_ms = 0
        self._behind_ms: int | None = None  # since when frames wait, by the clock
        self._offered = self._sent = 0  # bytes since then
        self._dropped = self._backlog.dropped

    # ── as a sink ────────────────────────────────────────────────────────────────────────────────────────────────────

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """See :meth:`ISink.tracks_changed <rapidrtmp.interfaces.ISink.tracks_changed>`."""
        self._tracks = tracks
        self._backlog.tracks_changed(tracks)
        if self._writer is not None and not self._backlog:
            self._change_tracks(tracks)
        if self._attempt is None and self._timer is None:
            self._connect()

    def frame_received(self, frame: Frame) -> None:
        """See :meth:`ISink.frame_received <rapidrtmp.interfaces.ISink.frame_received>`."""
        if self._writer is None:
            self._backlog.hold(frame)
        elif self._is_full or self._backlog:
            self._wait(frame)
        else:
            self._send(frame)

    def discontinuity(self) -> None:
        """See :meth:`ISink.discontinuity <rapidrtmp.interfaces.ISink.discontinuity>`: times rise all the same."""

    def interrupted(self) -> None:
        """See :meth:`ISink.interrupted <rapidrtmp.interfaces.ISink.interrupted>`: the other server waits as we do."""
        self._flush()

    def finish(self) -> None:
        """See :meth:`ISink.finish <rapidrtmp.interfaces.ISink.finish>`: the other server hears of the end."""
        self._is_over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._advise("")
        self._disconnect()
        self._status.become(RelayState.WAITING)
        self._ended()

    # ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _connect(self) -> None:
        self._timer = None
        try:
            address = address_of(self._target, self._context.stream, self._turn)
            if self._redirect:
                address = redirected(address, self._redirect)
        except BadAddressError as error:
            self._status.become(RelayState.FAILED, str(error))
            self._later(KEY_TAKEN_DELAY_S)
            return
        user = self._parts.claims.claim(address, self._context.stream, self)
        if user is not None:
            self._status.become(RelayState.FAILED, f"its key is used by {user} already: a key carries one stream")
            self._later(KEY_TAKEN_DELAY_S)
            return
        if self._status.state is RelayState.FAILED:
            self._status.become(RelayState.CONNECTING)
        self._status.connecting()
        self._status.target = address.shown
        self._address = address
        attempt = Attempt(
            self._parts.outgoing,
            self,
            address,
            Intent.PUBLISH,
            ca=self._target.ca,
            properties=self._properties(),
        )
        self._attempt = attempt
        attempt.start()

    def _properties(self) -> Mapping[str, Value]:
        """What connect says of us."""
        via = write_via((*self._parts.via(self._context.stream), self._parts.server_id))
        said: dict[str, Value] = {VIA: via, "capsEx": _CAN_RECONNECT}
        codecs = dict.fromkeys(track.codec for track in self._tracks)
        if _USUAL.issuperset(codecs):
            return said
        kinds = {track.codec: track.kind for track in self._tracks}
        maps: dict[str, Value] = {
            f"{kind.value}FourCcInfoMap": {codec: _CAN_ENCODE for codec in codecs if kinds[codec] is kind}
            for kind in MediaKind
        }
        return {**said, "fourCcList": list(codecs), **maps}

    def _later(self, delay_s: float) -> None:
        if not self._is_over:
            self._timer = self._clock.callLater(delay_s, self._connect)

    def _disconnect(self) -> None:
        attempt, self._attempt = self._attempt, None
        self._flush(attempt)
        if self._address is not None:
            self._parts.claims.release(self._address, self)
            self._address = None
        self._rest()
        if attempt is not None:
            attempt.stop()

    # ── as the owner of the connection ───────────────────────────────────────────────────────────────────────────────

    def accepted(self, attempt: Attempt) -> None:
        """The other server takes what we send."""
        writer = FlvWriter(read_flv_capabilities(attempt.properties))
        writer.tracks_changed(self._tracks)
        missing = _missing(writer, self._tracks)
        if missing:
            attempt.fail(RelayFailure(FailureKind.REFUSED, missing))
            return
        self._writer = writer
        self._accepted_ms = now_ms(self._clock)
        self._status.become(RelayState.RUNNING)
        self._drain()

    def event_received(self, event: Event) -> None:
        """It says something that changes nothing."""

    def backlogged(self, *, is_full: bool) -> None:
        """The connection takes no more, or again."""
        self._is_full = is_full
        if not is_full:
            self._drain()

    def failed(self, failure: RelayFailure) -> None:
        """The connection could not be made, or is gone."""
        worked_s = (now_ms(self._clock) - self._accepted_ms) / 1000 if self._writer is not None else 0.0
        self._attempt = None
        self._redirect = failure.redirect
        self._disconnect()
        self._status.failed(failure)
        if failure.kind is not FailureKind.MOVED:
            self._turn += 1
        is_round_over = self._turn % (1 + len(self._target.others)) == 0
        self._later(self._patience.delay_s(failure.kind, worked_s) if is_round_over else 0.0)

    # ── media ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _change_tracks(self, tracks: tuple[Track, ...]) -> None:
        assert self._writer is not None and self._attempt is not None
        self._writer.tracks_changed(tracks)
        missing = _missing(self._writer, tracks)
        if missing:
            self._attempt.fail(RelayFailure(FailureKind.REFUSED, missing))

    def _wait(self, frame: Frame) -> None:
        """Queue a frame behind others, and see how long that has been so."""
        time_ms = now_ms(self._clock)
        if self._behind_ms is None:
            self._behind_ms, self._offered, self._sent = time_ms, 0, 0
        self._offered += len(frame.data)
        self._backlog.queue(frame)
        dropped = self._backlog.dropped - self._dropped
        if dropped:
            self._dropped = self._backlog.dropped
            self._status.dropped(dropped)
            self._advise(
                f"The relay to {self._status.target} is slower than the stream, and leaves out pictures: lower the bit "
                "rate, or give it a better line."
            )
        if time_ms - self._behind_ms >= SLOW_MS and self._attempt is not None:
            span_ms = time_ms - self._behind_ms
            reason = (
                f"the way is too slow: {self._sent * 8 // span_ms} of {self._offered * 8 // span_ms} kbit/s went out"
            )
            self._attempt.fail(RelayFailure(FailureKind.NETWORK, reason))

    def _drain(self) -> None:
        """Send what waits, as long as the connection takes it."""
        while self._backlog and not self._is_full and self._writer is not None:
            entry = self._backlog.pop()
            if isinstance(entry, Frame):
                self._send(entry)
            else:
                self._change_tracks(entry)
        if not self._backlog and not self._is_full:
            self._behind_ms = None
        self._flush()

    def _send(self, frame: Frame) -> None:
        writer, attempt = self._writer, self._attempt
        assert writer is not None and attempt is not None
        if self._is_beginning and not self._begins_with(writer, frame):
            return
        base_ms = time_ms = self._base_ms
        session = attempt.session
        for type_id, time_ms, head, data in writer.write(frame):
            if type_id == VIDEO_TAG:
                session.send_video(time_ms - base_ms, head + data)
            elif type_id == DATA_TAG:
                session.send_metadata(self._metadata(writer))
            else:
                session.send_audio(time_ms - base_ms, head + data)
        size = len(frame.data)
        self._sent += size
        self._status.carried(size)
        if frame.track.kind is _VIDEO or time_ms - self._flushed_ms >= FLUSH_MS:
            self._flushed_ms = time_ms
            attempt.flush()
            if frame.keyframe and self._behind_ms is None:
                self._check_keyframes(frame)

    def _begins_with(self, writer: FlvWriter, frame: Frame) -> bool:
        """Whether a frame belongs to the beginning: a keyframe, and no audio of pictures before that."""
        time_ms = writer.timestamp_of(frame)
        if self._base_ms < 0:
            if not self._backlog.starts_with(frame):
                return False
            self._base_ms = time_ms
        self._is_beginning = time_ms < self._base_ms + INTERLEAVED_MS
        return time_ms >= self._base_ms

    def _metadata(self, writer: FlvWriter) -> Mapping[str, Value]:
        via = write_via((*self._parts.via(self._context.stream), self._parts.server_id))
        return {**describe_tracks(writer.tracks), VIA: via}

    def _flush(self, attempt: Attempt | None = None) -> None:
        attempt = attempt or self._attempt
        if attempt is not None and self._writer is not None:
            attempt.flush()

    def _check_keyframes(self, frame: Frame) -> None:
        interval_s = frame.rhythm.keyframe_interval / frame.track.timescale
        if interval_s > LONGEST_KEYFRAME_INTERVAL_S:
            self._advise(
                f"Keyframes come every {interval_s:.0f} s: {self._status.target} may want one every 2 s; set the "
                "keyframe interval of the encoder."
            )
        else:
            self._advise("")

    def _advise(self, advice: str) -> None:
        self._context.advise(f"relay {self._status.id}", advice)


def _missing(writer: FlvWriter, tracks: Sequence[Track]) -> str:
    """What the other server does not take that cannot be left out: the first track of each kind."""
    firsts = {kind: next((track for track in tracks if track.kind is kind), None) for kind in MediaKind}
    left_out = [track for track in firsts.values() if track is not None and track in writer.left_out]
    names = " and ".join(CODECS[track.codec].name for track in left_out)
    return f"it takes no {names}" if names else ""
