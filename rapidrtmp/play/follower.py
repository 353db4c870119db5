"""
A player's place in a rendering, and what its socket has taken of that.

There is no queue of its own: what the socket does not take waits in the ring, from where it is sent when the transport
says that it has sent what it holds, which is less than one batch. A player that falls out of the ring, or too far
behind, skips to the newest keyframe, at the beginning of a message, and gets whole GOPs again.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer, IReactorTime
from zope.interface import implementer

from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.play.rendering import Ending, Rendering
from rapidrtmp.play.ring import NO_START
from rapidrtmp.support.clock import now_ms
from rapidrtmp.support.twisted_transport import bare_socket, offer_all, offer_one

__all__ = ["SEND_BUFFER_BYTES", "PullFollower", "SocketFollower"]

#: What the kernel holds of a player's bytes (it doubles this): more would be old before it is sent.
SEND_BUFFER_BYTES = 256 << 10
#: So many batches are offered to a socket at one time.
_MOST_BATCHES = 256
_WAITING = -1


class _Following:
    """
    A place in a rendering.

    :param ended: called when nothing more is sent.
    :ivar skips: how often it fell too far behind. ``sent_bytes``: what was handed over in all.
    """

    def __init__(self, clock: IReactorTime, policy: PlayPolicy, ended: Callable[[Ending], object]) -> None:
        self.skips = 0
        self.sent_bytes = 0
        self._clock = clock
        self._policy = policy
        self._ended = ended
        self._rendering: Rendering | None = None
        self._position = _WAITING
        self._start = NO_START  # where it began
        self._not_before = NO_START  # the number of the batch that it may begin with, or a later one
        self._is_first = True
        self._opening = b""
        self._is_over = False
        self._skipped_ms: deque[int] = deque()

    def follow(self, rendering: Rendering) -> None:
        """Follow a rendering from its newest keyframe on, or from that which the policy says."""
        self._rendering = rendering
        self._position = _WAITING
        self._opening = b""
        self._not_before = rendering.ring.next if self._policy.gops == 0 else NO_START
        rendering.join(self)

    def stop(self) -> None:
        """Be sent nothing more for now."""
        self._rendering = None

    def advance(self) -> None:
        """See :class:`~rapidrtmp.play.rendering.Follower`; likewise the other methods."""
        raise NotImplementedError

    def advance_by(self, number: int, data: bytes) -> None:
        """Take the newest batch."""
        del number, data
        self.advance()

    def end(self, ending: Ending) -> None:
        """Take no more."""
        if not self._is_over:
            self._rendering = None
            self._ended(ending)

    def _due(self, rendering: Rendering) -> list[bytes]:
        """What is to be sent next, in order; empty if it has all that there is."""
        if not self._find_place(rendering):
            return []
        start = self._start
        batches = rendering.ring.since(self._position, _MOST_BATCHES)
        pieces = [b"" if batch.late_for == start != NO_START else batch.data for batch in batches]
        if self._opening:
            pieces.insert(0, self._opening)
        return pieces

    def _passed(self) -> None:
        """Go one piece further."""
        if self._opening:
            self._opening = b""
        else:
            self._position += 1

    def _find_place(self, rendering: Rendering) -> bool:
        """See to it that what is at its place is still there and not too old; ``False`` if there is nothing to send."""
        ring = rendering.ring
        position = self._position
        if position == _WAITING:
            return self._begin(rendering)
        if self._opening or position == ring.next:
            return True
        newest = ring.timestamp_of(ring.next - 1)
        is_there = position >= ring.first
        if is_there and newest - ring.timestamp_of(position) <= self._policy.lag_ms:
            return True
        start = ring.newest_start
        if is_there and start is not None and start <= position:
            return True  # within the newest GOP, however long that is
        self._skip(rendering)
        return self._rendering is not None and self._begin(rendering)

    def _begin(self, rendering: Rendering) -> bool:
        ring = rendering.ring
        start = ring.oldest_start if self._is_first else ring.newest_start
        if start is None or start < self._not_before:
            return False
        self._position = self._start = start
        self._opening = rendering.opening(start, is_first=self._is_first)
        self._is_first = False
        return True

    def _skip(self, rendering: Rendering) -> None:
        """Fall back to the newest keyframe; too often, and it is the end."""
        self._position = _WAITING
        self.skips += 1
        time_ms = now_ms(self._clock)
        self._skipped_ms.append(time_ms)
        while time_ms - self._skipped_ms[0] > self._policy.skips_ms:
            self._skipped_ms.popleft()
        if len(self._skipped_ms) >= self._policy.most_skips:
            self.end(Ending(f"your connection cannot take {_rate(rendering)}", is_regular=False))


def _rate(rendering: Rendering) -> str:
    """The bit rate of what is sent, for a sentence."""
    bits = rendering.ring.bits_per_second
    rate = f"{bits / 1e6:.1f} Mbit/s" if bits >= 1_000_000 else f"{bits // 1000} kbit/s"
    return f"the {rate} of this stream"


@implementer(IPushProducer, IPullProducer)
class SocketFollower(_Following):
    """
    Follows a rendering on one transport, whose producer it is meanwhile.

    A bare socket is offered the batches themselves, which all players share; whatever else there is (TLS) is given
    copies, as long as it does not ask for a pause.

    :param transport: of the connection; nothing may be on its way from another producer.
    :param ended: called when nothing more is sent.
    """

    def __init__(
        self, transport: Any, clock: IReactorTime, policy: PlayPolicy, ended: Callable[[Ending], object]
    ) -> None:
        super().__init__(clock, policy, ended)
        self._transport = transport
        self._is_blocked = False
        self._blocked_ms = 0
        handle = bare_socket(transport)
        self._is_bare = handle is not None
        if handle is not None:
            with suppress(OSError):
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        transport.registerProducer(self, not self._is_bare)

    def close(self) -> None:
        """Be sent nothing more, and leave the transport to another producer."""
        self._rendering = None
        if not self._is_over:
            self._is_over = True
            self._transport.unregisterProducer()

    # ── the rendering (Follower) ─────────────────────────────────────────────────────────────────────────────────────

    def advance_by(self, number: int, data: bytes) -> None:
        """Take the newest batch; nearly always that is all that is due."""
        is_ready = number == self._position and not self._is_blocked and self._rendering is not None
        if not is_ready or not self._is_bare or self._opening:
            self.advance()
            return
        sent = offer_one(self._transport, data)
        self._position = number + 1
        self.sent_bytes += len(data)
        if sent != len(data):
            self._leave_to_transport(data, sent)

    def advance(self) -> None:
        """Send what is due, until the socket takes no more."""
        rendering = self._rendering
        while rendering is not None and rendering is self._rendering and not self._is_blocked:
            pieces = self._due(rendering)
            if not pieces:
                return
            self._hand_over(pieces)

    def _hand_over(self, pieces: list[bytes]) -> None:
        """Offer pieces in order; what is left of the one that was not taken whole is the transport's."""
        left = offer_all(self._transport, pieces) if self._is_bare else 0
        for piece in pieces:
            self._passed()
            size = len(piece)
            self.sent_bytes += size
            if left < size:
                self._leave_to_transport(piece, left)
                if self._is_blocked:
                    return
                left = 0
            else:
                left -= size

    def _leave_to_transport(self, piece: bytes, sent: int) -> None:
        """Have the transport send the rest of a piece; a bare socket is asked again when it has."""
        if self._is_bare:
            self._block()
        self._transport.write(piece[sent:] if sent else piece)

    def _block(self) -> None:
        if not self._is_blocked:
            self._is_blocked = True
            self._blocked_ms = now_ms(self._clock)

    # ── the transport (producers) ────────────────────────────────────────────────────────────────────────────────────

    def resumeProducing(self) -> None:
        """The transport has sent what it held."""
        self._is_blocked = False
        if self._rendering is not None:
            self.advance()

    def pauseProducing(self) -> None:
        """The transport holds enough."""
        self._block()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._rendering = None
        self._is_over = True

    def watch(self, time_ms: int) -> None:
        """End a player that takes nothing of what is due; to be called now and then."""
        if self._is_blocked and time_ms - self._blocked_ms > self._policy.stalled_ms and self._rendering is not None:
            seconds = self._policy.stalled_ms // 1000
            reason = f"your connection has taken nothing for {seconds} s of {_rate(self._rendering)}"
            self.end(Ending(reason, is_regular=False))

    @property
    def is_blocked(self) -> bool:
        """Whether it waits for the player to read."""
        return self._is_blocked


class PullFollower(_Following):
    """Follows a rendering for a consumer that asks for the next bytes when it has sent the last ones."""

    def __init__(self, clock: IReactorTime, policy: PlayPolicy) -> None:
        super().__init__(clock, policy, lambda _: None)
        self.ending: Ending | None = None
        self._waiting: Deferred[None] | None = None

    def end(self, ending: Ending) -> None:
        """Take what is there, and no more."""
        self.ending = self.ending or ending
        self.advance()

    def advance(self) -> None:
        """There is something to be sent, or nothing more."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def next(self) -> bytes:
        """The next bytes, when there are some; ``b""`` when nothing more follows."""
        while True:
            rendering = self._rendering
            pieces = self._due(rendering) if rendering is not None else []
            if pieces:
                for _ in pieces:
                    self._passed()
                data = b"".join(pieces)
                self.sent_bytes += len(data)
                if data:
                    return data
                continue
            if self.ending is not None:
                return b""
            self._waiting = Deferred()
            await self._waiting
