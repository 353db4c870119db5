"""
One rendering of a stream: its frames as the bytes that all players get who take the same.

How it thinks: messages are gathered into a batch, and a batch is closed in front of each keyframe of the track that
leads, and when it is sent. That is once for each picture, with the audio that has come meanwhile; for a crowd of
players some pictures at a time, as a system call costs more than what it carries. A closed batch goes into the ring,
and each player that has all before it is offered it at once; the others follow as their sockets take it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rapidrtmp.codec.flv_capabilities import FlvCapabilities
from rapidrtmp.codec.flv_writing import FlvMessage, FlvWriter, write_data
from rapidrtmp.media import Frame, MediaKind, TimedMetadata, Track
from rapidrtmp.play.formats import Format
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.play.ring import NO_START, Batch, Ring
from rapidrtmp.play.selection import Selection

__all__ = ["Ending", "Follower", "Rendering", "RenderingKey"]

#: Without video, players begin with audio that is up to this old, and are sent it so often, in milliseconds.
AUDIO_START_MS, AUDIO_BATCH_MS = 1_000, 40
#: A picture that is late ends the gathering for a crowd after so many times what is gathered.
GATHER_PATIENCE = 1.5
#: So many players begin in one turn of the reactor: each is sent a whole GOP.
JOINS_PER_TURN = 32


#: By which name players get what a sink says.
TEXT = "onTextData"


class RenderingKey(NamedTuple):
    """What makes two renderings of a stream the same."""

    format: Format
    capabilities: FlvCapabilities
    selection: Selection


class Ending(NamedTuple):
    """
    Why a player gets no more.

    :ivar reason: a sentence.
    :ivar is_regular: whether the stream has ended, or has become another that the player should ask for again; else the
        player is to blame.
    """

    reason: str
    is_regular: bool = True


class Follower(Protocol):
    """
    A player, as its rendering sees it.

    :ivar skips: how often it fell too far behind.
    """

    skips: int

    def advance(self) -> None:
        """Take what is due."""

    def advance_by(self, number: int, data: bytes) -> None:
        """Take the newest batch; as :meth:`advance`, where that is all that is due."""

    def end(self, ending: Ending) -> None:
        """Take no more."""


class Rendering:
    """
    See the module.

    :param crowd: whether there are so many players on the server that frames are gathered.
    :ivar ring: what has been rendered of late.
    """

    def __init__(
        self, key: RenderingKey, clock: IReactorTime, policy: PlayPolicy, is_crowded: Callable[[], bool]
    ) -> None:
        self.key = key
        past_ms = policy.past_ms if policy.gops is None and key.format.starts_late else 0
        self.ring = Ring(policy.lag_ms + 1_000, policy.ring_bytes, policy.gops or 1, past_ms)
        self._writer = FlvWriter(key.capabilities)
        self._format = key.format
        self._clock = clock
        self._policy = policy
        self._is_crowded = is_crowded
        self._leading_id = 0
        self._has_video = False
        self._messages: list[bytes] = []
        self._late: list[bytes] = []  # audio that belongs before the newest start
        self._start_ms = -AUDIO_START_MS  # the time of that
        self._timestamp = 0
        self._is_start = False
        self._picture_ms = self._newest_ms = 0
        self._gathered_from: int | None = None  # the time of the first picture that is not sent yet
        self._opening: tuple[int | None, bytes] = (None, b"")
        self._timer: IDelayedCall | None = None
        self._followers: dict[Follower, None] = {}
        self._joining: deque[Follower] = deque()
        self._join_timer: IDelayedCall | None = None

    # ── players ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def __len__(self) -> int:
        return len(self._followers) + len(self._joining)

    def join(self, follower: Follower) -> None:
        """Let a player begin, within some turns of the reactor."""
        self._joining.append(follower)
        if self._join_timer is None:
            self._join_timer = self._clock.callLater(0, self._admit_some)

    def _admit_some(self) -> None:
        self._join_timer = None
        for _ in range(min(len(self._joining), JOINS_PER_TURN)):
            follower = self._joining.popleft()
            self._followers[follower] = None
            follower.advance()
        if self._joining:
            self._join_timer = self._clock.callLater(0, self._admit_some)

    def leave(self, follower: Follower) -> None:
        """Let a player go."""
        self._followers.pop(follower, None)
        if follower in self._joining:
            self._joining.remove(follower)

    def opening(self, start: int, *, is_first: bool) -> bytes:
        """
        What a player has to have in front of the batch that it begins with.

        :param start: the number of that.
        :param is_first: whether it has had nothing yet.
        """
        if self._opening[0] != start:
            messages = map(self._format.message, self._writer.write_start(self.ring.timestamp_of(start)))
            self._opening = start, b"".join(messages)
        described = self._opening[1]
        if is_first:
            has_audio = any(track.kind is MediaKind.AUDIO for track in self._writer.tracks)
            described = self._format.header(has_video=self._has_video, has_audio=has_audio) + described
        return self._format.batch(described)

    # ── what the stream does ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Those that players get."""
        return self._writer.tracks

    def tracks_changed(self, tracks: tuple[Track, ...]) -> None:
        """The frames that follow are of these tracks, those that are left out among them."""
        before = {track.kind for track in self._writer.tracks}
        self._close()
        self._writer.tracks_changed(self.key.selection.pick(tracks))
        after = {track.kind for track in self._writer.tracks}
        self._has_video = MediaKind.VIDEO in after
        self._leading_id = self._writer.tracks[0].id if self._writer.tracks else 0
        self.ring.forget_start()
        self._start_ms = -AUDIO_START_MS
        if before and before != after and self._format.needs_flags:
            self.end(Ending("the stream has other tracks now; play it again"))

    def catch_up(self, frames: Iterable[Frame]) -> None:
        """Render what has come before; in as many batches, as each player may have one in its transport's memory."""
        for frame in frames:
            self.frame_received(frame)
            self._close()

    def frame_received(self, frame: Frame) -> None:
        """Render one frame."""
        messages = self._writer.write(frame)
        if not messages:
            return
        self._newest_ms = timestamp = messages[-1].timestamp
        if frame.track.id != self._leading_id:
            self._audio_comes()
            if timestamp < self._start_ms and frame.track.kind is MediaKind.AUDIO:
                self._late += map(self._format.message, messages)
                return
        elif self._has_video:
            if frame.keyframe:
                messages = self._start(messages, timestamp)
            self._picture_comes(timestamp)
        else:
            if timestamp - self._start_ms >= AUDIO_START_MS:
                messages = self._start(messages, timestamp)
            self._audio_comes()
        for message in messages:
            self._gather(self._format.message(message), timestamp)

    def metadata_received(self, metadata: TimedMetadata) -> None:
        """Render what is said of a moment: with the frames that are gathered, for there it came."""
        timestamp = max(self._picture_ms, self._timestamp)
        message = write_data(metadata.name or TEXT, metadata.values, timestamp) if metadata.values else None
        if message is not None and self._writer.tracks:
            self._gather(self._format.message(message), timestamp)
            self._audio_comes()

    def _start(self, messages: Sequence[FlvMessage], timestamp: int) -> Sequence[FlvMessage]:
        """
        Let players begin with a frame.

        :returns: the frame's own message; those in front of it describe the stream, which players that begin get
            in another way.
        """
        self._close()
        for message in messages[:-1]:
            self._gather(self._format.message(message), timestamp)
        self._close()
        self._is_start = True
        self._start_ms = timestamp
        return messages[-1:]

    def discontinuity(self) -> None:
        """What follows does not join on."""
        self._close()
        self.ring.forget_start()
        self._start_ms = -AUDIO_START_MS

    def _gather(self, message: bytes, timestamp: int) -> None:
        if not self._messages:
            self._timestamp = timestamp
        self._messages.append(message)

    def _close(self) -> None:
        """Close the batch that is being gathered, and put it into the ring."""
        if self._late:
            start = self.ring.newest_start
            late_for = NO_START if start is None or self._is_start else start  # what starts now stands behind it
            self.ring.add(Batch(self._format.batch(b"".join(self._late)), self._start_ms, False, late_for))
            self._late.clear()
        if self._messages:
            data = self._format.batch(b"".join(self._messages))
            self.ring.add(Batch(data, self._timestamp, self._is_start))
            self._messages.clear()
        self._is_start = False

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _picture_comes(self, timestamp: int) -> None:
        """
        Send what is gathered, when the stream has been served; for a crowd together with the pictures before it, as
        soon as the next one would be too much for that.
        """
        interval = timestamp - self._picture_ms
        self._picture_ms = timestamp
        if self._gathered_from is None:
            self._gathered_from = timestamp
        gathered_ms = timestamp - self._gathered_from
        if self._is_crowded() and 0 <= gathered_ms <= gathered_ms + interval <= self._policy.gather_ms:
            self._send_within(GATHER_PATIENCE * self._policy.gather_ms)
        elif self._timer is None:
            self._timer = self._clock.callLater(0, self._send)
        else:
            self._timer.reset(0)

    def _audio_comes(self) -> None:
        """Send what is gathered with the next picture, or without it if that takes long."""
        is_crowded = self._has_video and self._is_crowded()
        self._send_within(GATHER_PATIENCE * self._policy.gather_ms if is_crowded else AUDIO_BATCH_MS)

    def _send_within(self, delay_ms: float) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(delay_ms / 1000, self._send)

    def _send(self) -> None:
        """Offer all that is new to every player."""
        self._timer = self._gathered_from = None
        before = self.ring.next
        self._close()
        number = self.ring.next - 1
        if number < before:
            data = b""
        else:
            (newest,) = self.ring.since(number, 1)
            data = newest.data
            if newest.late_for != NO_START:
                number = NO_START  # it is not for all
        for follower in tuple(self._followers):
            follower.advance_by(number, data)

    def flush(self) -> None:
        """Send what is gathered now, as nothing more comes."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._send()

    def end(self, ending: Ending) -> None:
        """End all players."""
        if self._join_timer is not None and self._join_timer.active():
            self._join_timer.cancel()
        self._join_timer = None
        if ending.is_regular:
            for message in self._writer.write_end(self._newest_ms):
                self._gather(self._format.message(message), message.timestamp)
        self.flush()
        players, self._followers = (*self._followers, *self._joining), {}
        self._joining.clear()
        for follower in players:
            follower.end(ending)

    def stop(self) -> None:
        """Render no more."""
        for timer in (self._timer, self._join_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._join_timer = None
